-- Ends the older leases of a lease's gateway.
-- KEYS[1] leases  ARGV[1] lease
local mine = string.match(ARGV[1], '^.*/')
for _, lease in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(lease, 1, #mine) == mine and lease < ARGV[1] then
    redis.call('ZADD', KEYS[1], 0, lease)
  end
end
