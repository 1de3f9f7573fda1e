-- Queries of the registration at an ALS elsewhere (oracle/registration).

-- name: als_lock(int8) -> ignored
-- Until the end of the transaction: no other process changes the rows of ALS at the same time.
SELECT pg_advisory_xact_lock($1)

-- name: als_changed(text, jsonb, jsonb)
-- One change of ALS: $1 action, $2 the row before, $3 after; NULL: none.  Who made it: transaction_begin.
INSERT INTO events (entity, action, channel, actor, role, before, after, reason, request_id, trace_id)
SELECT 'als-oracle', $1, c.channel, c.actor, c.role, $2, $3, c.reason, c.request_id, c.trace_id FROM event_context() c
