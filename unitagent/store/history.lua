-- Keeps moments of a Unit's history, dated by this server's clock: every machine has another one.
-- KEYS: history (stream: at in microseconds, moment). ARGV: moments to keep at most, then for each moment the
-- microseconds that it has waited, and itself.
local history, DAY = KEYS[1], 86400

local kind = redis.call('TYPE', history).ok
if kind == 'stream' or kind == 'none' then kind = '' else redis.call('DEL', history) end -- of another type: not ours

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for index = 2, #ARGV, 2 do
  local at = string.format('%.0f', math.max(0, now - ARGV[index]))
  redis.call('XADD', history, 'MAXLEN', '~', ARGV[1], '*', 'at', at, 'moment', ARGV[index + 1])
end
if redis.call('TTL', history) < DAY / 2 then redis.call('EXPIRE', history, DAY) end
return kind
