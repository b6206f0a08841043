-- Makes a lease that is still live last longer, and with it the gateway's older ones, which hold the members that it has
-- not reported again yet. 1: done, 0: the lease has ended, -1: it is outdated.
-- ARGV[1] lease  ARGV[2] length in ms
local ends, length = leases[ARGV[1]], tonumber(ARGV[2])
if not ends or ends <= now then
  return 0
end
if serial_of(ARGV[1]) < born then
  return -1
end
for lease, other in pairs(leases) do
  if other > now and lease <= ARGV[1] and gateway_of(lease) == gateway_of(ARGV[1]) then
    keep(lease, now + length, length)
  end
end
return 1
