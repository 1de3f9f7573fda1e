-- Verifications that people asked for (audit/verifications, api/history/verifications).  There are 100 at most.

-- fragment: verification_columns
SELECT verification_id, state, directory, asked_by, asked_at, begun_at, ended_at, stopped_by, leaves, leaves_read,
       rows_read, findings, listed::text
FROM verifications

-- name: verification_ask(bool, text) -> int
-- No row while another one waits or runs.  By verifications_one_at_a_time.
INSERT INTO verifications (directory, asked_by) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING verification_id

-- name: verifications_drop(int8)
-- All but the newest $1.
DELETE FROM verifications WHERE verification_id <= (SELECT verification_id FROM verifications
                                                    ORDER BY verification_id DESC OFFSET $1 LIMIT 1)

-- name: verification(int8) -> VerificationRow
-- include: verification_columns
WHERE verification_id = $1

-- name: verifications_page(int8, int8) -> VerificationRow
-- $1 below this one, $2 limit.
-- include: verification_columns
WHERE verification_id < $1 ORDER BY verification_id DESC LIMIT $2

-- name: verification_stop(int8, text)
UPDATE verifications SET state = 'stopped', stopped_by = $2, ended_at = now()
WHERE verification_id = $1 AND state IN ('waiting', 'running')

-- name: verification_begin(text, float8)
-- $1 the process that begins it, $2 after how many seconds without a word another process counts as dead.
UPDATE verifications
SET state = 'running', runner = $1::text::uuid, begun_at = now(), seen_at = now(), leaves = 0, leaves_read = 0,
    rows_read = 0, findings = 0, listed = '[]'
WHERE state = 'waiting' OR (state = 'running' AND seen_at < now() - make_interval(secs => $2))

-- name: verification_begun(text) -> VerificationBegunRow
-- What this process does.
SELECT verification_id, directory FROM verifications WHERE runner = $1::text::uuid AND state = 'running'

-- name: verification_note(int8, text, int8, int8, int8, int8, text, text)
-- $1 the verification, $2 its process, $3 leaves of the log, $4 leaves read, $5 rows read, $6 findings, $7 some of them,
-- $8 its state.  No row: it was stopped, or another process does it.
UPDATE verifications
SET leaves = $3, leaves_read = $4, rows_read = $5, findings = $6, listed = $7::text::jsonb, state = $8, seen_at = now(),
    ended_at = CASE WHEN $8 <> 'running' THEN now() END
WHERE verification_id = $1 AND runner = $2::text::uuid AND state = 'running'
