-- A part of a stream, and where the stream is. Writes nothing, unless something was lost or the top would be forgotten.
--
-- KEYS: 1 the top; and where a slot of a Cluster is not just on its way here, the stream, so that it is known to be here.
-- ARGV: 1 the stream, 2 an epoch that never was, 3 the generation of this Redis, 4 how long the top is remembered,
--       5 evidence: "offset:epoch:age,…" of what was given in the stream, 6 the most publications, 7 the offset to start next to
--       ('': at an end), 8 whether in reverse (1, 0), 9 the most entries that count, 10 how old they may be, 11 the most bytes ('':
--       no bound). Times are in milliseconds. When 6 is 0, what follows is not looked at.
-- Returns the offset, the epoch, the provisional epochs that count as this one, and the entries.
local top, stream, new_epoch, generation = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local remembered, evidence, limit = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

-- Entries that are read at a time where there is a bound in bytes.
local STEP = 16

local now = clock()
local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'seams', 'epochs', 'provisional', 'generation')
local offset, epoch, kept_until = tonumber(known[1]) or 0, known[2], tonumber(known[3]) or 0
local jumps, epochs, born = known[4] or '', known[5] or '', known[6] or ''

local lost
lost, epochs = compare(top, now, evidence, offset, epoch, jumps, epochs)
if not epoch and not lost then
  -- Nothing was ever published here, or so long ago that it is forgotten: nothing is kept for a channel that is only asked for.
  return {0, provisional(now, 0, generation), '', {}}
end
if epoch and now < kept_until and redis.call('EXISTS', stream) == 0 then
  -- Entries that are not old enough to have expired were lost. What was marked for trimming was among them.
  redis.call('HDEL', top, 'mark', 'marked')
  lost, offset, kept_until, jumps = true, 0, 0, ''
end
if lost then
  -- What is there stays, under another epoch, under which nobody was given an offset.
  if epoch then
    epochs = leave(epochs, epoch, tonumber(known[1]) or 0)
  else
    redis.call('DEL', stream)
  end
  epoch, born = new_epoch, ''
  redis.call('HSET', top, 'offset', string.format('%d', offset), 'epoch', epoch, 'until',
    string.format('%d', kept_until), 'seams', jumps, 'epochs', epochs, 'provisional', born,
    'generation', remember(known[7] or '', generation, GENERATIONS), 'changed', string.format('%d', now))
end
-- Seldom, so that asking hardly ever writes. A Redis that refuses writes for a while can be read all the same.
if redis.call('PTTL', top) < remembered / 2 then
  redis.pcall('PEXPIRE', top, remembered)
end

-- Whether the entry at `at`, or the next that is there, is too old. IDs are "offset-time".
local function is_old(at)
  local entry = redis.call('XRANGE', stream, string.format('%d', at), '+', 'COUNT', 1)[1]
  return entry and tonumber(string.match(entry[1], '%-(%d+)')) <= now - ARGV[10]
end

-- The offset of the oldest of the `size` newest publications: offsets that were left out do not count.
local function oldest(size)
  local from = offset - size + 1
  for last, first in string.gmatch(jumps, '(%d+):(%d+)') do
    last, first = tonumber(last), tonumber(first)
    if from < first then
      from = from - (first - last - 1)
    end
  end
  return math.max(1, from)
end

-- The first offset behind the entries that are too old. These are in front.
local function skip_old(from, to)
  if from > to or not is_old(from) then
    return from
  end
  local low, high = from + 1, to + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_old(middle) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- At most `count` entries of a part.
local function range(from, to, reverse, count)
  local first, last = string.format('%d', from), string.format('%d', to)
  if from > to then
    return {}
  elseif reverse then
    return redis.call('XREVRANGE', stream, last, first, 'COUNT', count)
  end
  return redis.call('XRANGE', stream, first, last, 'COUNT', count)
end

-- As many entries of a part as fit into so many bytes, one at the least.
local function within(bytes, from, to, reverse)
  local entries = {}
  while #entries < limit do
    local part = range(from, to, reverse, math.min(STEP, limit - #entries))
    for _, entry in ipairs(part) do
      bytes = bytes - #entry[2][2]
      if bytes < 0 and #entries > 0 then
        return entries
      end
      entries[#entries + 1] = entry
      local at = tonumber(string.match(entry[1], '^%d+'))
      if reverse then
        to = at - 1
      else
        from = at + 1
      end
    end
    if #part == 0 then
      return entries
    end
  end
  return entries
end

local entries = {}
if limit > 0 and now < kept_until then
  local since, reverse, bytes = tonumber(ARGV[7]), ARGV[8] == '1', tonumber(ARGV[11])
  local from, to = oldest(tonumber(ARGV[9])), offset
  if since and reverse then
    to = math.min(to, since - 1)
  elseif since then
    from = math.max(from, since + 1)
  end
  from = skip_old(from, to)
  entries = bytes and within(bytes, from, to, reverse) or range(from, to, reverse, limit)
end
return {offset, epoch, born, entries}
