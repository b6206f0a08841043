-- One publication to one channel: once, into the stream, and to whoever listens.
--
-- KEYS: 1 the top, 2 the stream, 3 the answer
-- ARGV: 1 PUBLISH or SPUBLISH, 2 the Redis channel, 3 the envelope, 4 how long the answer is kept (0: it is not),
--       5 the most entries (0: no stream), 6 how old they may be, 7 how long the top outlives them, 8 an epoch that never
--       was, 9 the generation of this Redis, 10 and 11 an offset that was given, and its epoch ('': none), 12 and 13 a
--       version of 20 digits, and the row that it is in ('': none). Times are in milliseconds.
-- Returns whether nothing was done (1, 0), because it was or something as new, and the answer: "offset:epoch", or "0:" without a stream. An error when Redis
-- does not allow the channel: with a stream it is kept and none of the listeners has heard it.
local top, stream, once = KEYS[1], KEYS[2], KEYS[3]
local publish, channel, envelope = ARGV[1], ARGV[2], ARGV[3]
local window, size, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local generation = ARGV[9]

-- More than one channel gets between two looks at Redis, or between two snapshots of it: 2^36 is two days of all that a
-- Redis can do. 2^53, where numbers here stop being exact, is 131,072 of them.
local LEAP = 68719476736

-- The most seams that are remembered. Who comes back from before the oldest is told that it cannot recover.
local SEAMS = 8

-- Appends the envelope to the stream; returns its offset, its epoch and, at a seam, the offset before it. Numbers are
-- formatted here because Redis would take three times as long.
local function append()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local known = redis.call('HMGET', top, 'offset', 'epoch', 'until', 'expires', 'generation', 'seams')
  local last, epoch, expires, seams = tonumber(known[1]) or 0, known[2], tonumber(known[4]) or 0, known[6] or ''
  local offset, seam = last + 1, nil

  if epoch == ARGV[11] and is_lost(tonumber(ARGV[10]), last, seams) then
    -- Redis has lost what somebody was told is kept. What is there stays.
    epoch, expires = ARGV[8], 0
  elseif epoch and known[5] ~= generation then
    -- Redis may have gone back in time: what comes next may have been given before. Nobody gets that again.
    offset, seam, expires = last + LEAP, last, 0
    local older = {string.format('%d:%d', last, offset)}
    for entry in string.gmatch(seams, '%d+:%d+') do
      if #older < SEAMS then
        older[#older + 1] = entry
      end
    end
    seams = table.concat(older, ',')
  end
  local id = string.format('%d-%d', offset, now)

  local entry = {'publication', envelope}
  if seam then
    entry = {'publication', envelope, 'seam', string.format('%d', seam)}
  end
  if not epoch or not redis.call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5], id, unpack(entry)) then
    -- One of the two is not there. Entries that are not old enough to have expired were lost; so is what has no top.
    if not epoch or now < tonumber(known[3]) then
      redis.call('DEL', top, stream)
      offset, epoch, seam, seams = 1, ARGV[8], nil, ''
      id = string.format('1-%d', now)
      entry = {'publication', envelope}
    end
    redis.call('XADD', stream, id, unpack(entry))
    expires = 0
  end

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
    redis.call('HSET', top, 'epoch', epoch, 'generation', generation, 'seams', seams,
      'expires', string.format('%d', expires), 'mark', string.format('%d', offset),
      'marked', string.format('%d', now))
    redis.call('PEXPIREAT', top, string.format('%d', expires + ARGV[7]))
  end
  return offset, epoch, seam
end

local function varint(number)
  local bytes = ''
  while number > 127 do
    bytes = bytes .. string.char(128 + number % 128)
    number = math.floor(number / 128)
  end
  return bytes .. string.char(number)
end

-- A position as protobuf, to be put behind the envelope: the fields `offset`, `epoch` and `seam` of its `publication`.
local function encode(offset, epoch, seam)
  local fields = string.char(48) .. varint(offset) .. string.char(58, #epoch) .. epoch
  if seam then
    fields = fields .. string.char(96) .. varint(seam)
  end
  return string.char(10, #fields) .. fields
end

if window > 0 then
  local first = redis.call('GET', once)
  if first then
    return {1, first}
  end
end
local answer = '0:'
if size > 0 and ARGV[12] ~= '' then
  -- Versions are text of one length, because numbers here are not exact enough.
  local known = redis.call('HMGET', top, 'version', 'row', 'offset', 'epoch')
  if known[1] and known[2] == ARGV[13] and ARGV[12] <= known[1] then
    return {1, known[3] .. ':' .. known[4]}
  end
end
if size > 0 then
  local offset, epoch, seam = append()
  envelope = envelope .. encode(offset, epoch, seam)
  answer = string.format('%d:%s', offset, epoch)
  if ARGV[12] ~= '' then
    redis.call('HSET', top, 'version', ARGV[12], 'row', ARGV[13])
  end
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
