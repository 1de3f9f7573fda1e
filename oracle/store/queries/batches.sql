-- Queries of batches (oracle/imports).  migrations/0002 describes the tables.

-- Coming in ----------------------------------------------------------------------------------------------------

-- name: batch_number() -> BatchNumberRow
-- The number of a new batch.
SELECT nextval(pg_get_serial_sequence('batches', 'batch_id')) AS batch_id

-- name: batches_in_quota(text, float8, int8[]) -> QuotaRow
-- Of FSP $1: its unfinished files, without changes of one alias; and the bytes of these, of all that it uploaded in the last $2 seconds, of uploads in
-- progress but for those in $3, and of uploads that broke off: these count until the end of an hour.
SELECT count(*) FILTER (WHERE state IN ('validating', 'waiting', 'applying')
                        AND NOT EXISTS (SELECT FROM batch_changes c WHERE c.batch_id = batches.batch_id)) AS open,
       (coalesce(sum(file_bytes), 0)
        + (SELECT coalesce(sum(bytes), 0) FROM batch_uploads WHERE fsp_id = $1 AND batch_id <> ALL ($3::bigint[]))
        + (SELECT coalesce(sum(bytes), 0) FROM uploads_broken_off
           WHERE fsp_id = $1 AND hour > now() - make_interval(secs => $2) - interval '1 hour'))::bigint AS bytes
FROM batches
WHERE fsp_id = $1
  AND (state IN ('validating', 'waiting', 'applying') OR uploaded_at > now() - make_interval(secs => $2))

-- name: upload_begin(int8, text)
-- $1 batch, $2 FSP.
INSERT INTO batch_uploads (batch_id, fsp_id) VALUES ($1, $2)

-- name: upload_part(int8, int4, bytea, int8)
-- $1 batch, $2 part, $3 data, $4 its bytes in the file.  No row: the upload was dropped (see uploads_abandoned).
WITH coming AS (UPDATE batch_uploads SET seen_at = now(), bytes = bytes + $4 WHERE batch_id = $1 RETURNING batch_id)
INSERT INTO batch_files (batch_id, part, data) SELECT batch_id, $2, $3 FROM coming

-- name: upload_locked(int8) -> BatchIdRow
SELECT batch_id FROM batch_uploads WHERE batch_id = $1 FOR UPDATE

-- name: upload_end(int8)
-- It becomes a batch.
DELETE FROM batch_uploads WHERE batch_id = $1

-- name: upload_break_off(int8)
-- Its parts are deleted; its bytes still count for the FSP.
WITH gone AS (DELETE FROM batch_uploads WHERE batch_id = $1 RETURNING fsp_id, bytes)
INSERT INTO uploads_broken_off (fsp_id, hour, bytes)
SELECT fsp_id, date_trunc('hour', now()), bytes FROM gone WHERE fsp_id IS NOT NULL AND bytes > 0
ON CONFLICT (fsp_id, hour) DO UPDATE SET bytes = uploads_broken_off.bytes + excluded.bytes

-- name: uploads_broken_off_delete_expired()
-- In the background.  Longer than they count.
DELETE FROM uploads_broken_off WHERE hour < now() - interval '2 days'

-- name: batch_country(int8, text, text)
-- $1 batch, $2 FSP, $3 the country that the upload names, or NULL for that of the FSP.  No row: there is none.
INSERT INTO batch_countries (batch_id, country)
SELECT $1, coalesce($3, default_country) FROM fsps WHERE fsp_id = $2 AND coalesce($3, default_country) IS NOT NULL

-- name: batch_person(int8, text)
-- $1 batch, $2 the person who sent it.
INSERT INTO batch_persons (batch_id, person) VALUES ($1, $2)

-- name: batch_add(int8, text, text, text, int8, bytea, text, text, text)
INSERT INTO batches (batch_id, fsp_id, file_name, file_format, file_bytes, file_sha256, note, uploaded_by, uploaded_role,
                     needs_approval)
