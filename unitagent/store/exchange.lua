-- One exchange with the notice-board of a Unit: put my record, keep the maxima, answer what is new to me.
-- It knows nothing of phases, and whatever it loses the agents put back from their memories.
-- KEYS: board (hash: r<rank> record, h<rank> holder, b<rank> beat, and single fields), changes (rank -> version),
-- and history, which is only kept from being forgotten.
local board, changes = KEYS[1], KEYS[2]
local rank, me, count, record, take, seen, generation, failure, order, notify, since, epoch, channel, obeyed, size =
  unpack(ARGV, 1, 15)
local LONGEST, DAY = 16384, 86400 -- bytes of a value worth reading; seconds that an abandoned Unit is remembered
local LONGEST_BEAT = 256 -- bytes
local RANKS = 1024 -- the most that a Unit has
local FEW = 16 -- records of ranks that a Unit of this size does not have: they show that it has another size elsewhere
local YEAR = 366 * DAY * 1e6 -- microseconds
local SOON = 600 * 1000 -- milliseconds
local LEAP = 1e9 -- generations; one so far ahead of an agent's was made up, and is not kept

local function get(field, longest)
  local value = redis.call('HGET', board, field)
  return value and #value <= (longest or LONGEST) and value or ''
end
local function number(text) -- whole, and exact in a double; anything else counts as 0
  local value = text:match('^%d+$') and tonumber(text) or 0
  return value < 2 ^ 53 and value or 0
