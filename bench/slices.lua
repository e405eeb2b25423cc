-- The message of call.lua along two ways in turn, some hundred requests each, and the processor time that the process
-- PID spent on each slice: what disturbs a machine lasts longer than a slice, so neighbours are disturbed alike.
-- TARGETS (two paths), TOKEN, MESSAGE, PID and SLICE come from the environment. wrk must have one thread.
-- A slice is counted from its LEAD-th request on: by then all of the other way that were under way are answered.
dofile(os.getenv("CALL"))
local ffi = require("ffi")
ffi.cdef[[
typedef struct { long seconds; long nanoseconds; } spent_t;
int clock_gettime(int clock, spent_t *spent);
]]
local LEAD = 96
local SLICE = tonumber(os.getenv("SLICE"))
local clock = bit.bor(bit.lshift(bit.bnot(tonumber(os.getenv("PID"))), 3), 2) -- of a process, all of its threads
local spent = ffi.new("spent_t")
local function cpu()
  if ffi.C.clock_gettime(clock, spent) ~= 0 then error("the processor time of PID cannot be read") end
  return tonumber(spent.seconds) * 1e9 + tonumber(spent.nanoseconds)
end
local ways, way, sent, began, found = {}, 1, 0, 0, {}
function init(args)
  for path in os.getenv("TARGETS"):gmatch("%S+") do table.insert(ways, wrk.format(nil, path)) end
end
function request()
  if sent == LEAD then
    began = cpu()
  elseif sent == LEAD + SLICE then
    table.insert(found, string.format("%d:%.0f", way, (cpu() - began) / SLICE))
    way, sent = 3 - way, 0
    slices = table.concat(found, " ")
  end
  sent = sent + 1
  return ways[way]
end
local said = done
local threads = {}
local known = setup
function setup(thread) known(thread); table.insert(threads, thread) end
function done(summary, latency, requests)
  said(summary, latency, requests)
  io.write(threads[1]:get("slices") or "", "\n")
end
