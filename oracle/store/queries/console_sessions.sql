-- Sessions of people who signed in with a browser (oracle/identity/sessions.py).

-- name: session_add(bytea, text, text, text[], text, float8)
-- $1 hash of the token, $2 actor, $3 role, $4 FSPs or NULL, $5 person or NULL, $6 seconds until its end.
INSERT INTO console_sessions (token_sha256, actor, role, fsp_ids, person, ends_at)
VALUES ($1, $2, $3::text::credential_role, $4, $5, now() + make_interval(secs => $6))

-- name: sessions_over(text, int8)
-- Deletes the oldest sessions of $1 beyond $2.  By console_sessions_by_actor.
DELETE FROM console_sessions WHERE token_sha256 IN (
    SELECT token_sha256 FROM console_sessions WHERE actor = $1 ORDER BY started_at DESC, token_sha256 OFFSET $2)

-- name: session(bytea, float8) -> SessionRow
-- $1 hash of the token, $2 seconds that a session can rest.  By primary key.
SELECT actor, role::text, fsp_ids, person, extract(epoch FROM now() - seen_at)::float8 AS rests_s FROM console_sessions
WHERE token_sha256 = $1 AND ends_at > now() AND seen_at > now() - make_interval(secs => $2)

-- name: session_seen(bytea)
UPDATE console_sessions SET seen_at = now() WHERE token_sha256 = $1

-- name: session_end(bytea)
DELETE FROM console_sessions WHERE token_sha256 = $1

-- name: sessions_end_of(text)
-- All of one actor.  By console_sessions_by_actor.
DELETE FROM console_sessions WHERE actor = $1

-- name: sessions_delete_expired(float8)
-- In the background, a portion at a time: those that ended, and those that rested for longer than $1 seconds.
DELETE FROM console_sessions WHERE ctid IN (
    SELECT ctid FROM console_sessions WHERE ends_at < now() OR seen_at < now() - make_interval(secs => $1)
    LIMIT 10000 FOR UPDATE SKIP LOCKED)
