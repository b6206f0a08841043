-- The leases that have ended; the length of the shortest that is live, or 0; and when the hash was born, where it is time to
-- look for what no lease finds, or 0: every gateway has had time to report its members, no older lease is left, and nobody
-- has looked since.
-- ARGV[1] as of live.lua
local ended, shortest, longest, outdated = {}, 0, tonumber(ARGV[1]), false
for lease, ends in pairs(leases) do
  if ends <= now then
    ended[#ended + 1] = lease
  elseif shortest == 0 or lengths[lease] < shortest then
    shortest = lengths[lease]
  end
  longest = math.max(longest, lengths[lease])
  outdated = outdated or serial_of(lease) < born
end
table.sort(ended)
local due = not outdated and scrubbed ~= born and now - born / 1000 >= longest
return {ended, shortest, due and born or 0}
