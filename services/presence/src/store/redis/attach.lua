-- A new lease for a gateway. Its serial is the time in microseconds, and in any case more than that of every lease there
-- is, so that it grows even when a failover sets the clock back, and names the lease without its gateway.
-- KEYS[1] leases  ARGV[1] gateway  ARGV[2] length in ms  ->  serial
local time = redis.call('TIME')
local serial = time[1] * 1000000 + time[2]
for _, lease in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  serial = math.max(serial, tonumber(string.match(lease, '[^/]*$')) + 1)
end
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1] .. '/' .. string.format('%016.0f', serial))
return serial
