-- Runs one command on one meter: everything that a decision needs, in one round trip. memory.ts is its TypeScript twin.
-- engine.ts defines the commands. test/quotas/counters/conformance.ts tests both.
--
-- KEYS[1]  hash, the state of the meter
--            g   generation of the counters
--            n   generation that waits for its prime
--            k   token that the prime must present
--            o   offset at which the day is counted, in hours
--            d   day, counted from 1970-01-01
--            du  points used on the day           dr  points reserved on the day
--            wf  first day of the window          wt  first day after the window
--            wu  points used in the window        wr  points reserved in the window
--            l<operation>  one field for each lease:
--                "<state> <day> <offset of the day> <points> <granted ms> <expire ms> <settled points or -> <holder>"
--                state: a active, e expired, r released, s settled
-- KEYS[2]  sorted set of operations
--            score > 0   live lease: when it expires, in ms
--            score < 0   ended lease: minus the time when it is forgotten, in ms
--            -inf        "@<generation>", which shows that neither key was lost
--
-- ARGV[1]  command
-- ARGV[2]  generation
-- ARGV[3]  the user's offset from UTC, in hours
-- ARGV[4]  time in ms, or "" for Redis' own clock
-- ARGV[5]  how long an ended operation is remembered, in ms
-- ARGV[6]  how many ended operations are remembered
-- ARGV[7]  number of quotas
-- then for each quota: from, to, points per request, points per day, points per window, concurrency; "" if absent
-- then for the command: operation, points, ttl in ms, holder
--
-- Reply    {"missing", token, now, day, from, to}   prime the meter for these days
--          {"stale", generation}                    the caller knows an earlier generation
--          {kind, now, day, day end, from, to, window end, day used, window used, day reserved, window reserved,
--           live leases, index of the quota or 0, state before, lease, extra}
--            kind   done, refused, conflict, unknown or leases; see Reply in engine.ts
--            lease  "<operation> <record>", or ""
--            extra  refused: names of the violated limits; leases: live leases, each as "<operation> <record>"

local DAY, HOUR = 86400000, 3600000
local remember, remembered = tonumber(ARGV[5]), tonumber(ARGV[6])
-- A lease lives for at most a day (lease.proto) and is remembered after that.
local idle = DAY + remember
local state, leases = KEYS[1], KEYS[2]
local command, generation, timezone = ARGV[1], ARGV[2], tonumber(ARGV[3])

local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number) return string.format('%.0f', number) end

-- Converts between days from 1970-01-01 and months of the civil calendar. Source: Howard Hinnant, "chrono-Compatible
-- Low-Level Date Algorithms".
local function civil(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year, month
end

local function first_of(year, month)
  local y = month <= 2 and year - 1 or year
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (month > 2 and month - 3 or month + 9) + 2) / 5)
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  return era * 146097 + doe - 719468
end

-- Returns the index of the quota of a day, and the window of that day.
local function rules_of(day)
  local chosen
  for index = 1, tonumber(ARGV[7]) do
    local base = 8 + (index - 1) * 6
    local from = ARGV[base]
    if from == '' then
      chosen = chosen or index
    elseif tonumber(from) <= day and day < tonumber(ARGV[base + 1]) then
      return index, tonumber(from), tonumber(ARGV[base + 1])
    end
  end
  local year, month = civil(day)
  local next_year, next_month = year, month + 1
  if next_month == 13 then next_year, next_month = year + 1, 1 end
  return chosen, first_of(year, month), first_of(next_year, next_month)
end

local own = 8 + tonumber(ARGV[7]) * 6
local operation, points, ttl, holder = ARGV[own], tonumber(ARGV[own + 1]), tonumber(ARGV[own + 2]), ARGV[own + 3]

local kept = redis.call('HMGET', state, 'g', 'o', 'd', 'du', 'dr', 'wf', 'wt', 'wu', 'wr', 'l' .. (operation or ''),
  'n', 'k')
local latest = math.max(tonumber(kept[1] or 0), tonumber(kept[11] or 0))
if latest > tonumber(generation) then return { 'stale', latest } end

-- The token of a prime. Losing this key voids it, so that a snapshot read before the loss is never primed after it.
local token = kept[11] == generation and kept[12]
local there = kept[1] == generation and redis.call('ZSCORE', leases, '@' .. generation)
if kept[1] == generation and not there then
  -- One of the two keys is lost, so the other key and snapshots read for it are void.
  redis.call('DEL', state, leases)
  token = nil
