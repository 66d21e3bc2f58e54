-- Runs commands on meters, in order: everything that decisions need, in one round trip. memory.ts is its TypeScript
-- twin. engine.ts defines the commands. test/quotas/counters/conformance.ts and properties.test.ts test both.
--
-- Each meter is read once before its commands, and nearly always written once after them. A call into Redis costs more
-- than most of what the script computes.
--
-- KEYS     two for each meter:
--          hash, the state of the meter
--            s   the counters, one text of eleven words. With a field for each, a command takes a tenth longer.
--                  generation
--                  offset at which the day is counted, in hours
--                  day, counted from 1970-01-01
--                  points used on the day, points reserved on the day
--                  first day of the window, first day after the window
--                  points used in the window, points reserved in the window
--                  time before which no lease expires and no operation is forgotten, in ms; 0: not known
--                  when the keys last got their time to live, in ms
--            w   while a prime is expected: "<its generation> <the token that it must present>"
--            l<operation>  one field for each lease:
--                "<state> <day> <offset of the day> <points> <granted ms> <expire ms> <settled points or -> <holder>"
--                state: a active, e expired, r released, s settled
--          sorted set of operations
--            score > 0   live lease: when it expires, in ms
--            score < 0   ended lease: minus the time when it is forgotten, in ms
--            -inf        "@<generation>", which shows that neither key was lost
--
-- ARGV[1]  generation
-- ARGV[2]  time in ms, or "" for Redis' own clock
-- ARGV[3]  how long an ended operation is remembered, in ms
-- ARGV[4]  how many ended operations are remembered
-- and then for each meter
--          the user's offset from UTC, in hours
--          for each quota "<from> <to> <points per request> <points per day> <points per window> <concurrency>;"; - if absent
--          the number of its commands
--          its commands, "<kind> <operation or -> <points> <ttl in ms> <holder>" each
--
-- Reply    for each meter its error, or one of
--          {"missing <token> <now> <day> <from> <to>"}   nothing was done: prime the meter for these days
--          {"stale <generation>"}                        nothing was done: the caller knows an earlier generation
--          {"ok <now> <day> <day end> <from> <to> <window end> <index of the quota or 0>", reply, ...}
--            a reply for each command: "<kind> <day used> <window used> <day reserved> <window reserved> <live leases>
--            <state before or -> <violated limits or -> <lease>"
--              kind   done, refused, conflict, unknown or leases; see Reply in engine.ts
--              lease  "<operation> <record>" or empty; of leases the live ones, one a line

local call, format, match, floor = redis.call, string.format, string.match, math.floor
local DAY, HOUR, MINUTE = 86400000, 3600000, 60000
local generation, remember, remembered = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST_METER = 5
-- Eleven words.
local COUNTERS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
-- A lease lives for at most a day (lease.proto) and is remembered after that.
local idle = DAY + remember

local now = tonumber(ARGV[2])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

local function parse_quotas(text)
  local quotas = {}
  for from, to, request, on_day, in_window, running in string.gmatch(text, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+);') do
    -- tonumber('-') is nil.
    quotas[#quotas + 1] = { from = tonumber(from), to = tonumber(to), request = tonumber(request), day = tonumber(on_day),
      window = tonumber(in_window), concurrency = tonumber(running) }
  end
  return quotas
end

-- Divides whole numbers and rounds down. Operators cost less than a call of math.floor.
local function quotient(a, b) return (a - a % b) / b end

