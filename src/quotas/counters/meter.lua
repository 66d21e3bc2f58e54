-- One command on one meter: everything that a decision needs, in one round trip. Its twin in TypeScript is memory.ts;
-- engine.ts says what each command promises, and one suite of tests holds both to it.
--
-- KEYS[1]  hash: g generation, n generation that is about to be primed, k token that its prime must present,
--          o offset in hours at which the day is counted, d day, du dr points used and reserved of the day,
--          wf wt first day and end of the window, wu wr its points, and one field "l<operation>" a lease:
--          "<state> <day> <offset of the day> <points> <granted ms> <expire ms> <settled points or -> <holder>"
-- KEYS[2]  sorted set of operations: running leases by when they expire; ended ones by minus when they are forgotten;
--          "@<generation>" at -inf, by which the loss of one of the two keys is noticed
-- ARGV     1 command, 2 generation, 3 timezone in hours, 4 the time in ms or "" for Redis' own,
--          5 how long an ended operation is remembered in ms, 6 how many of them, 7 number of quotas,
--          then for each: from, to, points per request, per day, per window, concurrency ("" for what is absent),
--          then the command's own: operation, points, ttl in ms, holder
-- Reply    {"missing", token, now, day, from, to} or {"stale", generation} or {kind, now, day, day end, from, to, window end, day used, window used,
--          day reserved, window reserved, running, place of the quota or 0, before, lease, violated} where lease is "<operation> <record>"; for "leases" a list of them instead of violated

local DAY, HOUR = 86400000, 3600000
local remember, remembered = tonumber(ARGV[5]), tonumber(ARGV[6])
-- A lease lives for a day at most (lease.proto), and is remembered after that.
local idle = DAY + remember
local state, leases = KEYS[1], KEYS[2]
local command, generation, timezone = ARGV[1], ARGV[2], tonumber(ARGV[3])

local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number) return string.format('%.0f', number) end

-- Days from 1970-01-01 to the first of a month and back: the civil calendar, as Howard Hinnant wrote it down in
-- "chrono-Compatible Low-Level Date Algorithms".
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

-- The quota that holds on a day, and the window of that day.
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

-- The token of a prime. A loss of this key voids it, so that no snapshot of before the loss is primed after it.
local token = kept[11] == generation and kept[12]
local there = kept[1] == generation and redis.call('ZSCORE', leases, '@' .. generation)
if kept[1] == generation and not there then
  -- One of the two keys is lost: the other one, and what was read for it, does not count.
  redis.call('DEL', state, leases)
  token = nil
end
local function missing(day, from, to)
  if not token then
    -- Redis' clock, whatever time the caller sets: no two losses have one token.
    local time = redis.call('TIME')
    token = time[1] .. '.' .. time[2]
    -- Nothing is granted under an earlier generation from here on: the ledger might not tell of it in time.
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
-- Of the operation that is asked about.
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

-- What a lease holds, from when it runs until it does not.
local function reserve(lease, sign)
  running = running + sign
  if lease.day == day then day_reserved = day_reserved + sign * lease.points end
  if from <= lease.day and lease.day < to then window_reserved = window_reserved + sign * lease.points end
end

-- forget: when an ended lease is forgotten, if not a whole time from now.
local function save(name, lease, forget)
  local running = lease.state == 'a'
  local holder = lease.holder
  -- Who may still hold it again keeps its name. The call that ends the lease is told who held it.
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

-- A settled lease counts from now on. A snapshot that was read before this does not have it.
local function charge(lease)
  if lease.day == day then day_used = day_used + lease.settled end
  if from <= lease.day and lease.day < to then window_used = window_used + lease.settled end
  if token then redis.call('HDEL', state, 'k') end
end

-- Expired leases give back what they hold; operations that ended long ago are forgotten.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', text(now))) do
  local lease = parse(redis.call('HGET', state, 'l' .. name))
  reserve(lease, -1)
  lease.state = 'e'
  save(name, lease, lease.expire + remember)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '-' .. text(now), '(0', 'LIMIT', 0, 100)) do
  -- Scores are minus the time: those from -now up to 0 are past.
  drop(name)
end
-- One more member says the generation.
local surplus = redis.call('ZCARD', leases) - running - 1 - remembered
if surplus > 0 then
  for _, name in ipairs(redis.call('ZREVRANGEBYSCORE', leases, '(0', '(-inf', 'LIMIT', 0, math.min(surplus, 100))) do
    drop(name)
  end
end

-- A day ends at the later of the midnights at its own offset and at the user's present one: none is granted twice.
local function day_end() return (day + 1) * DAY - math.min(offset, timezone) * HOUR end
if now >= day_end() then
  day, offset = math.floor((now + timezone * HOUR) / DAY), timezone
  day_used, day_reserved = 0, 0
end
local chosen, needed_from, needed_to = rules_of(day)
if needed_from ~= from or needed_to ~= to then
  -- What the ledger alone knows, unless the window has only just begun.
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

-- What stands in the way of a lease of that day; nil for nothing.
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

-- Takes an expired lease again, if there is room.
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
