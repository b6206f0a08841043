-- Where one user is: every place under the newest lease that wrote it, how many places each lease has, and once there is
-- none, when that was.
--
-- KEYS: 1 the places: `CHANNEL CLIENT` -> serial, serial -> how many, `seen` -> Unix ms
-- ARGV: 1 the lease's serial, 2 for how long it is kept when the last was seen, in ms, 3 '+' or '-', 4.. the places
-- Returns how many places are under the lease.
local places, lease, keep, add = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3] == '+'

local function count(of, by)
  if redis.call('HINCRBY', places, of, by) <= 0 then
    redis.call('HDEL', places, of)
  end
end

for i = 4, #ARGV do
  local held = redis.call('HGET', places, ARGV[i])
  if add then
    if not held or held < lease then
      redis.call('HSET', places, ARGV[i], lease)
      count(lease, 1)
      if held then
        count(held, -1)
      end
    end
  elseif held == lease then
    redis.call('HDEL', places, ARGV[i])
    count(lease, -1)
    -- The last: the key has just ceased to be.
    if keep > 0 and redis.call('EXISTS', places) == 0 then
      local time = redis.call('TIME')
      redis.call('HSET', places, 'seen', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
      redis.call('PEXPIRE', places, keep)
    end
  end
end
if add and redis.call('HDEL', places, 'seen') == 1 then
  redis.call('PERSIST', places)
end
return tonumber(redis.call('HGET', places, lease) or 0)
