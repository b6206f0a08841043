-- Notes the generations of Redis.
--
-- Another generation of any of its processes, after a restart or a failover, may have lost what was written last: members
-- that came are missing, and members that left are there again. Then the hash is born again, and every lease from before is
-- outdated: its gateway attaches again and reports everyone, and what it did not report is swept with the lease.
--
-- KEYS[1]: `generations` -> those that were met, newest first  ARGV: those that are there now
--
-- `RUN-HISTORY` becomes `RUN` when a process forgets whom it followed: nothing is lost by that.
local met, news = {}, {}
for generation in string.gmatch(generations, '%S+') do
  met[generation] = true
  met[string.match(generation, '^[^-]*')] = true
end
for i = 1, #ARGV do
  if not met[ARGV[i]] then
    news[#news + 1] = ARGV[i]
  end
end
if #news > 0 then
  -- The first ones tell nothing.
  if generations ~= '' then
    born = math.max(micros, born + 1)
    for lease in pairs(leases) do
      born = math.max(born, serial_of(lease) + 1)
    end
    redis.call('HSET', KEYS[1], 'born', whole(born))
  end
  for generation in string.gmatch(generations, '%S+') do
    if #news < math.max(16, 2 * #ARGV) then
      news[#news + 1] = generation
    end
  end
  redis.call('HSET', KEYS[1], 'generations', table.concat(news, ' '))
end
