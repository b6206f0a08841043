-- One publication to one channel: once, into the stream, and to whoever listens.
--
-- KEYS: 1 the top, 2 the stream, 3 the answer
-- ARGV: 1 PUBLISH or SPUBLISH, 2 the Redis channel, 3 the envelope, 4 how long the answer is kept (0: it is not),
--       5 the most entries (0: no stream), 6 how long they are kept, 7 how long the top outlives them, 8 an epoch that
--       never was. Times are in milliseconds.
-- Returns whether it is a duplicate (1, 0), and the answer: "offset:epoch", or "0:" without a stream.
local top, stream, once = KEYS[1], KEYS[2], KEYS[3]
local publish, channel, envelope = ARGV[1], ARGV[2], ARGV[3]
local window, size, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

if window > 0 then
  local first = redis.call('GET', once)
  if first then
    return {1, first}
  end
end

-- The position as protobuf, to be put behind the envelope: the fields `offset` and `epoch` of its `publication`.
local function position(offset, epoch)
  local field = string.char(48)
  local rest = offset
  while rest > 127 do
    field = field .. string.char(128 + rest % 128)
    rest = math.floor(rest / 128)
  end
  field = field .. string.char(rest, 58, #epoch) .. epoch
  return string.char(10, #field) .. field
end

local answer = '0:'
if size > 0 then
  local now = clock()
  local offset, epoch, _, mark, marked = find(top, stream, now, ARGV[8])
  offset = offset + 1
  local number, kept_until = string.format('%.0f', offset), string.format('%.0f', now + ttl)
  local id = number .. '-' .. string.format('%.0f', now)
  redis.call('XADD', stream, 'MAXLEN', '~', size, id, 'publication', envelope)
  redis.call('PEXPIREAT', stream, kept_until)
  redis.call('HSET', top, 'offset', number, 'epoch', epoch, 'until', kept_until)
  redis.call('PEXPIREAT', top, kept_until + ARGV[7])

  -- Trims by age without looking at entries: all up to `mark` were there at `marked`, so a ttl later all are too old.
  if not marked or now >= marked + ttl then
    if mark then
      redis.call('XTRIM', stream, 'MINID', '~', mark + 1)
    end
    redis.call('HSET', top, 'mark', number, 'marked', now)
  end

  envelope = envelope .. position(offset, epoch)
  answer = number .. ':' .. epoch
end
redis.call(publish, channel, envelope)
if window > 0 then
  redis.call('SET', once, answer, 'PX', window)
end
return {0, answer}
