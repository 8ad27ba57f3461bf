"""What Redis runs for each reservation: one script, at one moment for all processes.

One hash holds a quota. Times are microseconds by Redis' clock, slots are numbered from 1970:

    born             when this state began: its generation
    full             nothing is sent before this; only where an earlier state was lost
    D/next/LIMIT     when the next send of dimension D is due, at the pace of this limit
    D/last, D/sum    a slot, none after it holds anything; the sum of the window that ends with it
    D/first          slots before it are deleted
    D/SLOT           what is sent in this slot

Arguments: the generation that the caller knows (0 for none), the window; the number of dimensions, and for each its name,
limit (empty: it is counted only) and cost (empty for all: nothing is reserved); then corrections, each a dimension, a slot
and an amount. Answer: the slot (0 if refused), the time at which to send, or at which a refused request would have been
due, the time now, the generation, and how many thousandths of the nearest limit the latest window holds.
"""

SCRIPT = """
local key, known, window = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local width = math.ceil(window / 600)
local count = math.ceil(window / width)         -- a window has parts of one slot more
local late = window / 60
local horizon = math.ceil(window / 6)           -- how long the line may be
local far = window + horizon                    -- nothing is ever booked further ahead

local function slot_of(at) return (at - at % width) / width end
local here = slot_of(now)
local oldest = here - count

local function amount(d, slot)
  if not d.slots[slot] then
    local start, fields = slot - slot % 10, {}
    for i = 1, 10 do fields[i] = d.name .. '/' .. start + i - 1 end
    for i, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
      d.slots[start + i - 1] = tonumber(value) or 0
    end
  end
  return d.slots[slot]
end

local function add(d, slot, more)
  redis.call('HINCRBYFLOAT', key, d.name .. '/' .. slot, string.format('%.17g', more))
  if slot >= d.last - count then d.sum = d.sum + more end
end

local function advance(d, slot)
  if slot - d.last > count then
    d.sum = 0
  else
    for left = d.last - count, slot - count - 1 do d.sum = d.sum - amount(d, left) end
  end
  d.last = math.max(d.last, slot)
end

-- The first slot from `slot` on where the cost overfills no window: neither the one that ends there nor a later one.
local function fit(d, slot)
  local ends, sum = d.last, d.sum
  while ends < slot or sum + d.cost > d.limit do
    ends = ends + 1
    if ends - count > d.last then return math.max(ends, slot) end
    sum = sum - amount(d, ends - count - 1)
  end
  if ends > d.last then return ends end
  while ends > slot do
    sum = sum - amount(d, ends) + amount(d, ends - count - 1)
    if sum + d.cost > d.limit then return ends end
    ends = ends - 1
  end
  return slot
end

local dimensions, fields = {}, {'born', 'full'}
for i = 1, tonumber(ARGV[3]) do
  local name, limit = ARGV[3 * i + 1], ARGV[3 * i + 2]
  local d = {name = name, limit = tonumber(limit), cost = tonumber(ARGV[3 * i + 3]), slots = {}}
  d.fields = {name .. '/next/' .. limit, name .. '/last', name .. '/sum', name .. '/first'}
  for _, field in ipairs(d.fields) do fields[#fields + 1] = field end
  dimensions[i], dimensions[name] = d, d
end

local state = redis.call('HMGET', key, unpack(fields))
local born, full = tonumber(state[1]), tonumber(state[2])
for i = 1, #dimensions do
  -- Where the clock was set back, a later state would hold everything up until it is as late again.
  if (tonumber(state[4 * i]) or 0) > slot_of(now + far + window) then born, known = nil, -1 end
end
if not born then
  redis.call('DEL', key)
  state, born, full = {}, now, known ~= 0 and now + far + window
elseif known ~= 0 and known ~= born and not full then
  full = born + far + window
end

for i, d in ipairs(dimensions) do
  d.next, d.last = tonumber(state[4 * i - 1]) or now, tonumber(state[4 * i]) or here
  d.sum, d.first = tonumber(state[4 * i + 1]) or 0, tonumber(state[4 * i + 2]) or oldest
end

for i = 4 + 3 * #dimensions, #ARGV, 3 do
  local d, slot, more = dimensions[ARGV[i]], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if known == born and slot >= oldest then
    add(d, slot, more)
    if d.limit then d.next = math.min(d.next + more * window / d.limit, now + far) end
  end
end

for _, d in ipairs(dimensions) do
  advance(d, here)
  local gone = {}
  for slot = d.first, math.min(d.last, oldest - 1) do gone[#gone + 1] = d.name .. '/' .. slot end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  d.first = math.max(d.first, oldest)
end

local at, slot = math.max(now, full or 0), 0
for _, d in ipairs(dimensions) do
  if d.limit then at = math.max(at, math.ceil(d.next)) end
end
local due = at
if dimensions[1].cost and at - now <= horizon then
  local free
  repeat
    slot = slot_of(at)
    free = slot
    for _, d in ipairs(dimensions) do
      if d.limit then free = fit(d, free) end
    end
    if free > slot then at = free * width end
  until free == slot
  if at - now > far then slot = 0 end
end

local saved = {'born', string.format('%.17g', born)}
if full then saved[3], saved[4] = 'full', string.format('%.17g', full) end
for _, d in ipairs(dimensions) do
  if slot > 0 then
    if slot > d.last then advance(d, slot) end
    add(d, slot, d.cost)
    if d.limit then
      -- What waited for the window to have room was preceded by silence, and need not be followed by it.
      local silence = d.cost * window / d.limit
      d.next = math.max(d.next, at - math.min(at - due, silence) - late) + silence
    end
  end
  for i, value in ipairs({d.limit and d.next or 0, d.last, d.sum, d.first}) do
    saved[#saved + 1], saved[#saved + 2] = d.fields[i], string.format('%.17g', value)
  end
end
redis.call('HSET', key, unpack(saved))
redis.call('PEXPIRE', key, math.ceil((far + window + window / 3) / 1000))
local used = 0
for _, d in ipairs(dimensions) do
  if d.limit then used = math.max(used, d.sum / d.limit) end
end
return {slot, at, now, born, math.floor(1000 * used)}
"""
