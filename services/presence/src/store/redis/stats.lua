-- How many members one channel has under each lease, and how many users.
-- KEYS: 1 leases, 2 users
return {redis.call('HGETALL', KEYS[1]), redis.call('HLEN', KEYS[2])}
