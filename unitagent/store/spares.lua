-- The list of a Unit's spares: write the caller's line in its place, or remove it, and return all lines.
-- KEYS: spares (hash: number -> "<incarnation> <at> <entry>", milliseconds of this server).
-- ARGV: the lowest number, how many there are at most; number (empty: only read), the caller's incarnation, its entry
-- (empty: remove its line), and the milliseconds for which another's line keeps its place. Only these numbers are read,
-- and no oversized value: anybody who may write to the table may have filled it.
local spares = KEYS[1]
local first, most, number, me, entry, fresh = unpack(ARGV)
local DAY, LONGEST = 86400, 2048 -- seconds that a line is kept; bytes of one

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kind = redis.call('TYPE', spares).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', spares) end -- of another type: not ours

local function read(place)
  local raw = redis.call('HGET', spares, place) or ''
  if #raw > LONGEST then return end
  local holder, at, line = raw:match('^(%S+) (%d+) (.+)$')
  at = tonumber(at or 0)
  if not holder or at > now + tonumber(fresh) or now - at > DAY * 1000 then return end -- garbage, or from the future
  return holder, math.max(0, now - at), line
end

if number ~= '' and tonumber(number) >= tonumber(first) and tonumber(number) < tonumber(first) + tonumber(most) then
  local holder, age = read(number)
  if entry == '' then
    if holder == me then redis.call('HDEL', spares, number) end
  elseif not holder or holder == me or age > tonumber(fresh) then
    redis.call('HSET', spares, number, string.format('%s %.0f %s', me, now, entry))
    if redis.call('TTL', spares) < DAY / 2 then redis.call('EXPIRE', spares, DAY) end
  end
end
local answer = {}
for place = tonumber(first), tonumber(first) + tonumber(most) - 1 do
  local holder, age, line = read(place)
  if holder then
    for _, value in ipairs({place, age, line}) do answer[#answer + 1] = value end
  end
end
return answer
