-- Reads the list of all Units. Anybody who may write to it may have written anything.
-- KEYS: units (hash: unit -> line). ARGV: the longest line and name in bytes, the most lines, and the Units that the
-- reader knows, which come first. An oversized line is returned truncated, so that it counts as unreadable, and is
-- removed: reading it would take so long that nobody could read the rest.
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

local function append(unit)
  if lines[unit] and #answer < 2 + 2 * most then
    answer[#answer + 1] = unit:sub(1, name + 1)
    answer[#answer + 1] = lines[unit]:sub(1, longest + 1)
    lines[unit] = nil
  end
end
for index = 4, #ARGV do append(ARGV[index]) end
for index = 1, #all, 2 do append(all[index]) end
return answer
