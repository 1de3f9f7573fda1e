-- Queries of history (oracle/store/history.py, oracle/api/history).  migrations/0003 and 0004 create the indexes.

-- At an instant ---------------------------------------------------------------------------------------------

-- name: history_as_of(text, text, text[], timestamptz) -> PastEventRow
-- The last event before the instant $4 of each entry of an identifier, and of each FSP and each rule that could affect
-- its answer.  $1 type, $2 identifier, $3 all its prefixes.
-- Served by events_by_identifier, events_by_prefix, events_by_former_prefix, events_of_fsps.
WITH own AS MATERIALIZED (
    SELECT * FROM events
    WHERE party_identifier = $2 AND party_id_type = $1::text::party_id_type AND entity = 'alias' AND action <> 'ignored'
), ruling AS MATERIALIZED (
    SELECT * FROM events
    WHERE entity = 'route' AND (coalesce(after, before) ->> 'prefix') COLLATE "C" = ANY ($3::text[])
      AND coalesce(after, before) ->> 'party_id_type' = $1
    UNION
    SELECT * FROM events
    WHERE entity = 'route' AND action = 'changed'
      AND (before ->> 'prefix' <> after ->> 'prefix' OR before ->> 'party_id_type' <> after ->> 'party_id_type')
      AND (before ->> 'prefix') COLLATE "C" = ANY ($3::text[]) AND before ->> 'party_id_type' = $1
), holders AS MATERIALIZED (
    SELECT fsp_id FROM own
    UNION SELECT before ->> 'fsp_id' FROM own WHERE action = 'changed'
    UNION SELECT after ->> 'fsp_id' FROM ruling
    UNION SELECT before ->> 'fsp_id' FROM ruling
), statuses AS (
    SELECT e.* FROM holders h CROSS JOIN LATERAL (
        SELECT * FROM events
        WHERE fsp_id = h.fsp_id AND entity = 'fsp' AND (action = 'registered' OR before ->> 'status' <> after ->> 'status')
        OFFSET 0) AS e
), happened AS (
    SELECT * FROM own UNION ALL SELECT * FROM ruling UNION ALL SELECT * FROM statuses
), counted AS (
    -- A transaction counts as one, from its last event on.  Another cluster can have had a transaction of this number.
    SELECT *, max(at) OVER (PARTITION BY (SELECT max(era) FROM audit_eras WHERE after_event_id < event_id), xact) AS since,
           CASE entity
               WHEN 'alias' THEN ARRAY[sub_id, CASE WHEN NOT (coalesce(after, before) ->> 'default')::boolean
                                               THEN coalesce(after, before) ->> 'currency' END]
               WHEN 'fsp' THEN ARRAY[fsp_id]
               ELSE ARRAY[coalesce(after, before) ->> 'route_id']
           END AS place
    FROM happened
)
SELECT DISTINCT ON (entity, place)
       event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
       party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id, since
FROM counted WHERE since <= $4
ORDER BY entity, place, event_id DESC

-- name: history_of_party(text, text, text[]) -> PartyEventRow
-- All events that history_as_of reads, in the order in which they count.  $1 type, $2 identifier, $3 its prefixes.
WITH own AS MATERIALIZED (
    SELECT * FROM events
    WHERE party_identifier = $2 AND party_id_type = $1::text::party_id_type AND entity = 'alias'
), ruling AS MATERIALIZED (
    SELECT * FROM events
    WHERE entity = 'route' AND (coalesce(after, before) ->> 'prefix') COLLATE "C" = ANY ($3::text[])
      AND coalesce(after, before) ->> 'party_id_type' = $1
    UNION
    SELECT * FROM events
    WHERE entity = 'route' AND action = 'changed'
      AND (before ->> 'prefix' <> after ->> 'prefix' OR before ->> 'party_id_type' <> after ->> 'party_id_type')
      AND (before ->> 'prefix') COLLATE "C" = ANY ($3::text[]) AND before ->> 'party_id_type' = $1
), holders AS MATERIALIZED (
    SELECT fsp_id FROM own
    UNION SELECT before ->> 'fsp_id' FROM own WHERE action = 'changed'
    UNION SELECT after ->> 'fsp_id' FROM ruling
    UNION SELECT before ->> 'fsp_id' FROM ruling
), statuses AS (
    SELECT e.* FROM holders h CROSS JOIN LATERAL (
        SELECT * FROM events
        WHERE fsp_id = h.fsp_id AND entity = 'fsp' AND (action = 'registered' OR before ->> 'status' <> after ->> 'status')
        OFFSET 0) AS e
), happened AS (
    SELECT * FROM own UNION ALL SELECT * FROM ruling UNION ALL SELECT * FROM statuses
), counted AS (
    SELECT *, (SELECT max(era) FROM audit_eras WHERE after_event_id < event_id) AS era FROM happened
)
SELECT event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
       party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id, era,
       max(at) OVER (PARTITION BY era, xact) AS since
