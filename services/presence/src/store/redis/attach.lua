-- A new lease for a gateway. Its serial is the time in microseconds, and in any case more than that of every lease there
-- is, so that it grows even when a failover sets the clock back, and names the lease without its gateway. The gateway's older
-- leases, as far as they live, last as long: nobody vanishes while it reports its members again.
-- ARGV[1] gateway  ARGV[2] length in ms  ->  serial, and when the hash was born
local serial, length = math.max(micros, born), tonumber(ARGV[2])
for lease, ends in pairs(leases) do
  serial = math.max(serial, serial_of(lease) + 1)
  if ends > now and gateway_of(lease) == ARGV[1] .. '/' then
    keep(lease, math.max(ends, now + length), lengths[lease])
  end
end
keep(ARGV[1] .. '/' .. string.format('%016.0f', serial), now + length, length)
return {serial, born}
