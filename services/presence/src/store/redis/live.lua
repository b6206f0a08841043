-- The leases that are live, and whether this Redis has known them for longer than the longest takes: 1, or 0.
-- ARGV[1] the longest lease that the caller knows of, in ms: a Redis that has lost all knows none
local live, longest = {}, tonumber(ARGV[1])
for lease, ends in pairs(leases) do
  if ends > now then
    live[#live + 1] = lease
  end
  longest = math.max(longest, lengths[lease])
end
table.sort(live)
return {live, now - born / 1000 >= longest and 1 or 0}