end
local function missing(day, from, to)
  if not token then
    -- Redis' own clock, even if the caller sets the time: two losses never have one token.
    local time = redis.call('TIME')
    token = time[1] .. '.' .. time[2]
    -- From now on nothing is granted in an earlier generation: the snapshot might miss such a grant.
    redis.call('HSET', state, 'n', generation, 'k', token)
    redis.call('PEXPIRE', state, idle)
  end
  return { 'missing', token, now, day, from, to }
end

if not there then
  local day = math.floor((now + timezone * HOUR) / DAY)
  local _, from, to = rules_of(day)
  return missing(day, from, to)
end
local offset, day = tonumber(kept[2]), tonumber(kept[3])
local day_used, day_reserved = tonumber(kept[4]), tonumber(kept[5])
local from, to = tonumber(kept[6]), tonumber(kept[7])
local window_used, window_reserved = tonumber(kept[8]), tonumber(kept[9])
-- The record of the operation that the command names.
local record = kept[10]
local running = redis.call('ZCOUNT', leases, '(0', '+inf')

local function parse(record)
  local s, d, o, p, g, e, c, h = string.match(record, '^(%a) (%-?%d+) (%-?%d+) (%d+) (%d+) (%d+) (%S+) (.*)$')
  return { state = s, day = tonumber(d), offset = tonumber(o), points = tonumber(p), granted = tonumber(g),
    expire = tonumber(e), settled = tonumber(c), holder = h }
end

local function pack(lease)
  return lease.state .. ' ' .. text(lease.day) .. ' ' .. text(lease.offset) .. ' ' .. text(lease.points) .. ' '
    .. text(lease.granted) .. ' ' .. text(lease.expire) .. ' ' .. (lease.settled and text(lease.settled) or '-') .. ' ' .. lease.holder
end

-- Adds (sign 1) or removes (sign -1) the slot and the reserved points of a lease.
local function reserve(lease, sign)
  running = running + sign
  if lease.day == day then day_reserved = day_reserved + sign * lease.points end
  if from <= lease.day and lease.day < to then window_reserved = window_reserved + sign * lease.points end
end

-- Stores a lease. forget: when an ended lease is forgotten, in ms; by default ARGV[5] from now.
local function save(name, lease, forget)
  local running = lease.state == 'a'
  local holder = lease.holder
  -- An expired lease keeps its holder, because it may be taken again. The command that ends a lease returns the holder.
  if lease.state == 'r' or lease.state == 's' then lease.holder = '' end
  local packed = pack(lease)
  if name == operation then record = packed end
  redis.call('HSET', state, 'l' .. name, packed)
  lease.holder = holder
  redis.call('ZADD', leases, running and text(lease.expire) or '-' .. text(forget or now + remember), name)
end

local function drop(name)
  redis.call('ZREM', leases, name)
  redis.call('HDEL', state, 'l' .. name)
  if name == operation then record = nil end
end

-- Charges a settled lease. Voids the token: a snapshot read before this lacks the charge.
local function charge(lease)
  if lease.day == day then day_used = day_used + lease.settled end
  if from <= lease.day and lease.day < to then window_used = window_used + lease.settled end
  if token then redis.call('HDEL', state, 'k') end
end

-- Expired leases free their slots and points. Operations that ended long ago are forgotten.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', text(now))) do
  local lease = parse(redis.call('HGET', state, 'l' .. name))
  reserve(lease, -1)
  lease.state = 'e'
  save(name, lease, lease.expire + remember)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '-' .. text(now), '(0', 'LIMIT', 0, 100)) do
  -- Scores from -now to 0 are times in the past.
  drop(name)
end
-- One member is the generation, not an operation.
local surplus = redis.call('ZCARD', leases) - running - 1 - remembered
if surplus > 0 then
  for _, name in ipairs(redis.call('ZREVRANGEBYSCORE', leases, '(0', '(-inf', 'LIMIT', 0, math.min(surplus, 100))) do
    -- After the clock was set back, the latest ends come first: an operation that was restored for this command stays.
    if name ~= operation then drop(name) end
  end
end

-- A day ends at the later midnight of its own offset and the user's present offset, so no day is granted twice.
local function day_end() return (day + 1) * DAY - math.min(offset, timezone) * HOUR end
if now >= day_end() then
  day, offset = math.floor((now + timezone * HOUR) / DAY), timezone
  day_used, day_reserved = 0, 0
