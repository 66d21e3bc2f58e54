-- Fills a missing meter from the ledger in one step. Leases arrive in parts, each of which is short. The last call makes
-- them count. A prime with a void token changes nothing: another prime was first, or the counters were lost again.
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
  local s, d, p, g, e, c = string.match(record, '^(%a) (%-?%d+) %-?%d+ (%d+) (%d+) (%d+) (%S+)')
  return s, tonumber(d), tonumber(p), tonumber(e), tonumber(g), tonumber(c)
end

local kept = redis.call('HMGET', state, 's', 'w')
if kept[2] ~= generation .. ' ' .. ARGV[3] then
  redis.call('DEL', new_state, new_leases)
  return 0
end
local kept_generation, offset, day, day_used, day_reserved, _, _, _, _, due, refreshed =
  string.match(kept[1] or '', '^' .. string.rep('(%S+) ', 10) .. '(%S+)$')
-- Present counters lack the points of a new window only.
local there = kept_generation == generation and redis.call('ZSCORE', leases, '@' .. generation)

if ARGV[1] == 'part' then
  for index = 5, #ARGV, 3 do
    local name, record, ended = ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2])
    local s, _, _, expire = fields(record)
    if there and s == 's' then
      -- The sum of the window has its points.
      redis.call('HDEL', new_state, 'l' .. name)
    else
      redis.call('HSET', new_state, 'l' .. name, record)
      redis.call('ZADD', new_leases, s == 'a' and text(expire) or '-' .. text(ended + remember), name)
    end
  end
  redis.call('PEXPIRE', new_state, UNFINISHED)
  redis.call('PEXPIRE', new_leases, UNFINISHED)
  return 1
end

local new_day, from, to, window_used = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10])
if there then
  -- Adds settlements that the ledger does not have yet: their server has not written them, or the reply was lost. A repeated
  -- call would find them done and would not charge them.
  local in_ledger = redis.call('HGETALL', new_state)
  for index = 1, #in_ledger, 2 do
    local record = redis.call('HGET', state, in_ledger[index])
    if record then
      local _, _, _, _, ledger_granted = fields(in_ledger[index + 1])
      local s, of_day, _, _, granted, settled = fields(record)
      if s == 's' and granted >= ledger_granted and from <= of_day and of_day < to then
        window_used = window_used + settled
      end
    end
  end
  redis.call('DEL', new_state, new_leases)
else
  -- Removes counters of an earlier generation, or the key that is left of a lost pair.
  redis.call('DEL', state, leases)
  if redis.call('EXISTS', new_state) == 1 then
    redis.call('RENAME', new_state, state)
    redis.call('RENAME', new_leases, leases)
  end
end
local reserved, window_reserved = 0, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '(0', '+inf')) do
  local _, of_day, points = fields(redis.call('HGET', state, 'l' .. name))
  if of_day == new_day then reserved = reserved + points end
  if from <= of_day and of_day < to then window_reserved = window_reserved + points end
end
if not there then
  offset, day, day_used, day_reserved, due, refreshed = ARGV[5], ARGV[6], ARGV[9], reserved, 0, 0
  redis.call('ZADD', leases, '-inf', '@' .. generation)
end
redis.call('HSET', state, 's', string.format('%s %d %d %d %d %d %d %d %d %d %d', generation, offset, day, day_used,
  day_reserved, from, to, window_used, window_reserved, due, refreshed))
redis.call('HDEL', state, 'w')
if not there then
  redis.call('PEXPIRE', state, idle)
  redis.call('PEXPIRE', leases, idle)
end
return 1