end
local function exact(value) return string.format('%.0f', value) end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Most exchanges are heartbeats of an agent that has nothing to say and to which nothing is new. They are answered
-- like all others, with a fourth of the work; whatever is not as it should be is left to the rest of this script.
local function beat_quietly()
  if rank == '' or record == '' or since == '0' or notify == '1' or failure ~= '' or order ~= '' then return end
  local fields = {'born', 'version', 'generation', 'failure', 'order', 'ordered', 'h' .. rank, 'r' .. rank, 'b' .. rank}
  local own = #fields
  for index = 16, #ARGV do fields[#fields + 1] = 'b' .. ARGV[index] end
  local found = redis.pcall('HMGET', board, unpack(fields)) -- an error where the right or the hash is missing
  if found.err or found[1] ~= epoch or found[2] ~= since or found[3] ~= generation then return end
  local last_failure, last_order, ordered = found[4] or '', found[5] or '', number(found[6] or '')
  local beat = found[own] or ''
  local _, _, beaten, at = beat:find(' (%d+) (%d+)$')
  if found[7] ~= me or found[8] ~= record or beat:sub(1, #me + 1) ~= me .. ' ' then return end
  if #last_failure > LONGEST or #last_order > LONGEST or #beat > LONGEST_BEAT then return end
  if not at or number(count) < number(beaten) or number(obeyed) > ordered or ordered > now + YEAR then return end
  if math.floor(number(at) / SOON) ~= math.floor(now / 1000 / SOON) then return end -- keep the keys from expiring
  local listed = redis.pcall('ZSCORE', changes, rank)
  if not listed or listed.err then return end
  found[own] = me .. ' ' .. count .. ' ' .. exact(now / 1000)
  redis.call('HSET', board, 'b' .. rank, found[own])
  local beats = {}
  for index = 16, #ARGV do
    local beat = ARGV[index] == rank and found[own] or found[own + index - 15] or ''
    beats[#beats + 1] = ARGV[index]
    beats[#beats + 1] = #beat <= LONGEST_BEAT and beat or ''
  end
  return {{}, epoch, exact(now), since, since, me, generation, last_failure, last_order, {}, beats}
end
local quiet = beat_quietly()
if quiet then return quiet end

local broken = {} -- keys of another type are not ours: remove them, and be a new board
for key, kind in pairs({[board] = 'hash', [changes] = 'zset'}) do
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', key)
    broken[#broken + 1] = found .. ' ' .. key
  end
end
if #broken > 0 then redis.call('HDEL', board, 'born') end

redis.call('HSETNX', board, 'born', exact(now) .. ' ' .. me)
local born, version, highest = get('born'), number(get('version')), number(get('generation'))

local credible = number(generation) + LEAP
if number(generation) > highest or highest > credible then
  highest = number(generation)
  redis.call('HSET', board, 'generation', generation)
end
local failed = get('failure'):match('^%d+') -- its first word is the generation that failed
if failed and number(failed) > credible then failed = nil end
if failure ~= '' and (not failed or number(failure:match('^%d+')) > number(failed)) then
  redis.call('HSET', board, 'failure', failure)
end
local ordered = number(get('ordered')) -- the highest number of an order that any agent knows of
if number(obeyed) > ordered or ordered > now + YEAR then -- beyond that no clock leads: somebody made it up
  ordered = number(obeyed)
  redis.call('HSET', board, 'ordered', obeyed)
end
if order ~= '' then -- led by its generation and its number, so that no race gives it to another one
  local last = number(get('order'):match('^%d+ (%d+) ') or '')
  last = math.max(last > now + YEAR and 0 or last, ordered)
  redis.call('HSET', board, 'order', exact(highest) .. ' ' .. exact(math.max(last + 1, now)) .. ' ' .. order)
end

local holder, beat = rank ~= '' and get('h' .. rank) or '', get('b' .. rank, LONGEST_BEAT)
if beat:sub(1, #holder + 1) ~= holder .. ' ' then holder = '' end -- who never beat fences nobody
local beaten = number(beat:match(' (%d+) ') or '')
if holder == me and number(count) < beaten then record = '' end -- it comes too late
if holder == take and number(seen) < beaten then take = '' end -- who was silent has come back
if record ~= '' and (holder == '' or holder == me or holder == take) then
  if redis.call('HGET', board, 'r' .. rank) ~= record or not redis.call('ZSCORE', changes, rank) then
    version = math.max(version + 1, now) -- by the clock too, so that a failover never repeats one
    redis.call('HSET', board, 'r' .. rank, record, 'version', exact(version))
    redis.call('ZADD', changes, exact(version), rank)
  end
  redis.call('HSET', board, 'h' .. rank, me, 'b' .. rank, me .. ' ' .. count .. ' ' .. exact(now / 1000))
  holder = me
end

if epoch ~= born or number(since) > version then since = '0' end
local records, beats = {}, {}
local strange, beyond = false, {}
local function tell(changed)
  records[#records + 1] = changed
  records[#records + 1] = get('r' .. changed)
end
local last = since == '0' and '+inf' or exact(version) -- a version that is none would be told with every exchange
for _, changed in ipairs(redis.call('ZRANGEBYSCORE', changes, '(' .. since, last, 'LIMIT', 0, 4 * RANKS)) do
  local index = #changed <= 4 and changed:match('^%d+$') and tonumber(changed)
  if index and index < RANKS and changed == tostring(index) then
    if index < tonumber(size) then tell(changed) else beyond[#beyond + 1] = changed end
  else
    strange = true
  end
end
for index = math.max(1, #beyond - FEW + 1), #beyond do tell(beyond[index]) end -- who lives has changed last
if strange then -- nobody gets to read names that are no ranks, however long or many: begin anew with the next look
  redis.call('DEL', changes)
  redis.call('HDEL', board, 'born')
  broken[#broken + 1] = 'list with strange names ' .. changes
end
for index = 16, #ARGV do
  beats[#beats + 1] = ARGV[index]
  beats[#beats + 1] = get('b' .. ARGV[index], LONGEST_BEAT)
end

if notify == '1' then redis.call('PUBLISH', channel, 'look ' .. me) end
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) < DAY / 2 then redis.call('EXPIRE', key, DAY) end
end
return {broken, born, exact(now), exact(version), since, holder, exact(highest), get('failure'), get('order'),
  records, beats}
