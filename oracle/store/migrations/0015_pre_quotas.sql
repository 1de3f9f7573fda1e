-- What a caller can write without end gets a limit or an end: uploads that break off, kept answers, files, records of reads.

-- The FSP and the bytes of an upload in progress, and of those that broke off: they count for the quota of the day.
-- An older program does not note the FSP.  Its uploads that break off do not count, as before.
ALTER TABLE batch_uploads
    ADD COLUMN fsp_id  text COLLATE "C",
    ADD COLUMN bytes   bigint NOT NULL DEFAULT 0;
CREATE TABLE uploads_broken_off (
    fsp_id  text COLLATE "C" NOT NULL,
    hour    timestamptz NOT NULL,
    bytes   bigint NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (fsp_id, hour)
);

-- Batches whose file and results are deleted, or being deleted (ended_at is null).  The batch itself stays.  Not in its
-- table: an older program reads all columns of that.
CREATE TABLE batch_deletions (
    batch_id    bigint PRIMARY KEY REFERENCES batches,
    deleted_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz
);
CREATE INDEX batch_deletions_unfinished ON batch_deletions (batch_id) WHERE ended_at IS NULL;
CREATE INDEX batches_by_end ON batches (finished_at) WHERE finished_at IS NOT NULL;

-- Answers in clear, as earlier versions kept them: oracle/run/housekeeping.py replaces them, a portion at a time.
CREATE INDEX idempotency_in_clear ON idempotency (made_at) WHERE substr(answer, 1, 1) = '\x00';

-- For the next migration: it then attaches this table as a partition without reading it while others wait.  A record
-- beyond the next month can only have a false time.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE audit_reads ADD CONSTRAINT audit_reads_until CHECK (at < %L) NOT VALID',
                   to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', 'YYYY-MM-DD') || ' 00:00:00+00');
END $$;
