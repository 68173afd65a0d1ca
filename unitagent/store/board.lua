-- Reads a Unit's board as an operator does, and changes nothing.
-- KEYS: board, changes. ARGV: single fields. Of the rest it tells the ranks that agents have written, and of
-- each value only what is worth reading: whoever writes to the board may have filled it with anything.
local board, changes = KEYS[1], KEYS[2]
local LONGEST, LONGEST_BEAT, RANKS = 16384, 256, 1024 -- as in the exchange

local time = redis.call('TIME')
local answer = {time[1], time[2]}
local function tell(field, longest)
  local value = redis.call('HGET', board, field)
  if value and #value <= longest then
    answer[#answer + 1] = field
    answer[#answer + 1] = value
  end
end

for _, field in ipairs(ARGV) do tell(field, LONGEST) end
if redis.call('TYPE', changes).ok == 'zset' then
  for _, rank in ipairs(redis.call('ZRANGEBYSCORE', changes, '-inf', '+inf', 'LIMIT', 0, 4 * RANKS)) do
    local index = #rank <= 4 and rank:match('^%d+$') and tonumber(rank)
    if index and index < RANKS and rank == tostring(index) then
      tell('r' .. rank, LONGEST)
      tell('b' .. rank, LONGEST_BEAT)
    end
  end
end
return answer
