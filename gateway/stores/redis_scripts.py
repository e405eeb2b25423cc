"""What Redis does, in Lua: each script is one step that nothing comes between.

Keys, all behind one tag, so that a cluster keeps them in one place:
`state` (hash): `epoch` names the server that was reconciled with, `gen:<node>` a node's newest connection,
`sync:<node>` the server that the node reconciled with. `nodes` (sorted set): when each node was last there.
`open:<node>` (hash): by exchange, what it has reserved, lines of account and amount. `most` (hash): amounts that an
administrator set. Accounts are hashes: `s` settled, `r` reserved, `g` granted, `ut` granted for a time, `h` handed
over, `c` met before, `w` the highest mark told; `s:<node>`, `g:<node>`, `u:<node>` are each node's part of it, of
rolling ones `s:<node>:<part>`, with `t:<part>` their sum and `lo` the oldest. Rates: a number (microseconds, the
theoretical arrival time) or a hash of parts; places: sorted sets of exchanges by when they lapse.

1. A script that changes what a node has is refused (-2) when it comes over a connection that is not the node's
   newest: what is still under way there can do no harm. 2. Nothing is taken (-1) from a server that was not
   reconciled with.
3. Amounts are whole and below 2^53, where a double is exact. 4. Parts are absolute: the same word twice changes
   nothing.
"""

from __future__ import annotations

from typing import Final

EPOCH, STALE, TWICE = -1, -2, -3  # what a script answers that did nothing

PRELUDE: Final = """
local call = redis.call
local function seconds() return tonumber(call('TIME')[1]) end

local function lapse(key, now)  -- of what was granted for a time, the sum that still counts
  local sum, next = 0, 0
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'u:' then
      for amount, till in string.gmatch(all[i + 1], '(%d+):(%d+)') do
        till = tonumber(till)
        if till > now then
          sum = sum + tonumber(amount)
          if next == 0 or till < next then next = till end
        end
      end
    end
  end
  call('HSET', key, 'ut', sum, 'un', next)
  return sum
end

local function drop(key, floor)  -- of a rolling account, the parts before `floor`
  local gone, low = 0, nil
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local name = all[i]
    local at = tonumber(string.match(name, '^[st]:.-(%-?%d+)$') or '')
    if at and string.find(name, ':') then
      if at < floor then
        if string.sub(name, 1, 2) == 't:' then gone = gone + tonumber(all[i + 1]) end
        call('HDEL', key, name)
      elseif string.sub(name, 1, 2) == 't:' and (low == nil or at < low) then low = at end
    end
  end
  if low then call('HSET', key, 'lo', low) else call('HDEL', key, 'lo') end
  if gone ~= 0 then call('HINCRBY', key, 's', -gone) end
  return gone
end

local function stand(key, now, window)  -- settled, reserved, granted, mark, met
  local f = call('HMGET', key, 's', 'r', 'g', 'h', 'ut', 'un', 'w', 'c', 'lo')
  local settled, timed = tonumber(f[1] or 0), tonumber(f[5] or 0)
  local till = tonumber(f[6] or 0)
  if till > 0 and till <= now then timed = lapse(key, now) end
  if window > 0 and f[9] then
    local floor = math.floor(now * 64 / window) - 64
    if tonumber(f[9]) < floor then settled = settled - drop(key, floor) end
  end
  return settled, tonumber(f[2] or 0), tonumber(f[3] or 0) + tonumber(f[4] or 0) + timed, tonumber(f[7] or 0), f[8]
end

local function put(key, node, value, part, window, now)  -- the node's part of what is settled
  local field, diff = 's:' .. node, 0
  if window > 0 then
    if part < math.floor(now * 64 / window) - 64 then return end
    field = field .. ':' .. string.format('%.0f', part)
    diff = value - tonumber(call('HGET', key, field) or 0)
    local low = tonumber(call('HGET', key, 'lo') or part)
    call('HSET', key, 'lo', math.min(low, part), field, value)
    call('HINCRBY', key, string.format('t:%.0f', part), diff)
    call('EXPIRE', key, 2 * window + 691200)
  else
    diff = value - tonumber(call('HGET', key, field) or 0)
    if diff ~= 0 then call('HSET', key, field, value) end
  end
  if diff ~= 0 then call('HINCRBY', key, 's', diff) end
end

local function release(opened, id)
  local held = call('HGET', opened, id)
  if not held then return end
  for key, amount in string.gmatch(held, '([^\\n]+)\\n(%d+)') do
    call('HINCRBY', key, 'r', 0 - tonumber(amount))  -- not -0, which is no integer
  end
  call('HDEL', opened, id)
end

local function pass(one, i, told)  -- the soft marks that are passed now and were not told
  if one.window > 0 and one.mark > 0 and one.used * 10000 < one.mark * one.all * 9 then one.mark = 0 end
  local high = one.mark
  for mark in string.gmatch(one.marks, '%d+') do
    mark = tonumber(mark)
    if mark > one.mark and one.used * 1000 >= mark * one.all then
      told[#told + 1] = i
      told[#told + 1] = mark
      high = math.max(high, mark)
    end
  end
  if #one.marks > 0 then call('HSET', one.key, 'w', high) end
end

local function amount_of(overrides, field, most)  -- what an administrator set, else the budget's own
  local set = call('HGET', overrides, field)
  return set and tonumber(string.match(set, '^(%d+) ') or most) or most
end
"""

