-- Forgets a stream. That it was there is remembered: what was given in it is no evidence of a loss.
--
-- KEYS: as of the script that reads
-- ARGV: 1 the stream, 2 an epoch that never was, 3 how long the top is remembered, in milliseconds
local top, stream = KEYS[1], ARGV[1]
redis.call('DEL', stream)
local known = redis.call('HMGET', top, 'epoch', 'epochs', 'generation', 'offset')
if known[1] then
  redis.call('DEL', top)
  redis.call('HSET', top, 'offset', '0', 'epoch', ARGV[2], 'until', '0', 'generation', known[3] or '',
    'epochs', leave(known[2] or '', known[1], tonumber(known[4]) or 0), 'changed', string.format('%d', clock()))
  redis.call('PEXPIRE', top, ARGV[3])
end
return 0
