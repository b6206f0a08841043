-- Stands before the scripts that judge leases.
--
-- A lease is over once its time has passed while Redis answered. Each of these scripts notes when it ran; so the next one
-- sees for how long none did: an outage of Redis, or of presence as a whole. One that lasted more than a third of a lease is
-- counted out: the lease, if it was live before, lasts its full length from the first answer. A clock that was set, or that is
-- another Redis' after a failover, shows as the same, or as a time that runs backwards, which is treated alike.
--
-- KEYS[1]: a hash: `GATEWAY/SERIAL` -> `ENDS LENGTH`, both in ms, ENDS 0: ended on purpose; `answered` -> when one of these
-- scripts last ran; `born` -> when the hash began, in microseconds: another one after Redis has lost it, or may have lost
-- anything else (`generations.lua`). A lease from before that, by its serial, is outdated: it cannot be renewed.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

-- Every lease, by name: when it ends, and its length; when the hash began; and what `generations.lua` keeps.
local leases, lengths, born, scrubbed, generations = {}, {}, nil, nil, ''

local function whole(number)
  return string.format('%.0f', number)
end

local function keep(lease, ends, length)
  leases[lease], lengths[lease] = ends, length
  redis.call('HSET', KEYS[1], lease, whole(ends) .. ' ' .. whole(length))
end

local function serial_of(lease)
  return tonumber(string.match(lease, '[^/]*$'))
end

-- Whose lease it is, with the slash.
local function gateway_of(lease)
  return string.match(lease, '^.*/')
end

do
  local all = redis.call('HGETALL', KEYS[1])
  local answered
  for i = 1, #all, 2 do
    local ends, length = string.match(all[i + 1], '^(%d+) (%d+)$')
    if ends then
      leases[all[i]], lengths[all[i]] = tonumber(ends), tonumber(length)
    elseif all[i] == 'answered' then
      answered = tonumber(all[i + 1])
    elseif all[i] == 'born' then
      born = tonumber(all[i + 1])
    elseif all[i] == 'scrubbed' then
      scrubbed = tonumber(all[i + 1])
    elseif all[i] == 'generations' then
      generations = all[i + 1]
    end
  end
  if not born then
    born = micros
    redis.call('HSET', KEYS[1], 'born', whole(micros))
  end
  local gap = now - (answered or now)
  for lease, ends in pairs(leases) do
    if (gap < 0 or gap * 3 > lengths[lease]) and ends > answered then
      keep(lease, now + lengths[lease], lengths[lease])
    end
  end
  -- So often is enough, however many call.
  if not answered or gap < 0 or gap >= 100 then
    redis.call('HSET', KEYS[1], 'answered', whole(now))
  end
end