# ARGV of what must come over the node's newest connection: node, generation, ...
NEWEST: Final = """
if call('HGET', KEYS[1], 'gen:' .. ARGV[1]) ~= ARGV[2] then return -2 end
"""

# KEYS state open most rates... places... accounts, each with the one before; ARGV node gen epoch id nrates nplaces
# ncharges ttl, then of each rate (kind interval|window capacity|most shadow), place (most shadow held), charge
# (amount most ends window carry field marks). Answers ok, of each rate (left wait back), place (left), charge
# (left), how many were exceeded and which, then pairs of (charge, mark).
TAKE: Final = (
    PRELUDE
    + """
local state = call('HMGET', KEYS[1], 'gen:' .. ARGV[1], 'epoch')
if state[1] ~= ARGV[2] then return -2 end
if state[2] ~= ARGV[3] then return -1 end
local id, nrates, nplaces, ncharges = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if ncharges > 0 and call('HEXISTS', KEYS[2], id) == 1 then return -3 end
local time = call('TIME')
local now = tonumber(time[1])
local micro = now * 1000000 + tonumber(time[2])
local ok, exceeded, a, k = 1, {}, 9, 4
local rates, places, charges = {}, {}, {}

for i = 1, nrates do
  local key, shadow = KEYS[k], ARGV[a + 3] == '1'
  local one = {key = key, kind = ARGV[a], span = tonumber(ARGV[a + 1]), most = tonumber(ARGV[a + 2])}
  if one.kind == 'g' then
    one.ahead = math.max(0, math.min(tonumber(call('GET', key) or 0), micro + one.most) - micro)
    one.over = one.ahead + one.span > one.most
  else
    one.cur = math.floor(micro / (one.span / 64))
    local f = call('HMGET', key, 'n', 'lo', 'hi')
    one.n, one.hi = tonumber(f[1] or 0), tonumber(f[3] or one.cur)
    if f[2] and (tonumber(f[2]) < one.cur - 64 or one.hi > one.cur + 64) then
      local all, low = call('HGETALL', key), nil
      one.n, one.hi = 0, one.cur
      for j = 1, #all, 2 do
        local at = tonumber(all[j])
        if at and (at < one.cur - 64 or at > one.cur + 64) then call('HDEL', key, all[j])
        elseif at then
          one.n = one.n + tonumber(all[j + 1])
          if low == nil or at < low then low = at end
        end
      end
      call('HSET', key, 'n', one.n, 'lo', low or one.cur, 'hi', one.cur)
    end
    one.over = one.n >= one.most
  end
  if one.over then
    exceeded[#exceeded + 1] = i
    if not shadow then ok = 0 end
  end
  rates[i] = one
  a, k = a + 4, k + 1
end

for i = 1, nplaces do
  local one = {key = KEYS[k], most = tonumber(ARGV[a]), held = ARGV[a + 2] == '1'}
  call('ZREMRANGEBYSCORE', one.key, '-inf', now)
  one.n = call('ZCARD', one.key)
  one.over = not one.held and one.n >= one.most
  if one.over then
    exceeded[#exceeded + 1] = nrates + i
    if ARGV[a + 1] ~= '1' then ok = 0 end
  end
  places[i] = one
  a, k = a + 3, k + 1
end

local set = ncharges > 0 and call('EXISTS', KEYS[3]) == 1
for i = 1, ncharges do
  local one = {key = KEYS[k], amount = tonumber(ARGV[a]), ends = tonumber(ARGV[a + 2]), marks = ARGV[a + 6]}
  local window, carry = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  one.window = window
  local most = tonumber(ARGV[a + 1])
  if set then most = amount_of(KEYS[3], ARGV[a + 5], most) end
  local settled, reserved, granted, mark, met = stand(one.key, now, window)
  if not met then
    call('HSET', one.key, 'c', 1)
    if one.ends > 0 then call('EXPIREAT', one.key, one.ends + 691200) end
    if carry > 0 and call('EXISTS', KEYS[k + 1]) == 1 then
      local f = call('HMGET', KEYS[k + 1], 's', 'r')
      local rest = math.min(most, math.max(0, most - tonumber(f[1] or 0) - tonumber(f[2] or 0)))
      local more = math.floor(rest / 1000) * carry + math.floor(rest % 1000 * carry / 1000)
      call('HSET', one.key, 'h', more)
      granted = granted + more
    end
  end
  one.all, one.used, one.mark = most + granted, settled + reserved, mark
  one.over = one.amount > one.all - one.used
  if one.over then
    exceeded[#exceeded + 1] = nrates + nplaces + i
    ok = 0
  end
  charges[i] = one
  a, k = a + 7, k + 2
end

local said, told = {ok}, {}
for i = 1, nrates do
  local one = rates[i]
  local takes = ok == 1 and not one.over
  if one.kind == 'g' then
    local ahead = one.ahead
    if takes then
      ahead = ahead + one.span
      call('SET', one.key, micro + ahead, 'PX', math.ceil(ahead / 1000) + 1)
    end
    said[#said + 1] = math.floor((one.most - ahead) / one.span)
    said[#said + 1] = math.max(0, ahead + one.span - one.most)
    said[#said + 1] = ahead
  else
    local wait, back, slice = 0, 0, one.span / 64
    if takes then
      one.n, one.hi = one.n + 1, one.cur
      call('HINCRBY', one.key, string.format('%.0f', one.cur), 1)
      call('HSETNX', one.key, 'lo', one.cur)
      call('HSET', one.key, 'n', one.n, 'hi', one.cur)
      call('PEXPIRE', one.key, math.ceil(one.span / 1000 * 66 / 64) + 1)
    end
    if one.n > 0 then back = math.max(0, math.ceil((one.hi + 65) * slice - micro)) end
    if one.n >= one.most then
      local all, parts, rest = call('HGETALL', one.key), {}, one.n
      for j = 1, #all, 2 do
        if tonumber(all[j]) then parts[#parts + 1] = {tonumber(all[j]), tonumber(all[j + 1])} end
      end
      table.sort(parts, function(x, y) return x[1] < y[1] end)
      for j = 1, #parts do
        rest = rest - parts[j][2]
        if rest < one.most then
          wait = math.max(0, math.ceil((parts[j][1] + 65) * slice - micro))
          break
        end
      end
    end
    said[#said + 1] = math.max(0, one.most - one.n)
    said[#said + 1] = wait
    said[#said + 1] = back
  end
end
for i = 1, nplaces do
  local one = places[i]
  if ok == 1 and not one.held and not one.over then
    call('ZADD', one.key, now + tonumber(ARGV[8]), id)
    call('EXPIRE', one.key, tonumber(ARGV[8]) * 2)
    one.n = one.n + 1
  end
  said[#said + 1] = math.max(0, one.most - one.n)
end
local lines = {}
for i = 1, ncharges do
  local one = charges[i]
  if ok == 1 then
    one.used = one.used + one.amount
    call('HINCRBY', one.key, 'r', one.amount)
    lines[#lines + 1] = one.key .. '\\n' .. string.format('%.0f', one.amount)
    pass(one, i, told)
  end
  said[#said + 1] = one.all - one.used
end
if #lines > 0 then call('HSET', KEYS[2], id, table.concat(lines, '\\n')) end
said[#said + 1] = #exceeded
for i = 1, #exceeded do said[#said + 1] = exceeded[i] end
for i = 1, #told do said[#said + 1] = told[i] end
return said
"""
)

