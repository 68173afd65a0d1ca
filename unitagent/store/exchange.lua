-- One exchange with the membership table of a Unit: write the caller's record, keep the maxima, return what is
-- new to the caller. The script knows nothing of phases; agents rewrite from memory whatever the store loses.
-- KEYS: board (the table, a hash: r<rank> record, h<rank> holder, b<rank> heartbeat, and single fields), changes
-- (sorted set: rank by version), and history, whose expiry is postponed here, too.
-- ARGV: rank (empty: read only), the caller's incarnation, its count of heartbeats and its record; take, the
-- incarnation that it may replace, and seen, that one's last count known to the caller; the caller's generation,
-- failure and order (each may be empty); notify, "1" to wake the others; since and epoch, the version and the
-- table's birth as of the caller's last exchange; the channel; obeyed, the highest number of an order that the
-- caller knows of; the Unit's size; a digest of all records that the caller knows, if it wants to be certain of
-- them, or empty; then the ranks whose heartbeats it wants.
local board, changes = KEYS[1], KEYS[2]
local rank, me, count, record, take, seen, generation, failure, order, notify, since, epoch, channel, obeyed, size,
  digest = unpack(ARGV, 1, 16)
local FIRST = 17 -- of ARGV: where those ranks begin
local LONGEST, DAY = 16384, 86400 -- bytes of a value worth reading; seconds that an abandoned Unit is remembered
local LONGEST_BEAT = 256 -- bytes
local RANKS = 1024 -- the most that a Unit has
local FEW = 16 -- records of ranks beyond this size that are returned: they show that another agent has another size
local YEAR = 366 * DAY * 1e6 -- microseconds
local SOON = 600 * 1000 -- milliseconds
local LEAP = 1e9 -- generations; one that far ahead of an agent's is forged, and not kept

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

