-- Takes what was looked at off the list, but for what is to be looked at again later.
-- KEYS: 1 by channel and client, when to look, in Unix ms  ARGV: 1 when that was, 2.. `CHANNEL CLIENT`
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if at and tonumber(at) <= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