# KEYS state open most accounts...; ARGV node gen epoch id, then of each charge (amount most window field marks).
# Answers ok, left of each, how many were exceeded and which, pairs of (charge, mark).
GROW: Final = (
    PRELUDE
    + """
local state = call('HMGET', KEYS[1], 'gen:' .. ARGV[1], 'epoch')
if state[1] ~= ARGV[2] then return -2 end
if state[2] ~= ARGV[3] then return -1 end
local now, ok, exceeded, told, said, charges = seconds(), 1, {}, {}, {}, {}
for i = 4, #KEYS do
  local a = 5 + (i - 4) * 5
  local most = amount_of(KEYS[3], ARGV[a + 3], tonumber(ARGV[a + 1]))
  local settled, reserved, granted, mark = stand(KEYS[i], now, tonumber(ARGV[a + 2]))
  local one = {key = KEYS[i], amount = tonumber(ARGV[a]), all = most + granted, used = settled + reserved, mark = mark,
    marks = ARGV[a + 4], window = tonumber(ARGV[a + 2])}
  if one.amount > one.all - one.used then
    ok = 0
    exceeded[#exceeded + 1] = i - 3
  end
  charges[i - 3] = one
end
said[1] = ok
local held = {}
for key, amount in string.gmatch(call('HGET', KEYS[2], ARGV[4]) or '', '([^\\n]+)\\n(%d+)') do
  held[key] = (held[key] or 0) + tonumber(amount)
end
for i = 1, #charges do
  local one = charges[i]
  if ok == 1 then
    one.used = one.used + one.amount
    call('HINCRBY', one.key, 'r', one.amount)
    held[one.key] = (held[one.key] or 0) + one.amount
    pass(one, i, told)
  end
  said[#said + 1] = one.all - one.used
end
if ok == 1 then
  local lines = {}
  for key, amount in pairs(held) do lines[#lines + 1] = key .. '\\n' .. string.format('%.0f', amount) end
  call('HSET', KEYS[2], ARGV[4], table.concat(lines, '\\n'))
end
said[#said + 1] = #exceeded
for i = 1, #exceeded do said[#said + 1] = exceeded[i] end
for i = 1, #told do said[#said + 1] = told[i] end
return said
"""
)

# KEYS state open places... accounts...; ARGV node gen id nplaces, then of each account (value part window).
CLOSE: Final = (
    PRELUDE
    + NEWEST
    + """
release(KEYS[2], ARGV[3])
local nplaces = tonumber(ARGV[4])
for i = 3, 2 + nplaces do call('ZREM', KEYS[i], ARGV[3]) end
local now, a = seconds(), 5
for i = 3 + nplaces, #KEYS do
  put(KEYS[i], ARGV[1], tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), now)
  a = a + 3
end
return 1
"""
)
