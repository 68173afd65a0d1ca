-- Replace the failure that is kept by the same one with more words, unless another one has taken its place.
-- KEYS: board. ARGV: the failure as it was read, and the one that replaces it.
if redis.call('HGET', KEYS[1], 'failure') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'failure', ARGV[2])
return 1
