-- wrk script: looks up numbered keys with the headers of a hub; wrk.py reads the last line of its output.
--
--   HEAD, DIGITS, TAIL   a target is HEAD, a number with DIGITS digits, TAIL
--   FIRST, SIZE, TIMES   the number is (FIRST + i) * TIMES with i below SIZE
--   WALK                 absent: i is random; a number: i walks once over all values from there, none twice
local function number(name, default)
  return tonumber(os.getenv(name) or default)
end

local head = "GET " .. os.getenv("HEAD")
local pattern = "%0" .. number("DIGITS", 8) .. "d"
local first, size, times, walk = number("FIRST", 0), number("SIZE", 1), number("TIMES", 1), number("WALK", nil)
local tail = (os.getenv("TAIL") or "") .. " HTTP/1.1\r\n" .. table.concat({
  "content-type: application/vnd.interoperability.participants+json;version=2.0",
  "date: " .. os.date("!%a, %d %b %Y %H:%M:%S GMT"),
  "fspiop-source: payerfsp",
  "accept: application/vnd.interoperability.participants+json;version=2",
  "fspiop-destination: Hub",
  "User-Agent: axios/1.18.1",
  "Accept-Encoding: gzip, compress, deflate, br",
  "Host: 127.0.0.1",
  "Connection: keep-alive",
}, "\r\n") .. "\r\n\r\n"

local format, random = string.format, math.random
math.randomseed(number("RANDOM", os.time()))

-- Near the golden section and without a common factor with the size: the walk reaches every number once.
local function step()
  local found = math.floor(size * 0.618) + 1
  local function common(a, b)
    while b ~= 0 do a, b = b, a % b end
    return a
  end
  while common(found, size) ~= 1 do found = found + 1 end
  return found
end

if walk then
  local stride = step()
  local at = (walk % size) * stride % size
  request = function()
    at = (at + stride) % size
    return head .. format(pattern, (first + at) * times) .. tail
  end
else
  request = function()
    return head .. format(pattern, (first + random(0, size - 1)) * times) .. tail
  end
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(format(
    "RESULT requests=%d duration_us=%d p50_us=%d p90_us=%d p99_us=%d p999_us=%d max_us=%d status=%d lost=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
