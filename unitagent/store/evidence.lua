-- Put what a rank has collected about a generation, or only count the ranks that have; a later generation takes
-- the place of an earlier one.
-- KEYS: the hash. ARGV: the generation, the rank and its entry (both empty: only count).
local key, generation, rank, entry = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local kept = tonumber(redis.call('HGET', key, 'generation') or '') or 0
if kept > generation or (kept < generation and rank == '') then return 0 end
if kept < generation then
  redis.call('DEL', key)
  redis.call('HSET', key, 'generation', ARGV[1], 'count', '0')
end
local count = tonumber(redis.call('HGET', key, 'count') or '') or 0
if rank ~= '' then
  if redis.call('HSETNX', key, rank, entry) == 1 then
    count = count + 1
    redis.call('HSET', key, 'count', tostring(count))
  else
    redis.call('HSET', key, rank, entry)
  end
  redis.call('EXPIRE', key, 86400)
end
return count
