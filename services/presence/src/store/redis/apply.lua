-- Writes and removes members of one channel under one lease, and tells who listens to the channel, in the same step: what
-- is here and what they heard always agree, wherever a caller dies and however many remove the same member.
--
-- A value is a head of words: the member's lease, since when, and `+` when it is announced; then a line feed and a
-- tidings.bus.v1.ClientInfo without `client`. An empty value removes.
--
-- KEYS: 1 the members
-- ARGV: 1 the lease, 2 PUBLISH or SPUBLISH, 3 the channel in Redis, 4.. client, value, client, value, …
-- Returns for each: 1 it was not there, -1 it was there and is not, 0 neither; and why Redis would not let an
-- announcement out, or ''.
local members, lease, publish, channel = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local gateway = string.match(lease, '^.*/')
local refused = ''

-- A field of bytes as protobuf: what it is, how long it is, the bytes.
local function field(tag, bytes)
  local rest, size = #bytes, ''
  while rest > 127 do
    size = size .. string.char(128 + rest % 128)
    rest = math.floor(rest / 128)
  end
  return string.char(tag) .. size .. string.char(rest) .. bytes
end

-- The fields of a tidings.bus.v1.Envelope.
local JOIN, LEAVE = 18, 26

-- Says that a member came or left. When Redis does not allow it, the member must come and go all the same.
local function announce(what, client, value)
  local info = field(18, client) .. string.sub(value, string.find(value, '\n', 1, true) + 1)
  local heard = redis.pcall(publish, channel, field(what, field(10, info)))
  if type(heard) == 'table' and heard.err then
    refused = heard.err
  end
end

local effects = {}
for i = 4, #ARGV, 2 do
  local client, value = ARGV[i], ARGV[i + 1]
  local old = redis.call('HGET', members, client) or ''
  local holder = string.match(old, '^[^ \n]*')
  local effect, now = 0, old
  if value == '' then
    -- Only what is still under this lease: a newer one may have taken it over.
    if holder == lease then
      redis.call('HDEL', members, client)
      effect, now = -1, value
    end
  -- A late write of an old attachment must not take it back.
  elseif string.sub(holder, 1, #gateway) ~= gateway or holder <= lease then
    redis.call('HSET', members, client, value)
    effect, now = old == '' and 1 or 0, value
  end
  local was, is = string.find(old, '^[^\n]*%+\n'), string.find(now, '^[^\n]*%+\n')
  if is and not was then
    announce(JOIN, client, now)
  elseif was and not is then
    announce(LEAVE, client, old)
  end
  effects[#effects + 1] = effect
end
return {effects, refused}