OVERRIDING SYSTEM VALUE
SELECT $1, fsp_id, $3, $4, $5, $6, $7, $8, $9, two_persons FROM fsps WHERE fsp_id = $2

-- One alias (oracle/imports/one_alias.py) ----------------------------------------------------------------------

-- name: changes_waiting(text, int8) -> WaitingRow
-- Whether the changes of one alias of FSP $1 must wait for a second person, and how many batches of it wait already, at
-- most $2 are counted.  By batches_waiting.
SELECT two_persons, (SELECT count(*) FROM (SELECT FROM batches b WHERE b.fsp_id = $1 AND state = 'waiting' LIMIT $2) w) AS waiting
FROM fsps WHERE fsp_id = $1

-- name: change_lock(int8) -> ignored
-- Until the end of the transaction: no second call adds the same change ($1, of its file) at the same time.
SELECT pg_advisory_xact_lock($1)

-- name: change_waiting(text, bytea, text, text, text) -> BatchIdRow
-- The batch of FSP $1 that waits for the same change already: with the file of SHA-256 $2, asked for by $3, action $4, for
-- the version $5 of the alias or NULL.  By batches_waiting.
SELECT batch_id FROM batches b JOIN batch_changes c USING (batch_id)
WHERE fsp_id = $1 AND state = 'waiting' AND file_sha256 = $2 AND uploaded_by = $3 AND c.action = $4
  AND c.version IS NOT DISTINCT FROM $5
ORDER BY batch_id LIMIT 1

-- name: change_add(int8, text, text, int8, bytea, text, text, text)
-- A file of one row that is read and checked already.  $1 batch, $2 FSP, $3 file name, $4 bytes, $5 SHA-256, $6 note,
-- $7 uploader and $8 its role.
INSERT INTO batches (batch_id, fsp_id, state, file_name, file_format, file_bytes, file_sha256, note, uploaded_by,
                     uploaded_role, needs_approval, bytes_read, rows_read, rows_valid, chunks, validated_at)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, 'waiting', $3, 'csv', $4, $5, $6, $7, $8, true, $4, 1, 1, 1, clock_timestamp())

-- name: change_describe(int8, text, text)
-- $1 batch, $2 action, $3 the version that the alias must still have, or NULL.
INSERT INTO batch_changes (batch_id, action, version) VALUES ($1, $2, $3)

-- name: change_file_add(int8, bytea)
INSERT INTO batch_files (batch_id, part, data) VALUES ($1, 0, $2)

-- name: uploads_abandoned(float8) -> BatchIdRow
-- Uploads without a new part for $1 seconds.  Locked, so that an upload that does go on waits, and is then refused.
SELECT batch_id FROM batch_uploads WHERE seen_at < now() - make_interval(secs => $1)
ORDER BY seen_at LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: upload_parts_drop(int8, int8)
-- Some parts of a dropped upload: to delete all at once could take longer than a change may take.
DELETE FROM batch_files WHERE batch_id = $1 AND part IN (SELECT part FROM batch_files WHERE batch_id = $1 LIMIT $2)

-- Read ---------------------------------------------------------------------------------------------------------

-- fragment: batch_columns
-- All that BatchRow has, of a batch b.
SELECT b.*, state::text AS state, (SELECT country FROM batch_countries c WHERE c.batch_id = b.batch_id) AS country,
       (SELECT deleted_at FROM batch_deletions d WHERE d.batch_id = b.batch_id) AS file_deleted_at,
       (SELECT action FROM batch_changes c WHERE c.batch_id = b.batch_id) AS change_action,
       (SELECT version FROM batch_changes c WHERE c.batch_id = b.batch_id) AS change_version,
       (SELECT rows FROM batch_changes c JOIN batch_chunks k USING (batch_id)
        WHERE c.batch_id = b.batch_id AND k.chunk = 0) AS change_rows,
       (SELECT person FROM batch_persons p WHERE p.batch_id = b.batch_id) AS uploaded_person,
       ARRAY(SELECT ARRAY[c.credential_id, c.label, c.role::text, coalesce(c.fsp_id, ''), coalesce(c.person, '')]
             FROM credentials c
             WHERE c.credential_id IN (b.uploaded_by, b.decided_by, b.cancelled_by)
                   OR c.person IN (b.uploaded_by, b.decided_by, b.cancelled_by)
             ORDER BY c.credential_id) AS people

