-- Notes that there may be leaves to announce in some channels, so many milliseconds from now.
-- KEYS: 1 by channel and client, when to look, in Unix ms  ARGV: 1 ms, 2.. `CHANNEL CLIENT`
local time = redis.call('TIME')
local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], at, ARGV[i])
end
