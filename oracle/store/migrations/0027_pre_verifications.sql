-- Verifications that people ask for by the history API: the jobs process does them, one at a time.
--
-- No data of the directory, so no events.  `listed` names what was found, and so can hold identifiers.  The application
-- writes these rows, so they prove nothing: who does not trust it verifies an export.

CREATE TABLE verifications (
    verification_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state            text COLLATE "C" NOT NULL DEFAULT 'waiting'
                     CHECK (state IN ('waiting', 'running', 'done', 'stopped', 'failed')),
    directory        boolean NOT NULL,  -- the directory is compared with its events, too
    asked_by         text COLLATE "C" NOT NULL,
    asked_at         timestamptz NOT NULL DEFAULT now(),
    begun_at         timestamptz,
    seen_at          timestamptz,  -- when its process last wrote
    ended_at         timestamptz,
    stopped_by       text COLLATE "C",
    runner           uuid,  -- the process
    leaves           bigint NOT NULL DEFAULT 0,  -- of the log, when it began
    leaves_read      bigint NOT NULL DEFAULT 0,
    rows_read        bigint NOT NULL DEFAULT 0,  -- of the directory and of its events
    findings         bigint NOT NULL DEFAULT 0,
    listed           jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(listed) = 'array')
);
CREATE UNIQUE INDEX verifications_one_at_a_time ON verifications ((true)) WHERE state IN ('waiting', 'running');
