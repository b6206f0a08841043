-- Members of one channel: of many, up to a limit after a client, in order; of few, all of them in any order.
-- KEYS: 1 the members, 2 order  ARGV: 1 client or '', 2 limit
-- Returns whether there are more, and client, value, client, value, …
if redis.call('EXISTS', KEYS[2]) == 0 then
  return {0, redis.call('HGETALL', KEYS[1])}
end
local from, limit = ARGV[1] == '' and '-' or '(' .. ARGV[1], tonumber(ARGV[2])
local clients = redis.call('ZRANGEBYLEX', KEYS[2], from, '+', 'LIMIT', 0, limit + 1)
local page = {}
for i = 1, math.min(#clients, limit) do
  page[#page + 1] = clients[i]
  page[#page + 1] = redis.call('HGET', KEYS[1], clients[i]) or ''
end
return {#clients > limit and 1 or 0, page}