-- name: batch(int8, text) -> BatchRow
-- include: batch_columns
FROM batches b WHERE batch_id = $1 AND ($2::text IS NULL OR fsp_id = $2)

-- name: batch_locked(int8, text) -> BatchRow
-- Locked until the transaction ends: nobody applies, approves or cancels it meanwhile.
-- include: batch_columns
FROM batches b WHERE batch_id = $1 AND ($2::text IS NULL OR fsp_id = $2) FOR UPDATE

-- name: batches_page(text, batch_state[], text[], timestamptz, timestamptz, int8, int8, text[], text[], bool) -> BatchRow
-- $1 FSP or NULL for all, $2 states or NULL, $3 uploaders or NULL, $4 from, $5 to, $6 before this number, $7 limit,
-- $8 people who uploaded, approved, rejected or cancelled it, or NULL, $9 of these FSPs alone or NULL, $10 whether it is the
-- change of one alias, or NULL.  Plan it for its arguments: by the primary key, or by batches_by_state, batches_by_time or the
-- indexes of people where few fit.  OFFSET 0: else the planner may read all of batch_changes first.
-- include: batch_columns
FROM batches b
WHERE ($1::text IS NULL OR fsp_id = $1) AND ($2::batch_state[] IS NULL OR state = ANY ($2))
  AND ($3::text[] IS NULL OR uploaded_by = ANY ($3))
  AND ($8::text[] IS NULL OR uploaded_by = ANY ($8) OR decided_by = ANY ($8) OR cancelled_by = ANY ($8))
  AND ($4::timestamptz IS NULL OR uploaded_at >= $4) AND ($5::timestamptz IS NULL OR uploaded_at < $5)
  AND ($6::bigint IS NULL OR batch_id < $6) AND ($9::text[] IS NULL OR fsp_id = ANY ($9))
  AND ($10::bool IS NULL OR EXISTS (SELECT FROM batch_changes c WHERE c.batch_id = b.batch_id OFFSET 0) = $10)
ORDER BY batch_id DESC LIMIT $7

-- name: batches_waiting_page(text, text[], int8, int8) -> BatchRow
-- What waits for a second person, the oldest first.  $1 FSP or NULL for all, $2 of these FSPs alone or NULL, $3 behind this
-- number, $4 limit.  By batches_waiting.
-- include: batch_columns
FROM batches b
WHERE state = 'waiting' AND ($1::text IS NULL OR fsp_id = $1) AND ($2::text[] IS NULL OR fsp_id = ANY ($2))
  AND batch_id > $3
ORDER BY batch_id LIMIT $4

-- name: batches_decided_page(text, text[], text[], timestamptz, int8, int8) -> BatchRow
-- What a person approved or rejected, the last decision first.  $1 FSP or NULL for all, $2 of these FSPs alone or NULL, $3 who
-- decided or NULL, $4 and $5 before this time and number, or NULL, $6 limit.  By batches_decided.
-- include: batch_columns
FROM batches b
WHERE decided_at IS NOT NULL AND ($1::text IS NULL OR fsp_id = $1) AND ($2::text[] IS NULL OR fsp_id = ANY ($2))
  AND ($3::text[] IS NULL OR decided_by = ANY ($3))
  AND ($4::timestamptz IS NULL OR (decided_at, batch_id) < ($4, $5))
ORDER BY decided_at DESC, batch_id DESC LIMIT $6

-- name: batches_by_state() -> StateCountRow
-- For the metrics.
SELECT state::text AS state, count(*) AS batches FROM batches GROUP BY state

