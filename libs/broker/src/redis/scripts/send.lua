-- Publications of one caller to one channel without a stream, in their order: each is sent to the subscribers once.
--
-- KEYS: the top, and the answers, so that they are known to be here where a slot of a Cluster is not just on its way.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 the Redis channel; then 3 for each publication: its envelope, the key of its answer ('': none) and
--       how long that is kept, in milliseconds.
-- Returns for each publication what the script that publishes returns; the answer is "0:".
local command, channel = ARGV[1], ARGV[2]
local HEAD, FIELDS, ANSWER = 2, 3, '0:'

-- All are read before anything is written: a key may be of another type.
local first = {}
for at = HEAD + 1, #ARGV, FIELDS do
  local once = ARGV[at + 1]
  first[once] = once ~= '' and redis.call('GET', once)
end

local results = {}
for at = HEAD + 1, #ARGV, FIELDS do
  local envelope, once, window = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if first[once] then
    results[#results + 1] = {1, first[once]}
  else
    -- It is written before anything is sent: a Redis that is full, or a replica by now, refuses what writes, and what it has
    -- sent by then would be sent again by each repeat.
    if once ~= '' then
      redis.call('SET', once, ANSWER, 'PX', window)
      first[once] = ANSWER
    end
    -- Redis may not allow the channel.
    local received = redis.pcall(command, channel, envelope)
    local refused = type(received) == 'table' and received.err
    if refused and once ~= '' then
      redis.call('DEL', once)
      first[once] = false
    end
    results[#results + 1] = refused and {2, refused} or {0, ANSWER}
  end
end
return results