FROM counted ORDER BY since, era, xact, event_id

-- name: history_final() -> FinalRow
-- Until when history is complete: before the begin of every transaction that writes here.  Not by the snapshot: it omits
-- the newest transactions until a later one has ended.  A transaction whose begin we cannot see (another role's, a
-- prepared one) counts as very old.  The server's own transactions (to analyze a table) write no events.
SELECT statement_timestamp() AS now, least(statement_timestamp(), (
    SELECT min(coalesce(xact_start, '0002-01-01 00:00+00')) FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND usesysid IS NOT NULL
      AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())
), (
    SELECT min(timestamptz '0002-01-01 00:00+00') FROM pg_prepared_xacts WHERE database = current_database()
)) AS final_before

-- Events, the newest first -------------------------------------------------------------------------------------
-- A query walks a limited number of events, and returns the first of them that the caller wants.  walked: how many it
-- read; walked_to: where the next page goes on when it found too few.  A time filter applies twice: in whole months,
-- which leaves out partitions, and to the microsecond among the walked events.

-- name: events_of_party(text, text, int8, timestamptz, timestamptz, int8, int8, text[], text, text, text, text, text,
--     text, timestamptz, timestamptz) -> WalkedEventRow
-- $1 type, $2 identifier, $3 before this event, $4 from, $5 to, $6 limit to walk, $7 limit to return;
-- filters: $8 actors, $9 channel, $10 action, $11 entity, $12 request, $13 trace, $14 FSP, $15 from, $16 to.
WITH walked AS MATERIALIZED (
    SELECT * FROM events
    WHERE party_identifier = $2 AND party_id_type = $1::text::party_id_type AND event_id < $3 AND at >= $4 AND at < $5
    ORDER BY event_id DESC LIMIT $6
)
SELECT t.walked, t.walked_to, w.* FROM (SELECT count(*) AS walked, min(event_id) AS walked_to FROM walked) AS t
LEFT JOIN LATERAL (
    SELECT event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
           party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
    FROM walked
    WHERE ($8::text[] IS NULL OR actor = ANY ($8)) AND ($9::text IS NULL OR channel = $9) AND ($10::text IS NULL OR action = $10)
      AND ($11::text IS NULL OR entity = $11) AND ($12::text IS NULL OR request_id = $12)
      AND ($13::text IS NULL OR trace_id = $13)
      AND ($14::text IS NULL OR fsp_id = $14 OR (action = 'changed' AND before ->> 'fsp_id' = $14))
      AND at >= $15 AND at < $16
    ORDER BY event_id DESC LIMIT $7) AS w ON true
ORDER BY w.event_id DESC

