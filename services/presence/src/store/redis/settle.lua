-- Announces the leaves of one channel that are due: those who did not come back.
-- KEYS: 1 leaving: who -> `DUE CLIENT`, a line feed, the info  ARGV: 1 PUBLISH or SPUBLISH, 2 the channel in Redis
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local LEAVE = 26

local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  local due, client, info = string.match(held[i + 1], '^(%d+) ([^\n]*)\n(.*)$')
  if not due or tonumber(due) <= now then
    redis.call('HDEL', KEYS[1], held[i])
    if due then
      redis.pcall(ARGV[1], ARGV[2], field(LEAVE, field(10, field(18, client) .. info)))
    end
  end
end
