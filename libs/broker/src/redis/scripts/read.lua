-- A part of a stream, and where the stream is.
--
-- KEYS: 1 the top, 2 the stream
-- ARGV: 1 an epoch that never was, 2 the generation of this Redis, 3 how long the top is remembered, 4 and 5 an offset
--       that was given, and its epoch ('': none), 6 the most publications, 7 the offset to start next to ('': at an end),
--       8 whether in reverse (1, 0), 9 the most entries that count, 10 how old they may be. Times are in milliseconds.
--       When 6 is 0, what follows is not looked at.
-- Returns the offset, the epoch and the entries.
local top, stream = KEYS[1], KEYS[2]
local remembered, limit = tonumber(ARGV[3]), tonumber(ARGV[6])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'seams')
local offset, epoch, kept_until, seams = tonumber(known[1]), known[2], tonumber(known[3]), known[4] or ''

-- Entries that are not old enough to have expired were lost when they are not there; so is what has no top.
if not epoch or (now < kept_until and redis.call('EXISTS', stream) == 0) then
  offset, epoch, kept_until = 0, ARGV[1], 0
  redis.call('DEL', top, stream)
  redis.call('HSET', top, 'offset', offset, 'epoch', epoch, 'until', kept_until, 'generation', ARGV[2])
elseif epoch == ARGV[5] and is_lost(tonumber(ARGV[4]), offset, seams) then
  -- Redis has lost what somebody was told is kept. What is there stays.
  epoch = ARGV[1]
  redis.call('HSET', top, 'epoch', epoch, 'generation', ARGV[2])
end
-- Seldom, so that asking hardly ever writes.
if redis.call('PTTL', top) < remembered / 2 then
  redis.call('PEXPIRE', top, remembered)
end

-- Whether the entry at `offset`, or the next that is there, is too old. IDs are "offset-time".
local function is_old(offset)
  local entry = redis.call('XRANGE', stream, string.format('%d', offset), '+', 'COUNT', 1)[1]
  return entry and tonumber(string.match(entry[1], '%-(%d+)')) <= now - ARGV[10]
end

-- The offset of the oldest of the `size` newest publications: offsets that a seam leaves out do not count.
local function oldest(size)
  local from = offset - size + 1
  for last, first in string.gmatch(seams, '(%d+):(%d+)') do
    last, first = tonumber(last), tonumber(first)
    if from < first then
      from = from - (first - last - 1)
    end
  end
  return math.max(1, from)
end

local entries = {}
if limit > 0 and now < kept_until then
  local since, reverse = tonumber(ARGV[7]), ARGV[8] == '1'
  local from, to = oldest(tonumber(ARGV[9])), offset
  if since and reverse then
    to = math.min(to, since - 1)
  elseif since then
    from = math.max(from, since + 1)
  end
  -- The old are in front. When there are any, the first young one is found by halving.
  if from <= to and is_old(from) then
    local low, high = from + 1, to + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if is_old(middle) then
        low = middle + 1
      else
        high = middle
      end
    end
    from = low
  end
  local first, last = string.format('%d', from), string.format('%d', to)
  if from <= to and reverse then
    entries = redis.call('XREVRANGE', stream, last, first, 'COUNT', limit)
  elseif from <= to then
    entries = redis.call('XRANGE', stream, first, last, 'COUNT', limit)
  end
end
return {offset, epoch, entries}
