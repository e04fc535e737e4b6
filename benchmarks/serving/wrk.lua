-- POST the JSON bodies of the file $BODIES, one per line, in order, and print the results as one line of JSON. Arguments are
-- further headers of each request.
--
-- Each connection waits $DELAY ms before its first request, so that all are accepted before there is work: a busy server
-- accepts one connection per iteration of its loop, which would dominate a short slice.
local requests, turn, delayed = {}, 0, 0
local connections, wait = tonumber(os.getenv("CONNECTIONS")), tonumber(os.getenv("DELAY"))

function init(arguments)
  local headers = {["Content-Type"] = "application/json"}
  for _, line in ipairs(arguments) do
    local name, value = line:match("^([^:]+): (.*)$")
    headers[name] = value
  end
  for line in io.lines(os.getenv("BODIES")) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, line)
  end
end

function delay()
  if delayed < connections then
    delayed = delayed + 1
    return wait
  end
  return 0
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '\nFIGURES {"requests": %d, "seconds": %.6f, "p50": %.4f, "p99": %.4f, "p999": %.4f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6 - wait / 1e3,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