-- name: events_of_fsp(text, int8, int8, int8, text[], text, text, text, text, text) -> WalkedEventRow
-- Of one FSP, with the events by which another FSP got its aliases.  $1 FSP, $2 before this event, $3 limit to walk,
-- $4 limit to return; filters: $5 actors, $6 channel, $7 action, $8 entity, $9 request, $10 trace.
-- Served by events_by_fsp_in_order and events_by_former_fsp.  A range and not fsp_id = $1: with that the planner may walk
-- the primary key, through the millions of another FSP.
WITH walked AS MATERIALIZED (
    (SELECT * FROM events WHERE fsp_id >= $1 AND (fsp_id, event_id) < ($1, $2) ORDER BY fsp_id DESC, event_id DESC LIMIT $3)
    UNION ALL
    (SELECT * FROM events
     WHERE entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' <> fsp_id
       AND (before ->> 'fsp_id') COLLATE "C" = $1 AND event_id < $2
     ORDER BY event_id DESC LIMIT $3)
    ORDER BY event_id DESC LIMIT $3
)
SELECT t.walked, t.walked_to, w.* FROM (SELECT count(*) AS walked, min(event_id) AS walked_to FROM walked) AS t
LEFT JOIN LATERAL (
    SELECT event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
           party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
    FROM walked
    WHERE ($5::text[] IS NULL OR actor = ANY ($5)) AND ($6::text IS NULL OR channel = $6) AND ($7::text IS NULL OR action = $7)
      AND ($8::text IS NULL OR entity = $8) AND ($9::text IS NULL OR request_id = $9)
      AND ($10::text IS NULL OR trace_id = $10)
    ORDER BY event_id DESC LIMIT $4) AS w ON true
ORDER BY w.event_id DESC

-- name: events_of_entity(text, int8, timestamptz, timestamptz, int8, int8, text[], text, text, text, text,
--     timestamptz, timestamptz) -> WalkedEventRow
-- Of every entity except aliases.  $1 entity, $2 before this event, $3 from, $4 to, $5 limit to walk, $6 limit to
-- return; filters: $7 actors, $8 channel, $9 action, $10 request, $11 trace, $12 from, $13 to.
WITH walked AS MATERIALIZED (
    SELECT * FROM events
    WHERE entity = $1 AND entity <> 'alias' AND event_id < $2 AND at >= $3 AND at < $4 ORDER BY event_id DESC LIMIT $5
)
SELECT t.walked, t.walked_to, w.* FROM (SELECT count(*) AS walked, min(event_id) AS walked_to FROM walked) AS t
LEFT JOIN LATERAL (
    SELECT event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
           party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
    FROM walked
    WHERE ($7::text[] IS NULL OR actor = ANY ($7)) AND ($8::text IS NULL OR channel = $8) AND ($9::text IS NULL OR action = $9)
      AND ($10::text IS NULL OR request_id = $10) AND ($11::text IS NULL OR trace_id = $11)
      AND at >= $12 AND at < $13
    ORDER BY event_id DESC LIMIT $6) AS w ON true
ORDER BY w.event_id DESC

-- name: events_from(int8, timestamptz, timestamptz, int8, int8, text[], text, text, text, text, text, timestamptz,
--     timestamptz) -> WalkedEventRow
-- All events from $2 on, by number.  $1 before this event, $2 from, $3 to, $4 limit to walk, $5 limit to return;
-- filters: $6 actors, $7 channel, $8 action, $9 entity, $10 request, $11 trace, $12 from, $13 to.  Served by the primary
-- keys.
WITH walked AS MATERIALIZED (
    SELECT * FROM events WHERE event_id < $1 AND at >= $2 AND at < $3 ORDER BY event_id DESC LIMIT $4
)
SELECT t.walked, t.walked_to, w.* FROM (SELECT count(*) AS walked, min(event_id) AS walked_to FROM walked) AS t
LEFT JOIN LATERAL (
    SELECT event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
           party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
    FROM walked
    WHERE ($6::text[] IS NULL OR actor = ANY ($6)) AND ($7::text IS NULL OR channel = $7) AND ($8::text IS NULL OR action = $8)
      AND ($9::text IS NULL OR entity = $9) AND ($10::text IS NULL OR request_id = $10)
      AND ($11::text IS NULL OR trace_id = $11) AND at >= $12 AND at < $13
    ORDER BY event_id DESC LIMIT $5) AS w ON true
ORDER BY w.event_id DESC