-- name: batches_on_turn(int8) -> OnTurnRow
-- For the metrics: the files that must advance now.  At most $1 of those that are read, as `batches_validating` chooses
-- them, and for each FSP the one that is applied.  By batches_unfinished.
SELECT batch_id, version
FROM ((SELECT * FROM (SELECT DISTINCT ON (fsp_id) * FROM batches WHERE state = 'validating'
                      ORDER BY fsp_id, bytes_read = 0, batch_id) AS first
       ORDER BY bytes_read = 0, batch_id LIMIT $1)
      UNION ALL
      (SELECT DISTINCT ON (fsp_id) * FROM batches WHERE state = 'applying' ORDER BY fsp_id, started_at, batch_id)) AS turns

-- name: batch_results(int8, int4, int4) -> ChunkResultsRow
-- For the results file: a portion of the chunks, each with the state of the batch at the same instant.
-- $1 batch, $2 first chunk, $3 limit.
SELECT chunk, rows, results, state::text AS state
FROM batch_chunks JOIN batches USING (batch_id)
WHERE batch_id = $1 AND chunk >= $2 AND chunk < $2 + $3 ORDER BY chunk

-- name: batch_marks(int8, int4, int4) -> ChunkMarksRow
-- For a page of results: the results of a portion of the chunks, without their rows.  $1 batch, $2 first chunk, $3 limit.
SELECT chunk, results, state::text AS state
FROM batch_chunks JOIN batches USING (batch_id)
WHERE batch_id = $1 AND chunk >= $2 AND chunk < $2 + $3 ORDER BY chunk

-- name: batch_part(int8, int4) -> PartRow
SELECT data FROM batch_files WHERE batch_id = $1 AND part = $2

-- name: batch_chunk(int8, int4) -> ChunkRow
SELECT rows, results FROM batch_chunks WHERE batch_id = $1 AND chunk = $2

-- name: batch_chunks_of(int8, text) -> ChunkNumberRow
-- The chunks with rows that one transaction ($2) applied; all chunks if $2 is NULL.
SELECT chunk FROM batch_chunks WHERE batch_id = $1 AND ($2::text IS NULL OR $2::xid8 = ANY (xacts)) ORDER BY chunk

-- Decided ------------------------------------------------------------------------------------------------------

-- name: batch_decide(int8, batch_state, text, text)
-- $2 applying or rejected, $3 by whom, $4 why.
UPDATE batches
SET state = $2::batch_state, decided_by = $3, decided_at = clock_timestamp(), decision_reason = $4, rows_per_s = NULL,
    started_at = CASE WHEN $2::batch_state = 'applying' THEN clock_timestamp() END,
    finished_at = CASE WHEN $2::batch_state = 'rejected' THEN clock_timestamp() END
WHERE batch_id = $1

-- name: batch_cancel(int8, text)
UPDATE batches SET state = 'cancelled', cancelled_by = $2, finished_at = clock_timestamp(), rows_per_s = NULL
WHERE batch_id = $1

-- Read from the file (oracle/imports/validating.py) ------------------------------------------------------------

-- name: batches_validating(int8, int8[], int8[]) -> BatchIdRow
-- At most $1 batches, one of each FSP, without those in $2; the ones that are being read ($3) before others.
SELECT batch_id
FROM (SELECT DISTINCT ON (fsp_id) batch_id FROM batches
      WHERE state = 'validating' AND batch_id <> ALL ($2::bigint[])
      ORDER BY fsp_id, batch_id <> ALL ($3::bigint[]), batch_id) AS first
ORDER BY batch_id <> ALL ($3::bigint[]), batch_id LIMIT $1

-- name: batch_fsp(text) -> BatchFspRow
-- Rows are checked against this while they are read.
SELECT kinds, currencies FROM fsps WHERE fsp_id = $1

-- name: chunk_digests(int8, int4, int4) -> ChunkDigestRow
-- The digests of chunks that are stored already: $2 first, $3 end.
SELECT chunk, sha256(rows) AS digest FROM batch_chunks WHERE batch_id = $1 AND chunk >= $2 AND chunk < $3 ORDER BY chunk

-- name: chunks_delete(int8, int4)
DELETE FROM batch_chunks WHERE batch_id = $1 AND chunk >= $2

