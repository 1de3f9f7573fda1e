r"""What Redis does for `exchanges`, each step as one script.  Nothing else runs in Redis meanwhile, so one worker wins.

A hash for each (payer, party): name of a request -> its state, when it began, its payees, and what is due.

    O 1764381330123456 \n bankb \n bankc \n \0 …
    |        |              |       |         what `due` has for the time-out of this request, if there is one
    |        |              the payees that were asked
    |        when it began, µs since 1970 by the clock of its worker
    O open, A answered, E an error of ours was chosen (and `due` has it until the payer has it), T the payer has it

`*` is a field if closed requests were removed, because there were too many.
`due` is a sorted set: what must be told, by the time from which any worker can take it.
"""

from __future__ import annotations

from typing import Final

# KEYS: the exchange, due.  ARGV: name, value, for how long it is kept in ms, time-out in ms or 0, the member of due,
# for how long due is kept in ms, from how many requests on closed ones are removed, how many there can be.
# Returns 0 if there are too many.  Most requests are written by plain commands, which take half of the time.  Then the
# script comes after them where there are many: the request is there already, and can even have an answer.
START: Final = rb"""
local present = redis.call('HGET', KEYS[1], ARGV[1])
if present then
    if string.sub(present, 1, 1) ~= 'O' then return 1 end
    redis.call('HDEL', KEYS[1], ARGV[1])
end
local count = redis.call('HLEN', KEYS[1])
if count >= tonumber(ARGV[7]) then
    local all = redis.call('HGETALL', KEYS[1])
    for _, states in ipairs({'A', 'ET'}) do
        if count >= tonumber(ARGV[7]) then
            for i = 1, #all, 2 do
                if string.find(states, string.sub(all[i + 1], 1, 1), 1, true) then
                    count = count - redis.call('HDEL', KEYS[1], all[i])
                end
            end
        end
    end
    redis.call('HSET', KEYS[1], '*', '-')
    if count >= tonumber(ARGV[8]) then return 0 end
end
if ARGV[4] ~= '0' then
    local time = redis.call('TIME')
    local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
    redis.call('ZADD', KEYS[2], string.format('%d', due), ARGV[5])
    redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: the exchange, due.  ARGV: the payee, for how long an answered request is kept in ms, before which time a request
# is too old.
# Returns 2: an open request is answered; 1: nothing fits; 0: withhold it.  The oldest open request that asked this
# payee is answered.  What an FSP sends that was not asked answers nothing.
ANSWER: Final = rb"""
local all = redis.call('HGETALL', KEYS[1])
local found, value, refused
local answered = 1
for i = 1, #all, 2 do
    local each = all[i + 1]
    local state, began = string.sub(each, 1, 1), string.sub(each, 2, 17)
    if state == 'A' or state == '-' then
        answered = answered + 1
    elseif began >= ARGV[3] then
        local head = string.sub(each, 1, (string.find(each, '\0', 1, true) or 0) - 1)
        if string.find(head, '\n' .. ARGV[1] .. '\n', 1, true) then
            if state ~= 'O' then
                refused = true
            elseif not found or began < string.sub(value, 2, 17) then
                found, value = all[i], each
            end
        end
    end
end
if not found then return refused and 0 or 1 end
redis.call('HSET', KEYS[1], found, 'A' .. string.sub(value, 2, 17))
local cut = string.find(value, '\0', 1, true)
if cut then redis.call('ZREM', KEYS[2], string.sub(value, cut + 1)) end
if 2 * answered == #all then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 2
"""

# KEYS: the exchange, due.  ARGV: name, all of whose calls have failed.
# Returns 1: tell the payer; 0: do not, it has an answer or an error.
FAIL: Final = rb"""
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return 1 - redis.call('HEXISTS', KEYS[1], '*') end
if string.sub(value, 1, 1) ~= 'O' then return 0 end
local cut = string.find(value, '\0', 1, true)
if cut then redis.call('ZREM', KEYS[2], string.sub(value, cut + 1)) end
redis.call('HSET', KEYS[1], ARGV[1], 'E' .. string.sub(value, 2, (cut or 0) - 1))
return 1
"""

# KEYS: the exchange.  ARGV: name.  Ends an open request by an error of ours, although a payee can still answer.
# Returns 1: tell the payer; 0: it has an answer or its error; -1: this request is not known.
END: Final = rb"""
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return redis.call('HEXISTS', KEYS[1], '*') - 1 end
local state = string.sub(value, 1, 1)
if state == 'O' then redis.call('HSET', KEYS[1], ARGV[1], 'E' .. string.sub(value, 2)) end
return (state == 'O' or state == 'E') and 1 or 0
"""

# KEYS: the exchange.  ARGV: name.  Notes that the payer has its error.
TOLD: Final = rb"""
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value and string.sub(value, 1, 1) == 'E' then
    local head = string.sub(value, 2, (string.find(value, '\0', 1, true) or 0) - 1)
    redis.call('HSET', KEYS[1], ARGV[1], 'T' .. head)
end
return 1
"""

# KEYS: due, swept.  ARGV: how many at most, for how long they are taken in ms, for how long the keys are kept in ms, a
# member that must be there, how long there can be no sweep in ms.
# Returns the time, what this worker must tell now, and whether that member is there.
# `swept` holds when the last sweep of any worker was, and until when nothing is taken.  After a pause of all workers,
# most likely because Redis was away, each of them first needs the time to renew what it has.
TAKE: Final = rb"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last, from = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) (%d+)$')
if not last or now - last > tonumber(ARGV[5]) then from = now + ARGV[2] end
redis.call('SET', KEYS[2], string.format('%d %d', now, from), 'PX', ARGV[3])
local taken = {}
if now >= tonumber(from) then
    taken = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', 0, ARGV[1])
end
for _, member in ipairs(taken) do
    redis.call('ZADD', KEYS[1], string.format('%d', now + ARGV[2]), member)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {now, taken, redis.call('ZSCORE', KEYS[1], ARGV[4]) and 1 or 0}
"""