-- name: events_of_span(timestamptz, timestamptz, int8, int4, int8, text[], text, text, text, text, text, text) ->
--     SpanEventRow
-- By time alone: the events from $1 on and before the position ($2, $3), by partition and events_by_time.  If walked is
-- above $4, there are too many to know the newest.  $5 limit to return; filters: $6 actors, $7 channel, $8 action,
-- $9 entity, $10 request, $11 trace, $12 FSP, with the events by which another FSP got its aliases.  Plan it for its
-- arguments: the planner then drops the NULL filters, and uses events_by_fsp_in_order where an FSP has few events.
WITH walked AS MATERIALIZED (
    (SELECT * FROM events
     WHERE ($12::text IS NULL OR fsp_id = $12) AND at >= $1 AND at <= $2 AND (at < $2 OR event_id < $3)
     LIMIT $4::int + 1)
    UNION ALL
    (SELECT * FROM events
     WHERE entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' <> fsp_id
       AND (before ->> 'fsp_id') COLLATE "C" = $12 AND at >= $1 AND at <= $2 AND (at < $2 OR event_id < $3)
     LIMIT $4::int + 1)
    LIMIT $4::int + 1
)
SELECT t.walked, w.* FROM (SELECT count(*) AS walked FROM walked) AS t
LEFT JOIN LATERAL (
    SELECT event_id, xact::text::bigint AS xact, at, entity, action, channel, actor, role, party_id_type::text,
           party_identifier, sub_id, fsp_id, before::text, after::text, reason, request_id, trace_id
    FROM walked
    WHERE ($6::text[] IS NULL OR actor = ANY ($6)) AND ($7::text IS NULL OR channel = $7) AND ($8::text IS NULL OR action = $8)
      AND ($9::text IS NULL OR entity = $9) AND ($10::text IS NULL OR request_id = $10)
      AND ($11::text IS NULL OR trace_id = $11)
    ORDER BY at DESC, event_id DESC LIMIT $5) AS w ON t.walked <= $4
ORDER BY w.at DESC, w.event_id DESC

-- Between two instants -----------------------------------------------------------------------------------------

-- name: history_of_fsp(text, timestamptz, timestamptz, text, text) -> FspEventRow
-- The events of the aliases of FSP $1, key by key, from $2 to $3 and an hour around: so all events of a transaction that
-- ended within the span are among them.  Not the identifiers from $4 on and before $5.
SELECT party_identifier, party_id_type::text, sub_id, event_id, xact::text::bigint AS xact, at, before::text, after::text
FROM (
    SELECT * FROM events
    WHERE fsp_id = $1 AND entity = 'alias' AND action <> 'ignored'
      AND at > $2::timestamptz - interval '1 hour' AND at <= $3::timestamptz + interval '1 hour'
      AND (party_identifier < $4 OR party_identifier >= $5)
    UNION ALL
    SELECT * FROM events
    WHERE entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' <> fsp_id
      AND (before ->> 'fsp_id') COLLATE "C" = $1
      AND at > $2::timestamptz - interval '1 hour' AND at <= $3::timestamptz + interval '1 hour'
      AND (party_identifier < $4 OR party_identifier >= $5)
) AS e
ORDER BY party_identifier, party_id_type, sub_id, event_id

-- name: history_has_many(text, int8) -> bool
-- Whether FSP $1 has more than $2 events.  Served by events_by_fsp_in_order.
SELECT EXISTS (SELECT FROM events WHERE fsp_id = $1 OFFSET $2)

-- name: first_identifier(text) -> str
-- The first identifier of FSP $1, of any type.  Served by aliases_by_identifier.
SELECT min(a.identifier COLLATE "C") AS identifier FROM unnest(enum_range(NULL::party_id_type)) AS t CROSS JOIN LATERAL (
    SELECT identifier FROM aliases WHERE fsp_id = $1 AND party_id_type = t ORDER BY identifier COLLATE "POSIX" LIMIT 1
) AS a

-- name: history_of_first_keys(text, timestamptz, timestamptz, text, int8) -> FirstKeyEventRow
-- Of the first $5 events by identifier from $4 on, of all FSPs, those that history_of_fsp finds by $1 to $3, in its order.
-- walked_to: the last identifier, which can have more events; NULL if there are none.  Served by events_by_identifier.
WITH walked AS MATERIALIZED (
    SELECT * FROM events WHERE party_identifier >= $4 ORDER BY party_identifier, party_id_type, event_id LIMIT $5
)
SELECT t.walked_to, w.* FROM (SELECT max(party_identifier) AS walked_to FROM walked) AS t
LEFT JOIN LATERAL (
    SELECT party_identifier, party_id_type::text, sub_id, event_id, xact::text::bigint AS xact, at, before::text, after::text
    FROM walked
    WHERE entity = 'alias' AND action <> 'ignored'
      AND (fsp_id = $1 OR (action = 'changed' AND before ->> 'fsp_id' = $1))
      AND at > $2::timestamptz - interval '1 hour' AND at <= $3::timestamptz + interval '1 hour'
) AS w ON true
ORDER BY w.party_identifier, w.party_id_type, w.sub_id, w.event_id

