-- Ends a lease again that is over, whether it is still known or not.
-- ARGV[1] lease  ->  0: it lives, 1: it was over and still to be swept, 2: it had been swept
local ends = leases[ARGV[1]]
if ends and ends > now then
  return 0
end
keep(ARGV[1], 0, 0)
return ends and 1 or 2
