-- As wrk.lua, but $RATE requests per second at fixed times, independent of the responses: a request is due at its time and
-- is sent on the next free connection. Reports how many were more than 100 ms late: those that the server delayed.
local ffi = require("ffi")
ffi.cdef "typedef struct { long s; long ns; } heart_time; int clock_gettime(int, heart_time *);"
local time = ffi.new("heart_time")
local requests, turn, slots, begun = {}, 0, 0, nil
local rate, connections = tonumber(os.getenv("RATE")), tonumber(os.getenv("CONNECTIONS"))
local threads = {}

local function now()
  ffi.C.clock_gettime(1, time)
  return tonumber(time.s) * 1e3 + tonumber(time.ns) / 1e6
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init()
  for line in io.lines(os.getenv("BODIES")) do
    requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
  end
end

function delay()
  begun = begun or now() + 100 + connections -- all are connected by then, over TLS too
  local wait = begun + slots * 1e3 / rate - now()
  slots = slots + 1
  if wait < -100 then late_count = (late_count or 0) + 1 end
  return wait > 0 and math.floor(wait + 0.5) or 0
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e, held = summary.errors, 0
  for _, thread in ipairs(threads) do held = held + (thread:get("late_count") or 0) end
  print(string.format(
    '\nFIGURES {"requests": %d, "seconds": %.6f, "p50": %.4f, "p99": %.4f, "p999": %.4f, "refused": %d, "broken": %d, "late": %d}',
    summary.requests, summary.duration / 1e6 - 0.1 - connections / 1e3,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout, held))
end
