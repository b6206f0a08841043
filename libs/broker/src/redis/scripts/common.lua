-- Stands before the script that publishes, and does what that would do in the common case, or nothing: one publication without a
-- version, to a stream of which nothing is in doubt and whose expiry is far enough away. Defining all that the other cases need
-- would take half as long again as this takes as a whole.
--
-- KEYS, ARGV and what is returned are as of that script.
local top, stream = KEYS[1], ARGV[3]
local command, channel, outlives, new_epoch = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local generation, evidence = ARGV[6], ARGV[7]
local HEAD, FIELDS = 7, 7

-- Numbers stop being exact behind this one. A stream that gets here begins anew.
local LAST = 9007199254740991

-- Marks the answer to a publish that is in the stream and was not sent, because Redis did not allow the channel.
local UNSENT = '!'

-- A number as protobuf.
local function varint(number)
  local bytes = ''
  while number > 127 do
    bytes = bytes .. string.char(128 + number % 128)
    number = math.floor(number / 128)
  end
  return bytes .. string.char(number)
end

-- Sends what is in the stream, with its position there behind the envelope: the fields `offset`, `epoch` and `seam` of its
-- `publication`. What it returns is nil, or why Redis does not allow the channel: what is in the stream by then stays there, and
-- its answer is marked, so that a repeat does not append again, and sends it.
local function send(envelope, at, of, follows, once, answer)
  local fields = string.char(48) .. varint(at) .. string.char(58, #of) .. of
  if follows then
    fields = fields .. string.char(96) .. varint(follows)
  end
  local received = redis.pcall(command, channel, envelope .. string.char(10, #fields) .. fields)
  local refused = type(received) == 'table' and received.err or nil
  if refused and once ~= '' then
    redis.call('SET', once, answer .. UNSENT, 'KEEPTTL')
  end
  return refused
end

if #ARGV == HEAD + FIELDS and ARGV[13] == '' then
  local envelope, size, ttl, once, window = ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11], ARGV[12]
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local known = redis.call('HMGET', top, 'offset', 'epoch', 'expires', 'generation', 'seams')
  local offset, epoch, expires = tonumber(known[1]), known[2], tonumber(known[3]) or 0
  -- Of one epoch, and not within an offset jump.
  local given, of = string.match(evidence, '^(%d+):([^:,]+):?%d*$')
  local since = tonumber(string.match(known[5] or '', '^%d+:(%d+)')) or 0
  local is_there = evidence == ''
    or epoch and of == epoch and tonumber(given) <= offset and tonumber(given) >= since
  if epoch and string.match(known[4] or '', '^[^,]*') == generation and is_there and offset < LAST
    and expires >= now + ttl and expires <= now + 2 * ttl
    and not (once ~= '' and redis.call('GET', once))
    and redis.call('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', size, string.format('%d-%d', offset + 1, now),
      'publication', envelope) then
    offset = offset + 1
    redis.call('HSET', top, 'offset', string.format('%d', offset), 'until', string.format('%d', now + ttl))
    local answer = string.format('%d:%s', offset, epoch)
    if once ~= '' then
      redis.call('SET', once, answer, 'PX', window)
    end
    local refused = send(envelope, offset, epoch, nil, once, answer)
    return {refused and {2, refused} or {0, answer}}
  end
end

