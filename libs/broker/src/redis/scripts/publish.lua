-- Publications of one caller to one channel with a stream, in their order: each once, into the stream, and to the subscribers.
--
-- KEYS: 1 the top; and where a slot of a Cluster is not just on its way here, the others, so that they are known to be here.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 the Redis channel, 3 the stream, 4 how long the top outlives its entries, 5 an epoch that
--       never was, 6 the generation of this Redis, 7 evidence: "offset:epoch:age,…" of what was given in the stream; then 7 for each
--       publication: its envelope, the most entries, how old they may be, the key of its answer ('': none) and how long that
--       is kept, a version of 20 digits and its series ('': none). Times are in milliseconds.
-- `common.lua` stands before it, which names these.
-- Returns for each publication: 0 published, 1 it or something as new was published before, or 2
-- Redis does not allow the channel: it is kept and has not reached the subscribers; and the answer: "offset:epoch", or what Redis
-- said.
-- More than one channel gets between two looks at Redis, or between two snapshots of it: 2^36 is two days of all that a
-- Redis can do. By chance up to as much again: a Redis that goes back to one snapshot twice must not leap to where it was
-- before, where other publications have been.
local function leap()
  return 68719476736 + tonumber(string.sub(redis.sha1hex(new_epoch), 1, 9), 16)
end

local now = clock()

-- The stream as it is; `loaded` once it was looked at.
local loaded, offset, epoch, kept_until, expires, generations, jumps, epochs, born, version, series
-- The offset that the next publication follows, where some are left out.
local jump
-- Whether the epoch is another one than before.
local changed
-- Where the stream is without what was only decided for a publication that then was none.
local kept_offset, kept_epoch

-- The stream has lost something, or comes to its end. What is there stays, under another epoch.
local function change_epoch()
  if epoch then
    epochs = leave(epochs, epoch, offset)
  end
  epoch, expires, changed = new_epoch, 0, true
end

-- The generation of a process changes without any loss when it forgets whom it followed long ago.
local function is_same_process()
  local newest = string.match(generations, '^[^,]*')
  return generation == string.match(newest, '^[^-]*')
end

local function load()
  local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'expires', 'generation', 'seams', 'epochs',
    'provisional', 'version', 'row')
  loaded = true
  offset, epoch, kept_until, expires = tonumber(known[1]) or 0, known[2], tonumber(known[3]) or 0, tonumber(known[4]) or 0
  generations, jumps, epochs, born = known[5] or '', known[6] or '', known[7] or '', known[8] or ''
  version, series = known[9], known[10]
  kept_offset, kept_epoch = offset, epoch or ''
  local lost
  lost, epochs = compare(top, now, evidence, offset, epoch, jumps, epochs)
  if lost then
    change_epoch()
    born = ''
  end
  if not epoch then
    epoch, expires = new_epoch, 0
    born = provisional(now, 0, generation) .. ',' .. provisional(now, 1, generation)
  end
  if not known[2] then
    generations = generation
  elseif lost then
    -- Nobody was given an offset under the new epoch.
    generations = remember(generations, generation, GENERATIONS)
  elseif not contains(generations, generation) then
    if not is_same_process() then
      -- Redis may have gone back in time: what comes next may have been given before. Nobody gets that again.
      jump, offset = offset, offset + leap() - 1
      jumps = remember(jumps, string.format('%d:%d', jump, offset + 1), JUMPS)
    end
    generations, expires = remember(generations, generation, GENERATIONS), 0
  end
end

-- The stream begins again at 1. What was marked for trimming was in the one before.
local function restart()
  redis.call('DEL', stream)
  redis.call('HDEL', top, 'mark', 'marked')
  change_epoch()
  offset, jump, jumps, born = 0, nil, '', ''
end

-- Appends an envelope; returns its offset, and the one that it follows where some are left out. Numbers are formatted here
-- because Redis would take three times as long.
local function append(envelope, size)
  if offset >= LAST then
    restart()
  end
  local follows = jump
  local entry = {'publication', envelope}
  if follows then
    entry = {'publication', envelope, 'seam', string.format('%d', follows)}
  end
  local id = string.format('%d-%d', offset + 1, now)
  if offset == 0 or not redis.call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', size, id, unpack(entry)) then
    -- There is no stream. Entries that are not old enough to have expired were lost; what is left of a stream without a
    -- top is not known to be whole.
    if offset > 0 and now < kept_until then
      restart()
      follows, id, entry = nil, string.format('1-%d', now), {'publication', envelope}
    elseif offset == 0 then
      redis.call('DEL', stream)
    end
    redis.call('XADD', stream, id, unpack(entry))
    expires = 0
  end
  offset, jump = offset + 1, nil
  return offset, follows
