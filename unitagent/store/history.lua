-- Appends events to a Unit's history, dated by this server's clock, since the machines' clocks differ.
-- KEYS: history (stream: at in microseconds, and the event as `moment`). ARGV: how many events to keep, then for each
-- event the microseconds that it has waited, and the event.
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