-- Converts between days from 1970-01-01 and months of the civil calendar. Source: Howard Hinnant, "chrono-Compatible
-- Low-Level Date Algorithms".
local function civil(day)
  local z = day + 719468
  local era = quotient(z, 146097)
  local doe = z % 146097
  local yoe = quotient(doe - quotient(doe, 1460) + quotient(doe, 36524) - quotient(doe, 146096), 365)
  local doy = doe - (365 * yoe + quotient(yoe, 4) - quotient(yoe, 100))
  local mp = quotient(5 * doy + 2, 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year, month
end

local function first_of(year, month)
  local y = month <= 2 and year - 1 or year
  local era, yoe = quotient(y, 400), y % 400
  local doy = quotient(153 * (month > 2 and month - 3 or month + 9) + 2, 5)
  local doe = yoe * 365 + quotient(yoe, 4) - quotient(yoe, 100) + doy
  return era * 146097 + doe - 719468
end

-- Returns the index of the quota of a day, and the window of that day.
local function rules_of(quotas, day)
  local base
  for index, quota in ipairs(quotas) do
    if not quota.from then
      base = base or index
    elseif quota.from <= day and day < quota.to then
      return index, quota.from, quota.to
    end
  end
  local year, month = civil(day)
  local next_year, next_month = year, month + 1
  if next_month == 13 then next_year, next_month = year + 1, 1 end
  return base, first_of(year, month), first_of(next_year, next_month)
end

local function parse(record)
  local s, d, o, p, g, e, c, h = match(record, '^(%a) (%-?%d+) (%-?%d+) (%d+) (%d+) (%d+) (%S+) (.*)$')
  return { state = s, day = tonumber(d), offset = tonumber(o), points = tonumber(p), granted = tonumber(g),
    expire = tonumber(e), settled = tonumber(c), holder = h }
end

local function pack(lease)
  return format('%s %d %d %d %d %d %s %s', lease.state, lease.day, lease.offset, lease.points, lease.granted,
    lease.expire, lease.settled and format('%d', lease.settled) or '-', lease.holder)
end

-- Runs the commands of one meter, `count` arguments from `first` on. Returns its reply.
local function serve(state, leases, timezone, quotas, first, count)
  local commands, wanted = {}, { 's', 'w' }
  local FIRST_LEASE = #wanted
  for place = 1, count do
    local kind, operation, points, ttl, holder = match(ARGV[first + place - 1], '^(%a+) (%S+) (%d+) (%d+) (.*)$')
    commands[place] = { kind = kind, operation = operation, points = tonumber(points), ttl = tonumber(ttl), holder = holder }
    wanted[FIRST_LEASE + place] = 'l' .. operation
  end

  local kept = call('HMGET', state, unpack(wanted))
  local kept_generation, offset, day, day_used, day_reserved, from, to, window_used, window_reserved, due, refreshed =
    match(kept[1] or '', COUNTERS)
  local awaited, token = match(kept[2] or '', '^(%S+) (%S+)$')
  local latest = math.max(tonumber(kept_generation or 0), tonumber(awaited or 0))
  if latest > tonumber(generation) then return { format('stale %d', latest) } end

  -- The token of a prime. Losing this key voids it, so that a snapshot read before the loss is never primed after it.
  if awaited ~= generation then token = nil end
  local there = kept_generation == generation and call('ZSCORE', leases, '@' .. generation)
  if kept_generation == generation and not there then
    -- One of the two keys is lost, so the other key and snapshots read for it are void.
    call('DEL', state, leases)
    token = nil
  end
  local function missing(day, from, to)
    if not token then
      -- Redis' own clock, even if the caller sets the time: two losses never have one token.
      local time = call('TIME')
      token = time[1] .. '.' .. time[2]
      -- From now on nothing is granted in an earlier generation: the snapshot might miss such a grant.
      call('HSET', state, 'w', generation .. ' ' .. token)
      call('PEXPIRE', state, idle)
    end
    return { format('missing %s %d %d %d %d', token, now, day, from, to) }
  end

  if not there then
    local present_day = floor((now + timezone * HOUR) / DAY)
    local _, window_from, window_to = rules_of(quotas, present_day)
    return missing(present_day, window_from, window_to)
  end
  offset, day, day_used, day_reserved = tonumber(offset), tonumber(day), tonumber(day_used), tonumber(day_reserved)
  from, to, window_used, window_reserved = tonumber(from), tonumber(to), tonumber(window_used), tonumber(window_reserved)
  due, refreshed = tonumber(due), tonumber(refreshed)
  -- The records of the operations that the commands name.
  local records = {}
  for place, command in ipairs(commands) do records[command.operation] = kept[FIRST_LEASE + place] or nil end
  -- The set is the only count of running executions. One member is the generation, not an operation.
  local running = call('ZCOUNT', leases, '(0', '+inf')
  local ended = call('ZCARD', leases) - running - 1

  -- Changes that wait for store(): fields and values of the hash, scores and members of the sorted set.
  local fields, scores = {}, {}
  local has_changed, has_charged = false, false

  local function set(field, value)
    fields[#fields + 1], fields[#fields + 2] = field, value
  end

  -- Writes what has changed.
  local function store()
    if not has_changed then return end
    if math.abs(now - refreshed) >= MINUTE then
      refreshed = now
      call('PEXPIRE', state, idle)
      call('PEXPIRE', leases, idle)
    end
    set('s', format('%s %d %d %d %d %d %d %d %d %d %d', generation, offset, day, day_used, day_reserved, from, to,
      window_used, window_reserved, due, refreshed))
    call('HSET', state, unpack(fields))
    if #scores > 0 then call('ZADD', leases, unpack(scores)) end
    -- Voids the token: a snapshot read before a charge lacks it.
    if has_charged and token then call('HDEL', state, 'w') end
    fields, scores, has_changed, has_charged = {}, {}, false, false
  end

  -- Adds (sign 1) or removes (sign -1) the slot and the reserved points of a lease.
  local function reserve(lease, sign)
    running = running + sign
    if lease.day == day then day_reserved = day_reserved + sign * lease.points end
    if from <= lease.day and lease.day < to then window_reserved = window_reserved + sign * lease.points end
  end

  -- Saves a lease. forget: when an ended lease is forgotten, in ms; by default ARGV[3] from now.
  local function save(name, lease, forget)
    local is_live = lease.state == 'a'
    local time = is_live and lease.expire or forget or now + remember
    lease.record = pack(lease)
    -- An expired lease keeps its holder, because it may be taken again. The command that ends a lease returns the holder.
    local is_ended = lease.state == 'r' or lease.state == 's'
    records[name] = is_ended and string.sub(lease.record, 1, -#lease.holder - 1) or lease.record
    set('l' .. name, records[name])
    scores[#scores + 1], scores[#scores + 2] = is_live and time or -time, name
    due = math.min(due, time)
    has_changed = true
  end

  local function drop(name)
    call('ZREM', leases, name)
    call('HDEL', state, 'l' .. name)
    records[name] = nil
    ended = ended - 1
  end

  -- Charges a settled lease.
  local function charge(lease)
    if lease.day == day then day_used = day_used + lease.settled end
    if from <= lease.day and lease.day < to then window_used = window_used + lease.settled end
    has_charged = true
  end

  -- Returns the score of the first operation in a range of the set.
  local function first_score(command, low, high)
    return call(command, leases, low, high, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  end

  if now >= due then
    -- Expired leases free their slots and points. Operations that ended long ago are forgotten.
    for _, name in ipairs(call('ZRANGEBYSCORE', leases, '(0', now)) do
      local lease = parse(call('HGET', state, 'l' .. name))
      reserve(lease, -1)
      ended = ended + 1
      lease.state = 'e'
      save(name, lease, lease.expire + remember)
      -- A call into Redis takes fewer than 8,000 arguments.
      if #fields >= 1000 then store() end
    end
    store()
    for _, name in ipairs(call('ZRANGEBYSCORE', leases, -now, '(0', 'LIMIT', 0, 100)) do
      -- Scores from -now to 0 are times in the past.
      drop(name)
    end
    due = math.min(tonumber(first_score('ZRANGEBYSCORE', '(0', '+inf') or now + DAY),
      -tonumber(first_score('ZREVRANGEBYSCORE', '(0', '(-inf') or -now - DAY))
    has_changed = true
  end

  -- Forgets the oldest of more ended operations than are remembered.
  local function trim(operation)
    local surplus = ended - remembered
    if surplus <= 0 then return end
    store()
    for _, name in ipairs(call('ZREVRANGEBYSCORE', leases, '(0', '(-inf', 'LIMIT', 0, math.min(surplus, 100))) do
      -- After the clock was set back, the latest ends come first: an operation that was restored for this command stays.
      if name ~= operation then drop(name) end
    end
  end

  -- A day ends at the later midnight of its own offset and the user's present offset, so no day is granted twice.
  local function day_end() return (day + 1) * DAY - math.min(offset, timezone) * HOUR end
  if now >= day_end() then
    day, offset = floor((now + timezone * HOUR) / DAY), timezone
    day_used, day_reserved = 0, 0
    has_changed = true
  end
  local chosen, needed_from, needed_to = rules_of(quotas, day)
  if needed_from ~= from or needed_to ~= to then
    -- Only the ledger knows the points of a window that began on an earlier day.
    if needed_from ~= day then
      store()
      return missing(day, needed_from, needed_to)
    end
    from, to, window_used, window_reserved = needed_from, needed_to, day_used, day_reserved
    has_changed = true
  end
  local quota = quotas[chosen]

  -- Lists the limits that a lease of that day would violate. Empty without a quota. nil if the lease fits.
  local function violations(of_day, wanted, is_new)
    if not quota then return '' end
    local found
    local function over(most, name, value)
      if most and (value > most or most == 0) then found = found and found .. ',' .. name or name end
    end
    if is_new then over(quota.request, 'pointsPerRequest', wanted) end
    if of_day == day then over(quota.day, 'pointsPerDay', day_used + day_reserved + wanted) end
    if from <= of_day and of_day < to then over(quota.window, 'pointsPerDateWindow', window_used + window_reserved + wanted) end
    over(quota.concurrency, 'maxConcurrentExecution', running + 1)
    return found
  end

  local function reply(kind, before, found, lease)
    return format('%s %d %d %d %d %d %s %s %s', kind, day_used, window_used, day_reserved, window_reserved, running,
      before or '-', found and found ~= '' and found or '-', lease or '')
  end

  -- Runs one command. Returns its reply.
  local function run(command)
    local kind, operation, points, ttl = command.kind, command.operation, command.points, command.ttl
    trim(operation)
    if kind == 'usage' then return reply('done') end
    if kind == 'leases' then
      store()
      local live = {}
      for _, name in ipairs(call('ZRANGEBYSCORE', leases, '(0', '+inf')) do
        live[#live + 1] = name .. ' ' .. call('HGET', state, 'l' .. name)
      end
      return reply('leases', nil, nil, table.concat(live, '\n'))
    end
    if kind == 'check' then
      local found = violations(day, points, true)
      return reply(found and 'refused' or 'done', nil, found)
    end

    local lease = records[operation] and parse(records[operation])
    local before = lease and lease.state
    -- A stored record without a holder may have just lost it: the reply has it.
    local function of_lease(outcome, found)
      return reply(outcome, before, found, operation .. ' ' .. (lease.record or records[operation]))
    end

    if kind == 'acquire' then
      if before == 'a' and lease.points == points then return of_lease('done') end
      if before == 'a' or before == 's' then return of_lease('conflict') end
      local found = violations(day, points, true)
      if found then return reply('refused', nil, found) end
      if lease then ended = ended - 1 end
      lease = { state = 'a', day = day, offset = offset, points = points, granted = now, expire = now + ttl,
        holder = command.holder }
      reserve(lease, 1)
      save(operation, lease)
      return of_lease('done')
    end

    if kind == 'restore' then
      if lease then return of_lease('done') end
      lease = parse(command.holder)
      if lease.state == 'a' then
        if lease.expire > now then reserve(lease, 1) else lease.state = 'e' end
      end
      if lease.state ~= 'a' then ended = ended + 1 end
      save(operation, lease)
      return of_lease('done')
    end

    if not lease then return reply('unknown') end

    if kind == 'renew' then
      if before == 'e' then
        -- Takes an expired lease again if there is room.
        local found = violations(lease.day, lease.points, false)
        if found then return of_lease('refused', found) end
        lease.state, lease.expire = 'a', now + ttl
        ended = ended - 1
        reserve(lease, 1)
        save(operation, lease)
      elseif before == 'a' then
        lease.expire = math.max(lease.expire, now + ttl)
        save(operation, lease)
      end
      return of_lease('done')
    end

    if kind == 'release' then
      if before == 'a' or before == 'e' then
        if before == 'a' then
          reserve(lease, -1)
          ended = ended + 1
        end
        lease.state = 'r'
        save(operation, lease)
      end
      return of_lease('done')
    end

    -- settle
    if before == 's' then return of_lease(lease.settled == points and 'done' or 'conflict') end
    if before == 'a' then
      reserve(lease, -1)
      ended = ended + 1
    end
    lease.state, lease.settled = 's', points
    charge(lease)
    save(operation, lease)
    return of_lease('done')
  end

  local replies = { format('ok %d %d %d %d %d %d %d', now, day, day_end(), from, to,
    to * DAY - math.min(offset, timezone) * HOUR, chosen or 0) }
  for place, command in ipairs(commands) do replies[place + 1] = run(command) end
  store()
  return replies
end

local answers, place = {}, FIRST_METER
for index = 1, #KEYS, 2 do
  local count = tonumber(ARGV[place + 2])
  local is_served, answer = pcall(serve, KEYS[index], KEYS[index + 1], tonumber(ARGV[place]),
    parse_quotas(ARGV[place + 1]), place + 3, count)
  -- pcall returns the text of an error.
  answers[#answers + 1] = is_served and answer or { err = answer }
  place = place + 3 + count
end
return answers
