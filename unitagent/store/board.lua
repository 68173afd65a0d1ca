-- Reads a Unit's membership table for an operator; changes nothing.
-- KEYS: board (the table), changes. ARGV: single fields. Of all other fields only those of ranks that agents have
-- written are returned, and no oversized value: anybody who may write to the table may have filled it.
local board, changes = KEYS[1], KEYS[2]
local LONGEST, LONGEST_BEAT, RANKS = 16384, 256, 1024 -- as in the exchange

local time = redis.call('TIME')
local answer = {time[1], time[2]}
local function append(field, longest)
  local value = redis.call('HGET', board, field)
  if value and #value <= longest then
    answer[#answer + 1] = field
    answer[#answer + 1] = value
  end
end

for _, field in ipairs(ARGV) do append(field, LONGEST) end
if redis.call('TYPE', changes).ok == 'zset' then
  for _, rank in ipairs(redis.call('ZRANGEBYSCORE', changes, '-inf', '+inf', 'LIMIT', 0, 4 * RANKS)) do
    local index = #rank <= 4 and rank:match('^%d+$') and tonumber(rank)
    if index and index < RANKS and rank == tostring(index) then
      append('r' .. rank, LONGEST)
      append('b' .. rank, LONGEST_BEAT)
    end
  end
end
return answer
