-- Fills a missing meter from the ledger in one step. Leases arrive in parts, each of which is short. The last call makes
-- them count. A prime with a void token changes nothing: another prime was first, or the counters were lost again.
--
-- A meter that only lacks the points of a new window is replaced too. It may hold a settlement that the ledger lacks,
-- because the reply was lost: a repeated call would not charge it again, and the new window would never have its points.
--
-- KEYS[1], KEYS[2]  as in meter.lua
-- KEYS[3], KEYS[4]  the same pair under construction, one for each caller
--
-- ARGV[1]  "part" or "last"
-- ARGV[2]  generation
-- ARGV[3]  token
-- ARGV[4]  how long an ended operation is remembered, in ms
-- part     then for each lease: operation, record, end in ms; of two leases of one operation the last counts
-- last     5 offset in hours, 6 day, 7 from, 8 to, 9 points used on the day, 10 points used in the window
--
-- Reply    1 if it changed something, else 0

local DAY, UNFINISHED = 86400000, 60000
local state, leases, generation = KEYS[1], KEYS[2], ARGV[2]
local new_state, new_leases = KEYS[3], KEYS[4]
local remember = tonumber(ARGV[4])
local idle = DAY + remember
local function text(number) return string.format('%.0f', number) end

local function fields(record)
  local s, d, p, e = string.match(record, '^(%a) (%-?%d+) %-?%d+ (%d+) %d+ (%d+)')
  return s, tonumber(d), tonumber(p), tonumber(e)
end

local function put(name, record, ended)
  local s, _, _, expire = fields(record)
  redis.call('HSET', new_state, 'l' .. name, record)
  redis.call('ZADD', new_leases, s == 'a' and text(expire) or '-' .. text(ended + remember), name)
end

local kept = redis.call('HMGET', state, 'g', 'n', 'k')
if kept[2] ~= generation or kept[3] ~= ARGV[3] then
  redis.call('DEL', new_state, new_leases)
  return 0
end
if ARGV[1] == 'part' then
  for index = 5, #ARGV, 3 do
    put(ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2]))
  end
  redis.call('PEXPIRE', new_state, UNFINISHED)
  redis.call('PEXPIRE', new_leases, UNFINISHED)
  return 1
end

-- Live leases of the meter stay, unless the ledger has ended them: a server may not have written them yet.
if kept[1] == generation and redis.call('ZSCORE', leases, '@' .. generation) then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', '+inf')) do
    local in_ledger = redis.call('HGET', new_state, 'l' .. name)
    if not in_ledger or fields(in_ledger) == 'a' then put(name, redis.call('HGET', state, 'l' .. name)) end
  end
end
-- This removes counters of an earlier generation, and the key that is left of a lost pair, too.
redis.call('DEL', state, leases)
if redis.call('EXISTS', new_state) == 1 then
  redis.call('RENAME', new_state, state)
  redis.call('RENAME', new_leases, leases)
end
local day, from, to = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local day_reserved, window_reserved = 0, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', '+inf')) do
  local _, of_day, points = fields(redis.call('HGET', state, 'l' .. name))
  if of_day == day then day_reserved = day_reserved + points end
  if from <= of_day and of_day < to then window_reserved = window_reserved + points end
end
redis.call('HSET', state, 'g', generation, 'n', generation, 'o', ARGV[5], 'd', ARGV[6], 'du', ARGV[9],
  'dr', text(day_reserved), 'wf', ARGV[7], 'wt', ARGV[8], 'wu', ARGV[10], 'wr', text(window_reserved))
redis.call('ZADD', leases, '-inf', '@' .. generation)
redis.call('PEXPIRE', state, idle)
redis.call('PEXPIRE', leases, idle)
return 1
