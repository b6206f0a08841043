-- The channels to look at by now, some of them, and what now is.
-- KEYS: 1 by channel and client, when to look, in Unix ms  ARGV: 1 how many
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return {redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1]), now}
