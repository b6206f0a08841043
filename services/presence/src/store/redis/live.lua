-- The leases that are live, and whether this Redis has known them for longer than the longest takes: 1, or 0.
local live, longest = {}, 0
for lease, ends in pairs(leases) do
  if ends > now then
    live[#live + 1] = lease
  end
  longest = math.max(longest, lengths[lease])
end
table.sort(live)
return {live, now - born / 1000 >= longest and 1 or 0}
