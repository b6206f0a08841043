-- Ends a lease again that is over, whether it is still known or not. 0 while it lives.
-- ARGV[1] lease
local ends = leases[ARGV[1]]
if ends and ends > now then
  return 0
end
keep(ARGV[1], 0, 0)
return 1
