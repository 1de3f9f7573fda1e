-- Queries of the history log (oracle/audit).  They run on connections of their own, planned for index scans only.
-- `event_id + 0` where an era limits events: without it the planner may walk the primary key, through all of the era.

-- name: audit_state() -> LogEndRow
-- The end of the log; no row while it is empty.
SELECT first_leaf + leaves AS size, era, xact::text::bigint AS xact, event_id FROM audit_batches
ORDER BY first_leaf DESC LIMIT 1

-- name: audit_origin() -> str
SELECT 'alias-oracle/' || directory_id FROM cache_generation

-- name: audit_eras() -> EraRow
-- until: the last event_id that can be of this era; NULL for the present era.
SELECT era, after_event_id, lead(after_event_id) OVER (ORDER BY era) AS until_event_id FROM audit_eras ORDER BY era

-- name: audit_era_begin() -> ignored
SELECT audit_era_begin()

-- name: audit_horizon() -> int
-- Every transaction before it has ended, and this snapshot sees those that committed.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- name: events_in_order(text, int8, text, int8, int8, int8, int8) -> EventRow
-- Events of an era ($5 < event_id <= $6) after the bound ($1, $2) and up to the bound ($3, $4), in the order of sealing.
-- $7 limit; the next query goes on after the last event.  WITH TIES: somebody can have put a second event on that place.
-- Served by events_by_xact_in_order: it begins at the bound, also in the middle of a large transaction.  `e.` before xact in
-- the order: without it that is the column of the answer, which no index has.
SELECT event_id, xact::text::bigint AS xact,
       CASE WHEN at BETWEEN '0001-01-02' AND '9999-12-30' THEN at END AS at, entity, action, channel, actor, role,
       party_id_type::text, party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
FROM events e
WHERE (e.xact, event_id) > ($1::text::xid8, $2) AND (e.xact, event_id) <= ($3::text::xid8, $4)
  AND event_id + 0 > $5 AND event_id + 0 <= $6
ORDER BY e.xact, event_id FETCH FIRST ($7) ROWS WITH TIES

-- name: audit_wanted(text, int8, text, int8, int8, int8, text, text, timestamptz, timestamptz, int8) -> WantedEventRow
-- Of the events that events_in_order finds by the same $1 to $6, those that somebody wants, each with its place among all of
-- them, from 0.  Filters: $7 FSP, with the events by which another FSP got its aliases; $8 entity, $9 from, $10 to.  The
-- event at place $11 comes in any case: the caller sees that none before it is missing.
SELECT event_id, xact::text::bigint AS xact,
       CASE WHEN at BETWEEN '0001-01-02' AND '9999-12-30' THEN at END AS at, entity, action, channel, actor, role,
       party_id_type::text, party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id,
       place, is_wanted