end
local chosen, needed_from, needed_to = rules_of(day)
if needed_from ~= from or needed_to ~= to then
  -- Only the ledger knows the points of a window that began on an earlier day.
  if needed_from ~= day then
    redis.call('HSET', state, 'dr', text(day_reserved), 'wr', text(window_reserved), 'o', text(offset), 'd', text(day),
      'du', text(day_used))
    return missing(day, needed_from, needed_to)
  end
  from, to, window_used, window_reserved = needed_from, needed_to, day_used, day_reserved
end

local function limit(place)
  return chosen and tonumber(ARGV[8 + (chosen - 1) * 6 + place]) or nil
end

-- Lists the limits that a lease of that day would violate. Empty without a quota. nil if the lease fits.
local function violations(of_day, wanted, is_new)
  local found = {}
  if not chosen then return found end
  local function over(place, name, value)
    local most = limit(place)
    if most and (value > most or most == 0) then found[#found + 1] = name end
  end
  if is_new then over(2, 'pointsPerRequest', wanted) end
  if of_day == day then over(3, 'pointsPerDay', day_used + day_reserved + wanted) end
  if from <= of_day and of_day < to then over(4, 'pointsPerDateWindow', window_used + window_reserved + wanted) end
  over(5, 'maxConcurrentExecution', running + 1)
  return #found > 0 and found or nil
end

local function reply(kind, before, lease, extra)
  redis.call('HSET', state, 'o', text(offset), 'd', text(day), 'du', text(day_used), 'dr', text(day_reserved),
    'wf', text(from), 'wt', text(to), 'wu', text(window_used), 'wr', text(window_reserved))
  redis.call('PEXPIRE', state, idle)
  redis.call('PEXPIRE', leases, idle)
  return { kind, now, day, day_end(), from, to, to * DAY - math.min(offset, timezone) * HOUR, text(day_used),
    text(window_used), text(day_reserved), text(window_reserved),
    running, chosen or 0, before or '',
    lease and operation .. ' ' .. pack(lease) or '', extra or {} }
end

if command == 'usage' then return reply('done') end
if command == 'leases' then
  local live = {}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', '+inf')) do
    live[#live + 1] = name .. ' ' .. redis.call('HGET', state, 'l' .. name)
  end
  return reply('leases', nil, nil, live)
end
if command == 'check' then
  local found = violations(day, points, true)
  return reply(found and 'refused' or 'done', nil, nil, found)
end

local lease = record and parse(record)
local before = lease and lease.state

-- Takes an expired lease again if there is room.
local function take_again()
  local found = violations(lease.day, lease.points, false)
  if found then return reply('refused', before, lease, found) end
  lease.state, lease.expire = 'a', now + ttl
  reserve(lease, 1)
  save(operation, lease)
  return reply('done', before, lease)
end

if command == 'acquire' then
  if before == 'a' and lease.points == points then return reply('done', before, lease) end
  if before == 'a' or before == 's' then return reply('conflict', before, lease) end
  local found = violations(day, points, true)
  if found then return reply('refused', nil, nil, found) end
  lease = { state = 'a', day = day, offset = offset, points = points, granted = now, expire = now + ttl, holder = holder }
  reserve(lease, 1)
  save(operation, lease)
  return reply('done', before, lease)
end

if command == 'restore' then
  if lease then return reply('done', before, lease) end
  lease = parse(holder)
  if lease.state == 'a' then
    if lease.expire > now then reserve(lease, 1) else lease.state = 'e' end
  end
  save(operation, lease)
  return reply('done', nil, lease)
end

if not lease then return reply('unknown') end

if command == 'renew' then
  if before == 'e' then return take_again() end
  if before == 'a' then
    lease.expire = math.max(lease.expire, now + ttl)
    save(operation, lease)
  end
  return reply('done', before, lease)
end

if command == 'release' then
  if before == 'a' or before == 'e' then
    if before == 'a' then reserve(lease, -1) end
    lease.state = 'r'
    save(operation, lease)
  end
  return reply('done', before, lease)
end

-- settle
if before == 's' then return reply(lease.settled == points and 'done' or 'conflict', before, lease) end
if before == 'a' then reserve(lease, -1) end
lease.state, lease.settled = 's', points
charge(lease)
save(operation, lease)
return reply('done', before, lease)
