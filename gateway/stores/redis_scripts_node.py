"""What Redis does, in Lua, besides exchanges: a node comes, reconciles, beats; administrators adjust and look.

The keys and the rules are those of redis_scripts.py; each script is one step that nothing comes between.
"""

from __future__ import annotations

from typing import Final

from gateway.stores.redis_scripts import NEWEST, PRELUDE

# KEYS state; ARGV node instance first alive. A new connection of the node: its generation, the epoch, the time. A
# process that was here before (first 0) does not come back while another of its name is alive: it beat in the last
# seconds.
HELLO: Final = """
local now = redis.call('TIME')
local f = redis.call('HMGET', KEYS[1], 'who:' .. ARGV[1], 'at:' .. ARGV[1])
local other = f[1] and f[1] ~= ARGV[2] and tonumber(now[1]) - tonumber(f[2]) < tonumber(ARGV[4])
if ARGV[3] == '0' and other then return 0 end
redis.call('HSET', KEYS[1], 'who:' .. ARGV[1], ARGV[2], 'at:' .. ARGV[1], now[1])
-- Never one that there was before, also when the server was emptied in between.
local gen = tonumber(now[1]) * 1000000 + tonumber(now[2])
gen = math.max(gen, tonumber(redis.call('HGET', KEYS[1], 'gen:' .. ARGV[1]) or 0) + 1)
redis.call('HSET', KEYS[1], 'gen:' .. ARGV[1], gen)
return {gen, redis.call('HGET', KEYS[1], 'epoch') or '', tonumber(now[1]), tonumber(now[2])}
"""

# KEYS state open; ARGV node gen ids...: what memory has. Releases all others; answers which of the ids are not here.
MATCH: Final = (
    PRELUDE
    + NEWEST
    + """
local known, missing = {}, {}
for i = 3, #ARGV do known[ARGV[i]] = 1 end
local ids = call('HKEYS', KEYS[2])
for i = 1, #ids do
  if known[ids[i]] then known[ids[i]] = 2 else release(KEYS[2], ids[i]) end
end
for i = 3, #ARGV do
  if known[ARGV[i]] == 1 then missing[#missing + 1] = ARGV[i] end
end
return missing
"""
)

# KEYS state open accounts...; ARGV node gen id amounts...: what an open exchange has reserved, and nothing else.
RESTORE: Final = (
    PRELUDE
    + NEWEST
    + """
release(KEYS[2], ARGV[3])
local lines = {}
for i = 3, #KEYS do
  call('HINCRBY', KEYS[i], 'r', tonumber(ARGV[i + 1]))
  lines[#lines + 1] = KEYS[i] .. '\\n' .. ARGV[i + 1]
end
call('HSET', KEYS[2], ARGV[3], table.concat(lines, '\\n'))
return 1
"""
)

# KEYS state accounts...; ARGV node gen, then of each account (kind value part window ttl): the node's parts.
PUSH: Final = (
    PRELUDE
    + NEWEST
    + """
local now, a = seconds(), 3
for i = 2, #KEYS do
  local kind, value, window, ttl = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  if kind == 's' then
    put(KEYS[i], ARGV[1], tonumber(value), tonumber(ARGV[a + 2]), window, now)
  elseif kind == 'g' then
    local diff = tonumber(value) - tonumber(call('HGET', KEYS[i], 'g:' .. ARGV[1]) or 0)
    call('HSET', KEYS[i], 'g:' .. ARGV[1], value)
    call('HINCRBY', KEYS[i], 'g', diff)
  else
    call('HSET', KEYS[i], 'u:' .. ARGV[1], value)
    lapse(KEYS[i], now)
  end
  if ttl > 0 and call('TTL', KEYS[i]) < 0 then call('EXPIRE', KEYS[i], ttl) end
  a = a + 5
end
return 1
"""
)

# KEYS state most; ARGV node gen, then of each (field, amount or '-', when): the latest word counts.
SET_MOST: Final = (
    PRELUDE
    + NEWEST
    + """
for i = 3, #ARGV, 3 do
  local old = tonumber(string.match(call('HGET', KEYS[2], ARGV[i]) or '', ' (.+)$') or -1)
  if tonumber(ARGV[i + 2]) >= old then call('HSET', KEYS[2], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2]) end
end
return 1
"""
)

# KEYS state account; ARGV node gen amount window: takes it off a rolling account, the oldest first. Answers (part,
# taken).
FORGIVE: Final = (
    PRELUDE
    + NEWEST
    + """
local now, window, rest, parts, said = seconds(), tonumber(ARGV[4]), tonumber(ARGV[3]), {}, {}
stand(KEYS[2], now, window)
local all = call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local at = string.match(all[i], '^t:(%-?%d+)$')
  if at then parts[#parts + 1] = {tonumber(at), tonumber(all[i + 1])} end
end
table.sort(parts, function(x, y) return x[1] < y[1] end)
for i = 1, #parts do
  local some = math.min(rest, math.max(0, parts[i][2]))
  if some > 0 then
    local part = string.format('%.0f', parts[i][1])
    call('HINCRBY', KEYS[2], 't:' .. part, -some)
    call('HINCRBY', KEYS[2], 's:' .. ARGV[1] .. ':' .. part, -some)
    call('HINCRBY', KEYS[2], 's', -some)
    rest = rest - some
    said[#said + 1] = parts[i][1]
    said[#said + 1] = some
  end
end
return said
"""
)

