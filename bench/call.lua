-- One small tools/call, as an MCP client of the 2025 era sends it, or the message of an A2A client (MESSAGE is `a2a`).
-- TOKEN, TARGET and MESSAGE come from the environment.
local a2a = os.getenv("MESSAGE") == "a2a"
local call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"city":"Oslo","days":1,"units":"metric","language":"en","detail":"short","station":"18700","comment":"for the evening report, please"}}}'
local message = '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m-1","role":"ROLE_USER","parts":[{"text":"A table for two at seven, by the window if there is one, please; we may be ten minutes late"}]}}}'
wrk.method = "POST"
wrk.body = a2a and message or call
wrk.path = os.getenv("TARGET")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
wrk.headers[a2a and "A2A-Version" or "MCP-Protocol-Version"] = a2a and "1.0" or "2025-06-18"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN")
wrong = 0
function response(status, headers, answer)
  if status ~= 200 or #answer ~= 307 then wrong = wrong + 1 end
end
-- wrk keeps a Lua state for each thread: the counts are read from the threads when all is over.
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + (thread:get("wrong") or 0) end
  io.write(string.format('{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"errors":%d,"wrong":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout, bad))
end
