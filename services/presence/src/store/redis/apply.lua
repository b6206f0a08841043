-- Writes and removes members of one channel under one lease, keeps the counts, and tells who listens to the channel, all in
-- the same step: what is here, what is counted and what they heard always agree, wherever a caller dies and however many
-- remove the same member.
--
-- A value is a head of words: the serial of the member's lease, since when, and `+` when it is announced; then a line feed and
-- a tidings.bus.v1.ClientInfo without `client`. An empty value removes.
--
-- KEYS: 1 the members, 2 leases, 3 users, 4 order, 5 announced, 6 leaving, 7 quiet, 8 the log, if there is one
-- ARGV: 1 the lease's serial, 2 PUBLISH or SPUBLISH, 3 the channel in Redis, 4 the channel, 5 'user' or 'client': who is
--       announced once, 6 for how long a leave is held, in ms, 7 the log's length, 8 how many members need no order,
--       9 more members than that are a large channel, 0: never, 10 of how many members at most gateways compare whom their
--       subscribers know of, 11.. client, value, known, client, value, known, …
--       known: 1 where subscribers may know of the member already, whom this Redis has lost: it is not announced as coming
-- Returns for each: '+' it was not there, '-' and its user: it was there and is not, '' neither; and why Redis would not
-- let an announcement out, or ''.
local members, leases, users, order, announced, leaving, quiet, log = unpack(KEYS)
local lease, publish, bus, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local per_user, delay, log_length, small = ARGV[5] == 'user', tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local crowd, compared = tonumber(ARGV[9]), tonumber(ARGV[10])
local refused = ''
local size = redis.call('HLEN', members)

local function info_of(value)
  return string.sub(value, (string.find(value, '\n', 1, true) or #value) + 1)
end

-- The first field of the info; '': anonymous.
local function user_of(value)
  local info = info_of(value)
  if string.byte(info, 1) ~= 10 then
    return ''
  end
  local at, len, shift = 1, 0, 1
  repeat
    at = at + 1
    local byte = string.byte(info, at) or 0
    len, shift = len + byte % 128 * shift, shift * 128
  until byte < 128
  return string.sub(info, at + 1, at + len)
end

-- Counts one more or less; nothing is kept of none. Returns how many there are.
local function count(key, of, by)
  local n = redis.call('HINCRBY', key, of, by)
  if n <= 0 then
    redis.call('HDEL', key, of)
  end
  return n
end

-- The fields of a tidings.bus.v1.Envelope.
local JOIN, LEAVE = 18, 26

-- Says that a member came or left. When Redis does not allow it, the member must come and go all the same.
local function announce(what, client, value)
  local info = field(18, client) .. info_of(value)
  local heard = redis.pcall(publish, bus, field(what, field(10, info)))
  if type(heard) == 'table' and heard.err then
    refused = heard.err
  end
end

-- Whoever is announced once: the client, or the user with all its clients.
local function who(client, user)
  if per_user and user ~= '' then
    return 'user:' .. user
  end
  return 'client:' .. client
end

-- Whether who comes and who goes is counted, not announced.
local function is_crowd()
  return crowd > 0 and size > crowd
end

local function arrive(client, user, value, known)
  if per_user and user ~= '' and count(announced, user, 1) > 1 then
    return
  end
  -- Back before its leave was due: it was never away.
  if redis.call('HDEL', leaving, who(client, user)) == 1 then
    return
  end
  -- Whether a known one was announced is lost. It counts as announced: subscribers that do not know it are sent its join when
  -- their gateway compares, and those that do are not sent a leave. Where nothing is compared it came to a large channel.
  if known and size <= compared then
    return
  end
  if is_crowd() then
    redis.call('SADD', quiet, who(client, user))
  elseif not known then
    announce(JOIN, client, value)
  end
end

local function depart(client, user, value)
  if per_user and user ~= '' and count(announced, user, -1) > 0 then
    return
  end
  -- Nobody heard of it coming. Where they did, they hear of it going, from a crowd too.
  if redis.call('SREM', quiet, who(client, user)) == 1 and is_crowd() then
    return
  end
  if delay == 0 then
    return announce(LEAVE, client, value)
  end
  local time = redis.call('TIME')
  local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + delay)
  redis.call('HSET', leaving, who(client, user), due .. ' ' .. client .. '\n' .. info_of(value))
end

local function is_announced(value)
  return string.find(value, '^[^\n]*%+\n') ~= nil
end

local ordered = redis.call('EXISTS', order) == 1
local effects = {}
for i = 11, #ARGV, 3 do
  local client, value, known = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1'
  local old = redis.call('HGET', members, client) or ''
  local holder = string.match(old, '^[^ \n]*')
  local new = old
  if value == '' then
    -- Only what is still under this lease: a newer one may have taken it over.
    if holder == lease then
      new = ''
    end
  -- A late write of an old attachment must not take it back.
  elseif holder <= lease then
    new = value
  end
  local effect = ''
  if new ~= old then
    local old_user, user = user_of(old), user_of(new)
    if new == '' then
      redis.call('HDEL', members, client)
      size, effect = size - 1, '-' .. old_user
    else
      redis.call('HSET', members, client, new)
      count(leases, lease, 1)
      count(users, user, 1)
    end
    if old == '' then
      size, effect = size + 1, '+'
    else
      count(leases, holder, -1)
      count(users, old_user, -1)
    end
    if ordered and old == '' then
      redis.call('ZADD', order, 0, client)
    elseif ordered and new == '' then
      redis.call('ZREM', order, client)
    end

    local was, is, same = is_announced(old), is_announced(new), old_user == user
    if was and not (is and same) then
      depart(client, old_user, old)
    end
    if is and not (was and same) then
      arrive(client, user, new, known and old == '')
    end
    if log and effect ~= '' then
      local event, whose = effect == '+' and 'joined' or 'left', effect == '+' and user or old_user
      local entry = {'event', event, 'channel', channel, 'client', client, 'user', whose}
      if is_crowd() then
        entry[9], entry[10] = 'clients', size
      end
      redis.call('XADD', log, 'MAXLEN', '~', log_length, '*', unpack(entry))
    end
  end
  effects[#effects + 1] = effect
end

-- Few members are read whole; only of many is it worth to keep them in order.
if not ordered and size > small then
  for _, client in ipairs(redis.call('HKEYS', members)) do
    redis.call('ZADD', order, 0, client)
  end
elseif ordered and size <= small / 2 then
  redis.call('DEL', order)
end
return {effects, refused}
