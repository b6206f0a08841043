-- A part of a stream, and where the stream is.
--
-- KEYS: 1 the top, 2 the stream, 3 the server
-- ARGV: 1 an epoch that never was, 2 how long the top is remembered, 3 the most publications, 4 the offset to start
--       next to ('': at an end), 5 whether in reverse (1, 0), 6 the most entries that count, 7 how old they may be.
--       Times are in milliseconds. When 3 is 0, what follows is not looked at.
-- Returns the offset, the epoch and the entries.
local top, stream = KEYS[1], KEYS[2]
local remembered, limit = tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'generation')
local offset, epoch, kept_until = tonumber(known[1]), known[2], tonumber(known[3])

local generation = redis.call('HGET', KEYS[3], 'generation')
if not generation then
  -- Somebody has emptied Redis under our connection.
  generation = ARGV[1]
  redis.call('HSET', KEYS[3], 'generation', generation)
end

-- Entries that are not old enough to have expired were lost when they are not there; so is what has no top.
if not epoch or (now < kept_until and redis.call('EXISTS', stream) == 0) then
  offset, epoch, kept_until = 0, ARGV[1], 0
  redis.call('DEL', top, stream)
  redis.call('HSET', top, 'offset', offset, 'epoch', epoch, 'until', kept_until, 'generation', generation)
elseif known[4] ~= generation then
  -- Redis may have gone back in time: what comes next may have been given before. What is there stays.
  epoch = ARGV[1]
  redis.call('HSET', top, 'epoch', epoch, 'generation', generation)
end
-- Seldom, so that asking hardly ever writes.
if redis.call('PTTL', top) < remembered / 2 then
  redis.call('PEXPIRE', top, remembered)
end

-- Whether the entry at `offset`, or the next that is there, is too old. IDs are "offset-time".
local function is_old(offset)
  local entry = redis.call('XRANGE', stream, offset, '+', 'COUNT', 1)[1]
  return entry and tonumber(string.match(entry[1], '%-(%d+)')) <= now - ARGV[7]
end

local entries = {}
if limit > 0 and now < kept_until then
  local since, reverse, size = tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
  local from, to = math.max(1, offset - size + 1), offset
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
  if from <= to and reverse then
    entries = redis.call('XREVRANGE', stream, to, from, 'COUNT', limit)
  elseif from <= to then
    entries = redis.call('XRANGE', stream, from, to, 'COUNT', limit)
  end
end
return {offset, epoch, entries}