FROM (
    SELECT *, coalesce(($7::text IS NULL OR fsp_id = $7
                        OR (entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' = $7))
                       AND ($8::text IS NULL OR entity = $8)
                       AND ($9::timestamptz IS NULL OR at >= $9)
                       AND ($10::timestamptz IS NULL OR at < $10), false) AS is_wanted
    FROM (
        SELECT *, row_number() OVER (ORDER BY xact, event_id) - 1 AS place FROM events
        WHERE (xact, event_id) > ($1::text::xid8, $2) AND (xact, event_id) <= ($3::text::xid8, $4)
          AND event_id + 0 > $5 AND event_id + 0 <= $6
    ) AS placed
) AS e
WHERE is_wanted OR place = $11
ORDER BY place

-- name: audit_has_later(text, int8, int8, int8, text, text, timestamptz, timestamptz) -> bool
-- Whether wanted events come behind the bound ($1, $2) of the era ($3 < event_id <= $4), or in a later era: of the FSP $5 and
-- the entity $6 (NULL: any), as in audit_wanted, from $7 on and before $8.  Served by events_by_time.
SELECT EXISTS (
    SELECT FROM events
    WHERE at >= coalesce($7::timestamptz, '-infinity') AND at < $8 AND ($6::text IS NULL OR entity = $6)
      AND ($5::text IS NULL OR fsp_id = $5 OR (entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' = $5))
      AND ((event_id > $3 AND (xact, event_id) > ($1::text::xid8, $2)) OR event_id > $4)
)

-- name: audit_batches_of_few(text, text, int8) -> FewBatchRow
-- The batches that hold the events of FSP $1, or those of the entity $2, which is not alias, if these are at most $3
-- events.  Otherwise one row, which has no batch, and above $3 events.
-- Served by events_by_fsp_in_order, events_by_former_fsp, events_of_administration.  Ranges, as in events_of_fsp.
WITH few AS MATERIALIZED (
    (SELECT event_id, xact FROM events
     WHERE fsp_id >= $1 AND (fsp_id, event_id) <= ($1, 9223372036854775807) ORDER BY fsp_id, event_id LIMIT $3::int8 + 1)
    UNION ALL
    (SELECT event_id, xact FROM events
     WHERE entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' <> fsp_id
       AND (before ->> 'fsp_id') COLLATE "C" = $1
     ORDER BY (before ->> 'fsp_id') COLLATE "C", event_id LIMIT $3::int8 + 1)
    UNION ALL
    (SELECT event_id, xact FROM events
     WHERE entity >= $2 AND (entity, event_id) <= ($2, 9223372036854775807) AND entity <> 'alias'
     ORDER BY entity, event_id LIMIT $3::int8 + 1)
), batches AS (
    SELECT DISTINCT b.first_leaf FROM few f CROSS JOIN LATERAL (
        SELECT first_leaf FROM audit_batches
        WHERE era = (SELECT max(era) FROM audit_eras WHERE after_event_id < f.event_id)
          AND (xact, event_id) >= (f.xact, f.event_id)
        ORDER BY era, xact, event_id LIMIT 1
    ) AS b WHERE (SELECT count(*) FROM few) <= $3
)
SELECT t.events, b.* FROM (SELECT count(*) AS events FROM few) AS t
LEFT JOIN LATERAL (
    SELECT a.first_leaf, a.leaves, a.era, a.xact::text::bigint AS xact, a.event_id,
           p.xact::text::bigint AS before_xact, p.event_id AS before_event_id
    FROM batches JOIN audit_batches a USING (first_leaf) LEFT JOIN LATERAL (
        SELECT xact, event_id FROM audit_batches
        WHERE first_leaf < a.first_leaf AND era = a.era ORDER BY first_leaf DESC LIMIT 1
    ) AS p ON true
) AS b ON true
ORDER BY b.first_leaf

-- name: event_by_id(int8) -> EventRow
SELECT event_id, xact::text::bigint AS xact,
       CASE WHEN at BETWEEN '0001-01-02' AND '9999-12-30' THEN at END AS at, entity, action, channel, actor, role,
       party_id_type::text, party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
FROM events WHERE event_id = $1

-- name: audit_waiting(text, int8, int8) -> float
-- For how long the first unsealed event has waited.  $1, $2 the bound, $3 the era's after_event_id.
SELECT greatest(extract(epoch FROM clock_timestamp() - at), 0)::float8 FROM events
WHERE (xact, event_id) > ($1::text::xid8, $2) AND event_id + 0 > $3
ORDER BY xact, event_id LIMIT 1

-- name: audit_hashes(int4[], int8[], int8[]) -> HashesRow
-- The fragments that can hold the hashes [first, first + width) of a tile level, each within one tile.
SELECT ord::int - 1 AS wanted, t.first, t.hashes
FROM unnest($1::int[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w (tile_level, first, width, ord)
CROSS JOIN LATERAL (
    SELECT first, hashes FROM audit_tiles
    WHERE tile_level = w.tile_level AND first >= w.first / 256 * 256 AND first < w.first + w.width
    ORDER BY first
) AS t ORDER BY ord, t.first

-- name: audit_batch_add(int8, int4, int4, text, int8, int8)
INSERT INTO audit_batches (first_leaf, leaves, era, xact, event_id, event_id_max)
VALUES ($1, $2, $3, $4::text::xid8, $5, $6)

-- name: audit_tiles_add(int4[], int8[], bytea[])
INSERT INTO audit_tiles (tile_level, first, hashes)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::bytea[])

-- name: audit_checkpoint_add(int8, bytea, text)
INSERT INTO audit_checkpoints (size, root, note) VALUES ($1, $2, $3)

-- name: audit_checkpoint_latest() -> CheckpointRow
SELECT size, root, note, signed_at FROM audit_checkpoints ORDER BY size DESC LIMIT 1

-- name: audit_checkpoint_at(int8) -> CheckpointRow
-- The first checkpoint of at least this many leaves.
SELECT size, root, note, signed_at FROM audit_checkpoints WHERE size >= $1 ORDER BY size LIMIT 1

-- name: audit_checkpoints_between(int8, int8) -> SignedSizeRow
SELECT size, root, note FROM audit_checkpoints WHERE size > $1 AND size <= $2 ORDER BY size

-- name: audit_beyond_end(int8) -> BeyondRow
-- Checkpoints and hashes beyond the $1 leaves of the log: the sealer never writes these.
SELECT 'checkpoint' AS kind, size || ' leaves' AS place FROM audit_checkpoints WHERE size > $1
UNION ALL SELECT 'hash', 'tile level ' || tile_level || ', place ' || first FROM generate_series(0, 7) AS level
JOIN audit_tiles ON tile_level = level AND first >= $1::bigint >> 8 * level
UNION ALL SELECT 'hash', 'tile level ' || tile_level || ', place ' || first FROM audit_tiles WHERE tile_level > 7
LIMIT 1000

-- name: audit_unplaced_events(int8) -> EventIdRow
-- Events without a place in any era: $1 after_event_id of the present era.  Their transactions do not exist yet.
SELECT event_id FROM events WHERE event_id = -9223372036854775808
UNION ALL SELECT event_id FROM events
WHERE event_id > $1 AND xact >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT 1000

-- name: audit_altered_tables() -> DisguisedRow
-- Tables of history that somebody altered: other readers can see something else than this one.
SELECT c.oid::regclass::text AS place, c.relkind NOT IN ('r', 'p') AS is_other FROM pg_class c
WHERE (c.oid = 'events'::regclass OR c.relname LIKE 'audit\_%' AND c.relnamespace = current_schema()::regnamespace
       OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass))
  AND (c.relkind IN ('v', 'm', 'f') OR c.relrowsecurity OR c.relhasrules)
ORDER BY 1

-- name: audit_census(text, int8, int8, int8) -> int
-- How many events the table holds up to the bound ($1, $2) of the era ($3 < event_id <= $4), counted without an index.
-- Without the event that audit_unplaced_events reports.
SELECT count(*) FROM events
WHERE (event_id > $4 OR (event_id > $3 AND (xact > $1::text::xid8 OR (xact = $1::text::xid8 AND event_id > $2)))) IS NOT TRUE
  AND event_id IS DISTINCT FROM -9223372036854775808

-- name: audit_census_ids(text, int8, int8, int8) -> EventIdRow
SELECT event_id FROM events
WHERE (event_id > $4 OR (event_id > $3 AND (xact > $1::text::xid8 OR (xact = $1::text::xid8 AND event_id > $2)))) IS NOT TRUE
  AND event_id IS DISTINCT FROM -9223372036854775808

-- name: audit_census_ids_in_order(text, int8, int8, int8, int8) -> EventIdRow
-- The same events as far as an index finds them in the order of sealing, after event $5.  Only
-- events_by_xact_in_order serves it.
SELECT event_id FROM events
WHERE (event_id > $4 OR (event_id > $3 AND (xact > $1::text::xid8 OR (xact = $1::text::xid8 AND event_id > $2)))) IS NOT TRUE
  AND event_id + 0 > $5 AND xact >= '0'::xid8

-- name: audit_batches_from(int8, int8) -> SealedBatchRow
-- From the batch that holds leaf $1 on.  $2 limit.
SELECT first_leaf, leaves, era, xact::text::bigint AS xact, event_id, event_id_max, sealed_at FROM audit_batches
WHERE first_leaf + leaves > $1
  AND first_leaf >= coalesce((SELECT max(first_leaf) FROM audit_batches WHERE first_leaf <= $1), 0)
ORDER BY first_leaf LIMIT $2

-- name: audit_batch_before(int8, int4) -> BoundRow
-- The bound before the batch that begins with leaf $1 of era $2; no row for the first batch of an era.
SELECT xact::text::bigint AS xact, event_id FROM audit_batches
WHERE first_leaf < $1 AND era = $2 ORDER BY first_leaf DESC LIMIT 1

-- name: audit_batch_of_event(int8) -> EventPlaceRow
-- The batch of event $1, and how many events of the batch precede it; no row while it is not sealed.
WITH one AS (
    SELECT event_id, xact, (SELECT max(era) FROM audit_eras WHERE after_event_id < e.event_id) AS era
    FROM events e WHERE event_id = $1
), batch AS (
    SELECT b.first_leaf, b.leaves, one.* FROM one CROSS JOIN LATERAL (
        SELECT first_leaf, leaves FROM audit_batches
        WHERE era = one.era AND (xact, event_id) >= (one.xact, one.event_id) ORDER BY era, xact, event_id LIMIT 1
    ) AS b
)
SELECT b.first_leaf, b.leaves, (
    SELECT count(*) FROM events e
    WHERE (e.xact, e.event_id) > (coalesce(p.xact, '0'), coalesce(p.event_id, -9223372036854775808))
      AND (e.xact, e.event_id) < (b.xact, b.event_id)
      AND e.event_id + 0 > r.after_event_id
      AND e.event_id + 0 <= coalesce((SELECT after_event_id FROM audit_eras WHERE era = b.era + 1), 9223372036854775807)
) AS before
FROM batch b JOIN audit_eras r USING (era) LEFT JOIN LATERAL (
    SELECT xact, event_id FROM audit_batches
    WHERE first_leaf < b.first_leaf AND era = b.era ORDER BY first_leaf DESC LIMIT 1
) AS p ON true

-- name: audit_leaf_at(timestamptz) -> int
-- How many leaves were sealed before the instant $1.  A search by halves: each step looks at the batch in the middle of
-- the leaves [low, high).
WITH RECURSIVE search AS (
    SELECT 0::bigint AS low,
           coalesce((SELECT first_leaf + leaves FROM audit_batches ORDER BY first_leaf DESC LIMIT 1), 0) AS high
    UNION ALL
    -- greatest, least, coalesce: it ends also if batches are missing.
    SELECT CASE WHEN coalesce(b.sealed_at < $1, true) THEN greatest(b.first_leaf + b.leaves, m.middle + 1) ELSE s.low END,
           CASE WHEN coalesce(b.sealed_at < $1, true) THEN s.high ELSE least(b.first_leaf, m.middle) END
    FROM search s CROSS JOIN LATERAL (SELECT (s.low + s.high) / 2 AS middle) AS m LEFT JOIN LATERAL (
        SELECT first_leaf, leaves, sealed_at FROM audit_batches
        WHERE first_leaf <= m.middle ORDER BY first_leaf DESC LIMIT 1
    ) AS b ON true WHERE s.low < s.high
)
SELECT low FROM search WHERE low >= high

-- name: audit_unsealed(text, int8, int8) -> int
-- The events after the last bound ($1, $2) of the present era; $3 its after_event_id.
SELECT count(*) FROM events WHERE (xact, event_id) > ($1::text::xid8, $2) AND event_id + 0 > $3

-- name: audit_keys() -> KeyStatementRow
SELECT number, vkey, from_size, statement, added_at FROM audit_keys ORDER BY number

-- name: audit_keys_count() -> int
SELECT count(*)::int FROM audit_keys

-- name: audit_key_add(int4, text, int8, text)
INSERT INTO audit_keys (number, vkey, from_size, statement) VALUES ($1, $2, $3, $4)

-- name: audit_key_lock(int8) -> ignored
-- Until the end of the transaction: nobody adds a key between the choice of the signers and their signature.
SELECT pg_advisory_xact_lock($1)

-- name: partitions_ahead() -> int
-- Of history, and of the records of who asked.
SELECT events_partitions_ahead() + audit_reads_partitions_ahead()

-- name: reads_drop(int4) -> DroppedReadsRow
-- By the owner of the tables: drop records of who asked that are older than $1 days.  An event for each partition.
SELECT dropped, records FROM audit_reads_drop($1)

-- name: audit_era_end(int4, int8) -> BoundRow
-- The bound of the last batch of era $1 that begins before leaf $2.
SELECT xact::text::bigint AS xact, event_id FROM audit_batches
WHERE era = $1 AND first_leaf < $2 ORDER BY first_leaf DESC LIMIT 1
