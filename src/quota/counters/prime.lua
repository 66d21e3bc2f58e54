-- Puts what the ledger knows in the place of counters that are missing, all at once. The leases come in parts, none of
-- which takes long; the last call makes them count. Whoever comes second, or is of an earlier generation, changes
-- nothing.
--
-- KEYS[1], KEYS[2]  as in meter.lua
-- KEYS[3], KEYS[4]  the same, while one caller is making them
-- ARGV     1 "part" or "last", 2 generation, 3 the time in ms or "" for Redis' own,
--          last: 4 timezone, 5 day, 6 from, 7 to, 8 points of the day, 9 points of the window
--          part: then operation and record of each lease
-- Reply    1 when it has changed something, else 0

local REMEMBER, IDLE, UNFINISHED = 86400000, 172800000, 60000
local state, leases, generation = KEYS[1], KEYS[2], ARGV[2]
local new_state, new_leases = KEYS[3], KEYS[4]
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function text(number) return string.format('%.0f', number) end

local function fields(record)
  local s, d, p, e = string.match(record, '^(%a) (%-?%d+) (%d+) %d+ (%d+)')
  return s, tonumber(d), tonumber(p), tonumber(e)
end

local kept = redis.call('HMGET', state, 'g', 'n', 'wf', 'wt')
local latest = math.max(tonumber(kept[1] or 0), tonumber(kept[2] or 0))
local there = kept[1] == generation and redis.call('ZSCORE', leases, '@' .. generation)
local day, from, to = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
-- Counters that are there may still be for another window.
local is_needed = not there or (ARGV[1] == 'last' and (tonumber(kept[3]) ~= from or tonumber(kept[4]) ~= to))
if latest > tonumber(generation) or not is_needed then
  redis.call('DEL', new_state, new_leases)
  return 0
end

if ARGV[1] == 'part' then
  for index = 4, #ARGV, 2 do
    local name, record = ARGV[index], ARGV[index + 1]
    local s, _, _, expire = fields(record)
    redis.call('HSET', new_state, 'l' .. name, record)
    redis.call('ZADD', new_leases, s == 'a' and text(expire) or '-' .. text(now + REMEMBER), name)
  end
  redis.call('PEXPIRE', new_state, UNFINISHED)
  redis.call('PEXPIRE', new_leases, UNFINISHED)
  return 1
end

if there then
  redis.call('DEL', new_state, new_leases)
else
  -- What is left of an earlier generation, or of keys that were half lost, goes.
  redis.call('DEL', state, leases)
  if redis.call('EXISTS', new_state) == 1 then
    redis.call('RENAME', new_state, state)
    redis.call('RENAME', new_leases, leases)
  end
end
local day_reserved, window_reserved = 0, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', '+inf')) do
  local _, of_day, points = fields(redis.call('HGET', state, 'l' .. name))
  if of_day == day then day_reserved = day_reserved + points end
  if from <= of_day and of_day < to then window_reserved = window_reserved + points end
end
redis.call('HSET', state, 'wf', ARGV[6], 'wt', ARGV[7], 'wu', ARGV[9], 'wr', text(window_reserved))
if not there then
  redis.call('HSET', state, 'g', generation, 'o', ARGV[4], 'd', ARGV[5], 'du', ARGV[8], 'dr', text(day_reserved))
  redis.call('ZADD', leases, '-inf', '@' .. generation)
  redis.call('PEXPIRE', state, IDLE)
  redis.call('PEXPIRE', leases, IDLE)
end
return 1
