-- One publication to one channel: once, into the stream, and to whoever listens.
--
-- KEYS: 1 the top, 2 the stream, 3 the answer, 4 the server
-- ARGV: 1 PUBLISH or SPUBLISH, 2 the Redis channel, 3 the envelope, 4 how long the answer is kept (0: it is not),
--       5 the most entries (0: no stream), 6 how old they may be, 7 how long the top outlives them, 8 an epoch that never
--       was. Times are in milliseconds.
-- Returns whether it is a duplicate (1, 0), and the answer: "offset:epoch", or "0:" without a stream. An error when Redis
-- does not allow the channel: with a stream it is kept and none of the listeners has heard it.
local top, stream, once = KEYS[1], KEYS[2], KEYS[3]
local publish, channel, envelope = ARGV[1], ARGV[2], ARGV[3]
local window, size, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- Appends the envelope to the stream; returns its offset and its epoch. Numbers are formatted here because Redis would take
-- three times as long.
local function append()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'expires', 'generation')
  local offset, epoch, expires = (tonumber(known[1]) or 0) + 1, known[2], tonumber(known[4]) or 0
  local id = string.format('%d-%d', offset, now)

  local generation = redis.call('HGET', KEYS[4], 'generation')
  if not generation then
    -- Somebody has emptied Redis under our connection.
    generation = ARGV[8]
    redis.call('HSET', KEYS[4], 'generation', generation)
  end
  if epoch and known[5] ~= generation then
    -- Redis may have gone back in time: what comes next may have been given before. What is there stays.
    epoch, expires = ARGV[8], 0
  end

  if not epoch
    or not redis.call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5], id, 'publication', envelope) then
    -- One of the two is not there. Entries that are not old enough to have expired were lost; so is what has no top.
    if not epoch or now < tonumber(known[3]) then
      redis.call('DEL', top, stream)
      offset, epoch = 1, ARGV[8]
      id = string.format('1-%d', now)
    end
    redis.call('XADD', stream, id, 'publication', envelope)
    expires = 0
  end

  redis.call('HSET', top, 'offset', string.format('%d', offset), 'until', string.format('%d', now + ttl))
  if expires < now + ttl or expires > now + 2 * ttl then
    -- Once in a ttl, and when that is another. All up to `mark` were there at `marked`, so that a ttl later all are too
    -- old: trimming by age takes no look at entries.
    local old = redis.call('HMGET', top, 'mark', 'marked')
    local mark, marked = tonumber(old[1]), tonumber(old[2])
    if mark and now >= marked + ttl then
      redis.call('XTRIM', stream, 'MINID', '~', mark + 1)
    end
    expires = now + 2 * ttl
    redis.call('PEXPIREAT', stream, expires)
    redis.call('HSET', top, 'epoch', epoch, 'generation', generation, 'expires', expires, 'mark', offset,
      'marked', now)
    redis.call('PEXPIREAT', top, expires + ARGV[7])
  end
  return offset, epoch
end

-- A position as protobuf, to be put behind the envelope: the fields `offset` and `epoch` of its `publication`.
local function encode(offset, epoch)
  local field = string.char(48)
  while offset > 127 do
    field = field .. string.char(128 + offset % 128)
    offset = math.floor(offset / 128)
  end
  field = field .. string.char(offset, 58, #epoch) .. epoch
  return string.char(10, #field) .. field
end

if window > 0 then
  local first = redis.call('GET', once)
  if first then
    return {1, first}
  end
end
local answer = '0:'
if size > 0 then
  local offset, epoch = append()
  envelope = envelope .. encode(offset, epoch)
  answer = string.format('%d:%s', offset, epoch)
end
-- Redis may not allow the channel. What is in the stream by then stays there, so that is done: asking again must not append
-- again.
local heard = redis.pcall(publish, channel, envelope)
local refused = type(heard) == 'table' and heard.err
if window > 0 and (size > 0 or not refused) then
  redis.call('SET', once, answer, 'PX', window)
end
if refused then
  return heard
end
return {0, answer}