# KEYS most account; ARGV amount window field marks: another amount counts now; marks that it has passed are not told.
UNMARK: Final = (
    PRELUDE
    + """
local settled, reserved, granted = stand(KEYS[2], seconds(), tonumber(ARGV[2]))
local one = {key = KEYS[2], mark = 0, marks = ARGV[4], window = 0, used = settled + reserved}
one.all = amount_of(KEYS[1], ARGV[3], tonumber(ARGV[1])) + granted
pass(one, 1, {})
return 1
"""
)

# KEYS state nodes; ARGV node gen server recent peers...: this node has reconciled with this server, the peers
# were here when it last heard of them. Answers who is awaited (0, names), or, when nobody is, who was here lately
# (1, names).
JOIN: Final = (
    PRELUDE
    + NEWEST
    + """
local now = seconds()
call('HSET', KEYS[1], 'sync:' .. ARGV[1], ARGV[3])
call('ZADD', KEYS[2], now, ARGV[1])
local known = call('HGET', KEYS[1], 'epoch') == ARGV[3]
if not known then
  for i = 5, #ARGV do call('ZADD', KEYS[2], now, ARGV[i]) end
end
local away, here = {0}, {1}
local lately = call('ZRANGEBYSCORE', KEYS[2], now - tonumber(ARGV[4]), '+inf')
for i = 1, #lately do
  here[#here + 1] = lately[i]
  if call('HGET', KEYS[1], 'sync:' .. lately[i]) ~= ARGV[3] then away[#away + 1] = lately[i] end
end
if not known then
  if #away > 1 then return away end
  call('HSET', KEYS[1], 'epoch', ARGV[3])
end
return here
"""
)

# KEYS state open account; ARGV node gen id left value part window: of a lease, what was spent is settled, the rest
# is held.
TURN: Final = (
    PRELUDE
    + NEWEST
    + """
release(KEYS[2], ARGV[3])
call('HINCRBY', KEYS[3], 'r', ARGV[4])
call('HSET', KEYS[2], ARGV[3], KEYS[3] .. '\\n' .. ARGV[4])
put(KEYS[3], ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), seconds())
return 1
"""
)

# KEYS state nodes; ARGV node gen silent prefix lease: what nodes that are silent for so long had leased is free again.
REAP: Final = (
    PRELUDE
    + NEWEST
    + """
local dead, gone = call('ZRANGEBYSCORE', KEYS[2], '-inf', seconds() - tonumber(ARGV[3])), 0
for i = 1, #dead do
  local opened = ARGV[4] .. dead[i]
  local ids = call('HKEYS', opened)
  for j = 1, #ids do
    if string.sub(ids[j], 1, #ARGV[5]) == ARGV[5] then
      release(opened, ids[j])
      gone = gone + 1
    end
  end
end
return gone
"""
)

# KEYS state nodes; ARGV node gen: goes for good; nobody waits for it.
BYE: Final = (
    PRELUDE
    + NEWEST
    + """
return call('ZREM', KEYS[2], ARGV[1])
"""
)

# KEYS state nodes; ARGV node gen recent. Answers the epoch, the time, who was here lately.
BEAT: Final = (
    PRELUDE
    + NEWEST
    + """
local time = call('TIME')
local now = tonumber(time[1])
call('ZADD', KEYS[2], now, ARGV[1])
call('HSET', KEYS[1], 'at:' .. ARGV[1], now)
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 691200)
return {call('HGET', KEYS[1], 'epoch') or '', now, tonumber(time[2]),
  call('ZRANGEBYSCORE', KEYS[2], now - tonumber(ARGV[3]), '+inf')}
"""
)

# KEYS state places...; ARGV node gen ttl ids...: each place lives on.
KEEP: Final = (
    PRELUDE
    + NEWEST
    + """
local now = seconds()
for i = 2, #KEYS do
  call('ZADD', KEYS[i], now + tonumber(ARGV[3]), ARGV[i + 2])
  call('EXPIRE', KEYS[i], tonumber(ARGV[3]) * 2)
end
return 1
"""
)

# KEYS most accounts...; ARGV of each (most window field). Answers most, granted, reserved, settled of each.
BALANCES: Final = (
    PRELUDE
    + """
local now, said, a = seconds(), {}, 1
for i = 2, #KEYS do
  local settled, reserved, granted = stand(KEYS[i], now, tonumber(ARGV[a + 1]))
  said[#said + 1] = amount_of(KEYS[1], ARGV[a + 2], tonumber(ARGV[a]))
  said[#said + 1] = granted
  said[#said + 1] = reserved
  said[#said + 1] = settled
  a = a + 3
end
return said
"""
)