end

-- Writes down where the stream is, after the last publication.
local function save(ttl)
  redis.call('HSET', top, 'offset', string.format('%d', offset), 'until', string.format('%d', now + ttl))
  if expires < now + ttl or expires > now + 2 * ttl then
    -- Once in a ttl, and when that is another. All up to `mark` were there at `marked`, so that a ttl later all are too
    -- old: trimming by age takes no look at entries.
    local old = redis.call('HMGET', top, 'mark', 'marked')
    local mark, marked = tonumber(old[1]), tonumber(old[2])
    if mark and now >= marked + ttl then
      redis.call('XTRIM', stream, 'MINID', '~', string.format('%d', mark + 1))
    end
    expires = now + 2 * ttl
    redis.call('PEXPIREAT', stream, string.format('%d', expires))
    redis.call('HSET', top, 'epoch', epoch, 'generation', generations, 'seams', jumps, 'epochs', epochs,
      'provisional', born, 'expires', string.format('%d', expires), 'mark', string.format('%d', offset),
      'marked', string.format('%d', now))
    if changed then
      redis.call('HSET', top, 'changed', string.format('%d', now))
    end
    redis.call('PEXPIREAT', top, string.format('%d', expires + outlives))
  end
end

-- The answers by their keys. All are read before anything is written: a key may be of another type.
local first = {}
for at = HEAD + 1, #ARGV, FIELDS do
  local once = ARGV[at + 3]
  if once ~= '' and first[once] == nil then
    first[once] = redis.call('GET', once)
  end
end

-- Appends a publication, whose arguments begin at `at`, to the stream and sends it. The result is as of the script.
local function publish(at)
  local envelope, once, number = ARGV[at], ARGV[at + 3], ARGV[at + 5]
  local given, follows = append(envelope, ARGV[at + 1])
  local answer = string.format('%d:%s', given, epoch)
  kept_offset, kept_epoch = given, epoch
  -- All is written before anything is sent: a Redis that is full, or a replica by now, refuses what writes, and what it has
  -- sent by then would be sent again by each repeat.
  if number ~= '' then
    version, series = number, ARGV[at + 6]
    redis.call('HSET', top, 'version', number, 'row', series)
  end
  if once ~= '' then
    redis.call('SET', once, answer, 'PX', ARGV[at + 4])
    first[once] = answer
  end
  local refused = send(envelope, given, epoch, follows, once, answer)
  if refused and once ~= '' then
    first[once] = answer .. UNSENT
  end
  return refused and {2, refused} or {0, answer}
end

-- Sends what is in the stream already, under its position there; not when the stream has left that epoch, because its
-- subscribers are notified of that. The result is as of the script.
local function send_again(once, unsent, envelope)
  local answer = string.sub(unsent, 1, -1 - #UNSENT)
  local at, of = string.match(answer, '^(%d+):(.*)$')
  if redis.call('HGET', top, 'epoch') == of then
    redis.call('SET', once, answer, 'KEEPTTL')
    local refused = send(envelope, tonumber(at), of, nil, once, answer)
    if refused then
      return {2, refused}
    end
    first[once] = answer
  end
  return {1, answer}
end

local results, ttl = {}, 0
for at = HEAD + 1, #ARGV, FIELDS do
  local once, number = ARGV[at + 3], ARGV[at + 5]
  local answer = once ~= '' and first[once]
  if answer and string.sub(answer, -#UNSENT) == UNSENT then
    results[#results + 1] = send_again(once, answer, ARGV[at])
  elseif answer then
    results[#results + 1] = {1, answer}
  else
    if not loaded then
      load()
    end
    -- Versions are text of one length, because numbers here are not exact enough.
    if number ~= '' and version and series == ARGV[at + 6] and number <= version then
      results[#results + 1] = {1, string.format('%d:%s', kept_offset, kept_epoch)}
    else
      results[#results + 1] = publish(at)
      ttl = tonumber(ARGV[at + 2])
    end
  end
end
if ttl > 0 then
  save(ttl)
end
return results
