-- The leases that are live, or have ended, the length of the shortest that is live, or 0, and whether this Redis has known
-- them for longer than the longest takes: 1, or 0.
-- ARGV[1] 'live' or 'ended'
local found, shortest, longest = {}, 0, 0
for lease, ends in pairs(leases) do
  local live = ends > now
  if live == (ARGV[1] == 'live') then
    found[#found + 1] = lease
  end
  if live and (shortest == 0 or lengths[lease] < shortest) then
    shortest = lengths[lease]
  end
  longest = math.max(longest, lengths[lease])
end
table.sort(found)
return {found, shortest, now - born / 1000 >= longest and 1 or 0}