-- Credentials and batches behind an event ---------------------------------------------------------------------------------------------

-- name: credential_labels(text[]) -> CredentialLabelRow
-- The credentials with these ids, and those of these persons.
SELECT credential_id, label, role::text, fsp_id, person FROM credentials
WHERE credential_id = ANY ($1::text[]) OR person = ANY ($1::text[]) ORDER BY credential_id

-- name: credentials_named(text, text[]) -> CredentialLabelRow
-- Whose id or person is $1, or whose label contains it, both without accents and case (as oracle.names.fold); the best
-- first.  For FSPs $2 of the caller (NULL: all): its own, and those of the hub whose whole label it is.  Reads all
-- credentials, or those of the FSPs by credentials_by_fsp.
SELECT credential_id, label, role::text, fsp_id, person
FROM (SELECT *, lower(regexp_replace(normalize(label, NFD), '[\u0300-\u036F]', '', 'g')) AS folded FROM credentials) c,
     (SELECT lower(regexp_replace(normalize($1, NFD), '[\u0300-\u036F]', '', 'g')) AS folded) AS asked
WHERE (credential_id = $1 OR person = $1 OR (asked.folded <> '' AND strpos(c.folded, asked.folded) > 0))
  AND ($2::text[] IS NULL OR fsp_id = ANY ($2)
       OR (fsp_id IS NULL AND (credential_id = $1 OR person = $1 OR c.folded = asked.folded)))
ORDER BY credential_id = $1 DESC, c.folded = asked.folded DESC, credential_id LIMIT 1000

-- name: batch_origin(int8) -> BatchOriginRow
SELECT batch_id, fsp_id, file_name, encode(file_sha256, 'hex') AS file_sha256, uploaded_by, uploaded_role, uploaded_at,
       decided_by, decided_at, decision_reason, started_at, finished_at
FROM batches WHERE batch_id = $1

-- Questions that people asked ----------------------------------------------------------------------------------------------------

-- name: read_record(text, text, text, text, text, text, text, text, text, text, text)
INSERT INTO audit_reads (credential_id, role, caller_fsp_id, asked, party_id_type, party_identifier, sub_id, fsp_id, details,
                         request_id, trace_id)
VALUES ($1, $2, $3, $4, $5::text::party_id_type, $6, $7, $8, $9::text::jsonb, $10, $11)

-- name: reads_page(int8, text, text, text[], timestamptz, timestamptz, int8) -> ReadRow
-- $1 before this one, $2 identifier, $3 type, $4 credentials, $5 from, $6 to, $7 limit.  NULL means all.
SELECT read_id, at, credential_id, role, caller_fsp_id, asked, party_id_type::text, party_identifier, sub_id, fsp_id,
       details::text, request_id, trace_id
FROM audit_reads
WHERE read_id < $1 AND ($2::text IS NULL OR party_identifier = $2) AND ($3::text IS NULL OR party_id_type::text = $3)
  AND ($4::text[] IS NULL OR credential_id = ANY ($4))
  AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6)
ORDER BY read_id DESC LIMIT $7

-- The log ------------------------------------------------------------------------------------------------------

-- name: settings_set(text[], text[]) -> ignored
-- For as long as a connection of a lane is lent.
SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s (name, value)

-- name: log_checkpoints(int8, int8) -> CheckpointRow
-- The newest first.  $1 below this size, $2 limit.
SELECT size, root, note, signed_at FROM audit_checkpoints WHERE size < $1 ORDER BY size DESC LIMIT $2

-- name: log_checkpoint_of(int8) -> CheckpointNoteRow
SELECT note FROM audit_checkpoints WHERE size = $1