-- Most exchanges are heartbeats with nothing new in either direction. They get the same answer for a quarter of the
-- work. Anything unexpected is left to the rest of this script.
local function beat_quietly()
  if rank == '' or record == '' or since == '0' or notify == '1' or failure ~= '' or order ~= '' or digest ~= '' then
    return
  end
  local fields = {'born', 'version', 'generation', 'failure', 'order', 'ordered', 'h' .. rank, 'r' .. rank, 'b' .. rank}
  local own = #fields
  for index = FIRST, #ARGV do fields[#fields + 1] = 'b' .. ARGV[index] end
  local values = redis.pcall('HMGET', board, unpack(fields)) -- an error where the right or the hash is missing
  if values.err or values[1] ~= epoch or values[2] ~= since or values[3] ~= generation then return end
  local last_failure, last_order, ordered = values[4] or '', values[5] or '', number(values[6] or '')
  local beat = values[own] or ''
  local _, _, beaten, at = beat:find(' (%d+) (%d+)$')
  if values[7] ~= me or values[8] ~= record or beat:sub(1, #me + 1) ~= me .. ' ' then return end
  if #last_failure > LONGEST or #last_order > LONGEST or #beat > LONGEST_BEAT then return end
  if not at or number(count) < number(beaten) or number(obeyed) > ordered or ordered > now + YEAR then return end
  if math.floor(number(at) / SOON) ~= math.floor(now / 1000 / SOON) then return end -- postpone the expiry
  local listed = redis.pcall('ZSCORE', changes, rank)
  if not listed or listed.err then return end
  values[own] = me .. ' ' .. count .. ' ' .. exact(now / 1000)
  redis.call('HSET', board, 'b' .. rank, values[own])
  local beats = {}
  for index = FIRST, #ARGV do
    local beat = ARGV[index] == rank and values[own] or values[own + index - FIRST + 1] or ''
    beats[#beats + 1] = ARGV[index]
    beats[#beats + 1] = #beat <= LONGEST_BEAT and beat or ''
  end
  return {{}, epoch, exact(now), since, since, me, generation, last_failure, last_order, {}, beats}
end
local quiet = beat_quietly()
if quiet then return quiet end

local broken = {} -- keys of another type are not ours: remove them, and start a new table
for key, kind in pairs({[board] = 'hash', [changes] = 'zset'}) do
  local actual = redis.call('TYPE', key).ok
  if actual ~= kind and actual ~= 'none' then
    redis.call('DEL', key)
    broken[#broken + 1] = actual .. ' ' .. key
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
local failed = get('failure'):match('^%d+') -- a failure begins with the generation that failed
if failed and number(failed) > credible then failed = nil end
if failure ~= '' and (not failed or number(failure:match('^%d+')) > number(failed)) then
  redis.call('HSET', board, 'failure', failure)
end
local ordered = number(get('ordered')) -- the highest order number that any agent knows of
if number(obeyed) > ordered or ordered > now + YEAR then -- no clock is that far ahead: it is forged
  ordered = number(obeyed)
  redis.call('HSET', board, 'ordered', obeyed)
end
if order ~= '' then -- stored behind its generation and number, so that no race assigns it to another generation
  local last = number(get('order'):match('^%d+ (%d+) ') or '')
  last = math.max(last > now + YEAR and 0 or last, ordered)
  redis.call('HSET', board, 'order', exact(highest) .. ' ' .. exact(math.max(last + 1, now)) .. ' ' .. order)
end

local holder, beat = rank ~= '' and get('h' .. rank) or '', get('b' .. rank, LONGEST_BEAT)
if beat:sub(1, #holder + 1) ~= holder .. ' ' then holder = '' end -- an incarnation without a heartbeat fences nobody
local beaten = number(beat:match(' (%d+) ') or '')
if holder == me and number(count) < beaten then record = '' end -- a delayed duplicate
if holder == take and number(seen) < beaten then take = '' end -- the silent holder is back
if record ~= '' and (holder == '' or holder == me or holder == take) then
  if redis.call('HGET', board, 'r' .. rank) ~= record or not redis.call('ZSCORE', changes, rank) then
    version = math.max(version + 1, now) -- also by the clock, so that a failover never repeats one
    redis.call('HSET', board, 'r' .. rank, record, 'version', exact(version))
    redis.call('ZADD', changes, exact(version), rank)
  end
  redis.call('HSET', board, 'h' .. rank, me, 'b' .. rank, me .. ' ' .. count .. ' ' .. exact(now / 1000))
  holder = me
end

if epoch ~= born or number(since) > version then since = '0' end
if digest ~= '' and since == exact(version) then -- nothing is new; but is this what the caller has read?
  local values = {}
  for index = 0, tonumber(size) - 1 do values[#values + 1] = get('r' .. index) end
  if redis.sha1hex(table.concat(values, '\n')) ~= digest then since = '0' end
end
local records, beats = {}, {}
local strange, beyond = false, {}
local function append(changed)
  records[#records + 1] = changed
  records[#records + 1] = get('r' .. changed)
end
local last = since == '0' and '+inf' or exact(version) -- an invalid version would be returned by every exchange
for _, changed in ipairs(redis.call('ZRANGEBYSCORE', changes, '(' .. since, last, 'LIMIT', 0, 4 * RANKS)) do
  local index = #changed <= 4 and changed:match('^%d+$') and tonumber(changed)
  if index and index < RANKS and changed == tostring(index) then
    if index < tonumber(size) then append(changed) else beyond[#beyond + 1] = changed end
  else
    strange = true
  end
end
for index = math.max(1, #beyond - FEW + 1), #beyond do append(beyond[index]) end -- the living changed last
if strange then -- invalid ranks, however long or many, are returned to nobody: start over at the next exchange
  redis.call('DEL', changes)
  redis.call('HDEL', board, 'born')
  broken[#broken + 1] = 'list with strange names ' .. changes
end
for index = FIRST, #ARGV do
  beats[#beats + 1] = ARGV[index]
  beats[#beats + 1] = get('b' .. ARGV[index], LONGEST_BEAT)
end

if notify == '1' then redis.call('PUBLISH', channel, 'look ' .. me) end
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) < DAY / 2 then redis.call('EXPIRE', key, DAY) end
end
return {broken, born, exact(now), exact(version), since, holder, exact(highest), get('failure'), get('order'),
  records, beats}
