-- wrk: GET /recommend of users drawn at random; the result as one line of JSON. ARGS: number of users, length of a list.
local users, k

function init(args)
  users, k = tonumber(args[1]), args[2]
  math.randomseed(os.time())
end

function request()
  return wrk.format("GET", "/recommend?user=u" .. math.random(0, users - 1) .. "&k=" .. k)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.2f, "p90_ms": %.2f, "p99_ms": %.2f, "max_ms": %.2f, '
      .. '"bytes": %d, "errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, summary.bytes, errors.connect, errors.read, errors.write,
    errors.status, errors.timeout))
end
