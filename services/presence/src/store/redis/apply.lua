-- Writes and removes members of one channel under one lease. A value is the member's lease, a line feed, and
-- the rest; an empty value removes.
-- KEYS[1] members  ARGV[1] lease  ARGV[2..] client, value, client, value, …
-- ->  for each: 1 it was not there, -1 it was there and is not, 0 neither
local lease = ARGV[1]
local gateway = string.match(lease, '^.*/')
local effects = {}
for i = 2, #ARGV, 2 do
  local client, value = ARGV[i], ARGV[i + 1]
  local old = redis.call('HGET', KEYS[1], client)
  local holder = old and string.match(old, '^[^\n]*') or ''
  local effect = 0
  if value == '' then
    -- Only what is still under this lease: a newer one may have taken it over.
    if holder == lease then
      redis.call('HDEL', KEYS[1], client)
      effect = -1
    end
  -- A late write of an old attachment must not take it back.
  elseif string.sub(holder, 1, #gateway) ~= gateway or holder <= lease then
    redis.call('HSET', KEYS[1], client, value)
    effect = old and 0 or 1
  end
  effects[#effects + 1] = effect
end
return effects