-- name: chunks_add(int8, int4[], int8[], int4[], bytea[])
INSERT INTO batch_chunks (batch_id, chunk, first_line, row_count, rows)
SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::int[], $5::bytea[])

-- name: batch_validated(int8, int4, int8, int8, int8, float8)
-- The progress of reading.  $2 chunks, $3 bytes, $4 rows, $5 of them valid, $6 rows a second.
UPDATE batches
SET chunks = $2, bytes_read = $3, rows_read = $4, rows_valid = $5, rows_failed = $4::bigint - $5::bigint, rows_per_s = $6
WHERE batch_id = $1

-- name: batch_validation_ended(int8)
-- Approved, unless a second person must approve it: because the FSP had two persons at the upload, or has them now.
UPDATE batches b
SET needs_approval = b.needs_approval OR f.two_persons, validated_at = clock_timestamp(), rows_per_s = NULL,
    state = CASE WHEN b.needs_approval OR f.two_persons THEN 'waiting' ELSE 'applying' END::batch_state,
    started_at = CASE WHEN b.needs_approval OR f.two_persons THEN NULL ELSE clock_timestamp() END
FROM fsps f WHERE b.batch_id = $1 AND f.fsp_id = b.fsp_id

-- name: batch_fail(int8, text, text)
-- For a file that cannot be read.
UPDATE batches SET state = 'failed', error_code = $2, error_message = $3, finished_at = clock_timestamp(), rows_per_s = NULL
WHERE batch_id = $1

-- Applied (oracle/imports/applying.py) -------------------------------------------------------------------------

-- name: batches_applying() -> ApplyingRow
-- The batches of one FSP in the order of their approval, one at a time.
SELECT DISTINCT ON (fsp_id) batch_id, fsp_id FROM batches WHERE state = 'applying' ORDER BY fsp_id, started_at, batch_id

-- name: chunk_progress(int8, int4) -> ProgressRow
SELECT length(results) AS done FROM batch_chunks WHERE batch_id = $1 AND chunk = $2

-- name: chunk_applied(int8, int4, bytea) -> WholeRow
-- $1 batch, $2 chunk, $3 the results of its next rows.
UPDATE batch_chunks SET results = results || $3, xacts = xacts || pg_current_xact_id()
WHERE batch_id = $1 AND chunk = $2 RETURNING length(results) = row_count AS is_whole

-- name: batch_applied(int8, int8, int8, int8, int4, float8)
-- $2 applied rows, $3 of them changed, $4 refused rows, $5 chunks that are complete now, $6 rows a second.
UPDATE batches
SET rows_applied = rows_applied + $2, rows_changed = rows_changed + $3, rows_failed = rows_failed + $4,
    chunks_applied = chunks_applied + $5, rows_per_s = $6
WHERE batch_id = $1

-- name: batch_done(int8)
UPDATE batches SET state = 'done', finished_at = clock_timestamp()
WHERE batch_id = $1 AND state = 'applying' AND chunks_applied = chunks

-- Deleted after their time (oracle/run/housekeeping.py) ---------------------------------------------------------

-- name: files_expire(float8)
-- Batches that ended more than $1 seconds ago: their file and results are no longer given out.  By batches_by_end.
INSERT INTO batch_deletions (batch_id)
SELECT batch_id FROM batches b
WHERE finished_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM batch_deletions d WHERE d.batch_id = b.batch_id)
ORDER BY finished_at LIMIT 1000 ON CONFLICT DO NOTHING

-- name: files_expired() -> BatchIdRow
-- One batch with parts or chunks that remain.  By batch_deletions_unfinished.
SELECT batch_id FROM batch_deletions WHERE ended_at IS NULL ORDER BY batch_id LIMIT 1

-- name: file_chunks_drop(int8, int8)
-- Some chunks of batch $1: at most $2.
DELETE FROM batch_chunks WHERE batch_id = $1 AND chunk IN (SELECT chunk FROM batch_chunks WHERE batch_id = $1 LIMIT $2)

-- name: file_deleted(int8)
UPDATE batch_deletions SET ended_at = now() WHERE batch_id = $1
