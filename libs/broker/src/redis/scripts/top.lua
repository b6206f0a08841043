-- The beginning of both scripts: the clock, and where a stream is.
--
-- One clock decides what is old, that of Redis, in Unix milliseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The offset and the epoch of a stream, and whether it begins anew with the epoch `fresh`; then what publish.lua keeps in
-- the top for itself. A stream begins anew when there is no top; and when there are no entries although they are not old
-- enough to have expired, for then they were lost.
local function find(top, stream, now, fresh)
  local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'mark', 'marked')
  local offset, epoch, kept_until = tonumber(known[1]), known[2], tonumber(known[3])
  if offset and epoch and kept_until and (now >= kept_until or redis.call('EXISTS', stream) == 1) then
    return offset, epoch, false, tonumber(known[4]), tonumber(known[5])
  end
  redis.call('DEL', top, stream)
  return 0, fresh, true
end
