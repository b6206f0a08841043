-- Stands before the scripts that are about streams: what a stream remembers of itself, and what shows that it has lost
-- something.

-- The most offset jumps, generations and epochs that are remembered, newest first. A client that comes back from before the
-- oldest jump is told that it cannot recover.
local JUMPS, GENERATIONS, EPOCHS = 8, 8, 16

-- Provisional epochs, of streams without a publication, are named after the half day and the Redis in which they were given.
local HALF_DAY = 43200000

local function provisional(now, ago, generation)
  return string.format('~%x.%s', math.floor(now / HALF_DAY) - ago, string.sub(redis.sha1hex(generation), 1, 6))
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Puts an item before a list, of which the first `most` stay. Lists are text: "newest,older,oldest". What is before a colon is
-- the name of an item: it takes the place of an older one of that name.
local function remember(list, item, most)
  local name = string.match(item, '^[^:]*')
  local items = {item}
  for older in string.gmatch(list, '[^,]+') do
    if #items < most and string.match(older, '^[^:]*') ~= name then
      items[#items + 1] = older
    end
  end
  return table.concat(items, ',')
end

local function contains(list, item)
  return string.find(',' .. list .. ',', ',' .. item .. ',', 1, true) ~= nil
end

-- Whether an offset that was given is not in the stream: it is behind the end, or was left out by a jump. Jumps are
-- "last:first" of what comes before and after.
local function is_missing(given, offset, jumps)
  if given > offset then
    return true
  end
  for last, first in string.gmatch(jumps, '(%d+):(%d+)') do
    if tonumber(last) < given and given < tonumber(first) then
      return true
    end
  end
  return false
end

-- How far an epoch of before is accounted for, which is "epoch:offset" among these; nil of an epoch that is unknown.
local function accounted(epochs, epoch)
  local _, colon = string.find(',' .. epochs, ',' .. epoch .. ':', 1, true)
  return colon and tonumber(string.match(epochs, '^%d+', colon))
end

-- Adds an epoch that the stream has left, or that was lost: with what was given in it up to `offset`.
local function leave(epochs, epoch, offset)
  local most = math.max(offset, accounted(epochs, epoch) or 0)
  return remember(epochs, string.format('%s:%d', epoch, most), EPOCHS)
end

-- Whether something was given in an epoch of before, so many milliseconds ago, after the stream had left that epoch: a primary
-- that was replaced goes on for a moment, and those who were notified of the change know nothing of that. Somewhat too
-- often, because the evidence has been on its way since its age was taken.
local function is_later(top, now, age)
  local changed = age ~= '' and tonumber(redis.call('HGET', top, 'changed'))
  return changed and now - tonumber(age) > changed
end

-- Compares evidence, "offset:epoch:age,offset:epoch" of what was given in the stream, with what the stream remembers. Returns
-- whether something was lost of which nobody was notified yet, and the epochs with that accounted for: it shows a loss this
-- once. An epoch that the stream does not know was lost as a whole.
local function compare(top, now, evidence, offset, epoch, jumps, epochs)
  local lost = false
  for given, of, age in string.gmatch(evidence, '(%d+):([^:,]+):?(%d*)') do
    given = tonumber(given)
    local is_current = of == epoch
    local known = is_current and offset or accounted(epochs, of)
    if not known or is_missing(given, known, jumps) and (is_current or is_later(top, now, age)) then
      lost, epochs = true, leave(epochs, of, given)
    end
  end
  return lost, epochs
end
