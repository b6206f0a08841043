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

-- Puts an item before a list, of which the first `most` stay. Lists are text: "newest,older,oldest".
local function remember(list, item, most)
  local items = {item}
  for older in string.gmatch(list, '[^,]+') do
    if #items < most and older ~= item then
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

-- Whether something was given in an epoch of before, so many milliseconds ago, after the stream had left that epoch: a primary
-- that was replaced goes on for a moment, and those who were notified of the change know nothing of that.
local function is_later(top, now, age)
  local changed = age ~= '' and tonumber(redis.call('HGET', top, 'changed'))
  return changed and now - tonumber(age) > changed
end

-- Compares evidence, "offset:epoch:age,offset:epoch" of what was given in the stream, with what the stream remembers. Returns
-- whether something was lost, and the epochs of the stream with those added that it did not know: such an epoch was
-- lost as a whole, and shows a loss this once.
local function compare(top, now, evidence, offset, epoch, jumps, epochs)
  local lost = false
  for given, of, age in string.gmatch(evidence, '(%d+):([^:,]+):?(%d*)') do
    if of == epoch then
      lost = lost or is_missing(tonumber(given), offset, jumps)
    elseif not contains(epochs, of) then
      lost, epochs = true, remember(epochs, of, EPOCHS)
    else
      lost = lost or is_later(top, now, age)
    end
  end
  return lost, epochs
end
