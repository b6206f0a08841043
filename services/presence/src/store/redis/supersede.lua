-- Ends the older leases of a lease's gateway.
-- ARGV[1] lease
for lease, ends in pairs(leases) do
  if ends > 0 and lease < ARGV[1] and gateway_of(lease) == gateway_of(ARGV[1]) then
    keep(lease, 0, lengths[lease])
  end
end
