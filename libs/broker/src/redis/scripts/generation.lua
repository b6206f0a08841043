-- Which generation of this Redis it is: another one whenever what was acknowledged before may not be there any more.
--
-- KEYS: 1 the server
-- ARGV: 1 a generation that never was
-- Returns the generation.
--
-- A process has one run_id for its life: another one means a restart, which may have lost what was not on disk yet, or a
-- failover, which may have lost what had not been replicated. A primary that became a replica and a primary again in one
-- life has another replication ID, and what it followed as the second one. With no second one the ID changed for want of
-- replicas, or for the first of them: nothing was lost.
local info = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local run = string.match(info, 'run_id:(%x+)') or ''
local history = string.match(info, 'master_replid:(%x+)') or ''
local followed = string.match(info, 'master_replid2:(%x+)') or ''

local known = redis.call('HMGET', KEYS[1], 'run', 'history', 'generation')
local generation = known[3]
-- Some platforms hide the run_id behind zeros: then nothing but the history counts.
local is_first = string.match(run, '[^0]') and not string.match(followed, '[^0]')
if generation and known[1] == run and (known[2] == history or is_first) then
  if known[2] ~= history then
    redis.call('HSET', KEYS[1], 'history', history)
  end
  return generation
end
redis.call('HSET', KEYS[1], 'run', run, 'history', history, 'generation', ARGV[1])
return ARGV[1]
