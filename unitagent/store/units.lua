-- Reads the list of all Units, as far as it can be one: whoever writes there may have written anything.
-- KEYS: units (hash: unit -> line). ARGV: bytes of a line and of a name worth reading, lines at most, and the Units
-- that the reader knows, which come first. What is longer is told cut, as one that cannot be read, and removed: it
-- takes this server so long that nobody could read the rest.
local units, longest, name, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local kind = redis.call('TYPE', units).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', units) end -- of another type: not ours
local all = redis.call('HGETALL', units)
local lines, answer = {}, {time[1], time[2]}
for index = 1, #all, 2 do
  lines[all[index]] = all[index + 1]
  if #all[index] > name or #all[index + 1] > longest then redis.call('HDEL', units, all[index]) end
end

local function tell(unit)
  if lines[unit] and #answer < 2 + 2 * most then
    answer[#answer + 1] = unit:sub(1, name + 1)
    answer[#answer + 1] = lines[unit]:sub(1, longest + 1)
    lines[unit] = nil
  end
end
for index = 4, #ARGV do tell(ARGV[index]) end
for index = 1, #all, 2 do tell(all[index]) end
return answer
