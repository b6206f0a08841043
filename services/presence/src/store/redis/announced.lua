-- Whom the listeners of one channel know of, if they are not too many: what tells them is in the same slot.
-- KEYS: 1 the members, 2 leaving, 3 quiet  ARGV: 1 how many there may be
-- Returns whether there are more, the members, who is leaving, and who was not announced.
local most = tonumber(ARGV[1])
if redis.call('HLEN', KEYS[1]) > most or redis.call('HLEN', KEYS[2]) > most then
  return {1, {}, {}, {}}
end
return {0, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('SMEMBERS', KEYS[3])}
