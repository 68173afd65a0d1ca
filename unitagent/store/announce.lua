-- Rank 0 of a Unit publishes the endpoint of its traffic, or withdraws it. Its last line, which stays, has a lease of 0:
-- it blocks nobody.
-- KEYS: units (hash: unit -> "<at> <lease> <generation> <incarnation> <entry>", milliseconds of this server).
local units = KEYS[1]
local unit, me, generation, lease, entry, tidy = unpack(ARGV)
local DAY = 86400
local LEAP = 1e9 -- generations; one that far ahead of ours is forged

local kind = redis.call('TYPE', units).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', units) end -- of another type: not ours

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- When a line was written, for how long it is valid, and by which generation and incarnation. Treat garbage and future
-- timestamps as infinitely old; no line may block ours for longer than our lease.
local function head(raw)
  local at, lasts, born, holder = raw:match('^(%d+) (%d+) (%d+) (%S+) ')
  at, lasts, born = tonumber(at or 0), tonumber(lasts or 0), tonumber(born or 0)
  if at > now then at = 0 end
  if born > tonumber(generation) + LEAP then born = 0 end
  return at, math.min(lasts, tonumber(lease)), born, holder or ''
end

local at, lasts, born, holder = head(redis.call('HGET', units, unit) or '')
if entry == '' then
  if holder == me then redis.call('HDEL', units, unit) end
  return now
end
-- A former rank 0 that wakes up does not overwrite the one that replaced it.
if holder ~= me and (lease == '0' or born > tonumber(generation) and now - at < lasts) then return now end
redis.call('HSET', units, unit,
  string.format('%.0f %s %s %s %s', now, lease, generation, me, entry))
if tidy == '1' then
  local all = redis.call('HGETALL', units)
  for index = 1, #all, 2 do
    if now - head(all[index + 1]) > DAY * 1000 then redis.call('HDEL', units, all[index]) end
  end
end
if redis.call('TTL', units) < DAY / 2 then redis.call('EXPIRE', units, DAY) end
return now
