-- Questions to history: who asked what, and the indexes that serve questions about an instant.
--
-- An existing table of events is read once for each of five indexes: about three minutes at 100 million events.  Changes
-- wait meanwhile; lookups do not.  A change of an alias costs nothing in the first four, which hold no aliases, and
-- something in the last only when the alias gets another FSP.

-- The state of an FSP at an instant: (fsp_id, event_id) alone would read the millions of its aliases.
CREATE INDEX events_of_fsps ON events (fsp_id, event_id) WHERE entity = 'fsp';
-- Everything except aliases, by entity.
CREATE INDEX events_of_administration ON events (entity, event_id) WHERE entity <> 'alias';
-- The rules that could have decided about an identifier.  The second index finds a rule by its former prefix or type.
CREATE INDEX events_by_prefix ON events (((coalesce(after, before) ->> 'prefix') COLLATE "C")) WHERE entity = 'route';
CREATE INDEX events_by_former_prefix ON events (((before ->> 'prefix') COLLATE "C"))
    WHERE entity = 'route' AND action = 'changed'
      AND (before ->> 'prefix' <> after ->> 'prefix' OR before ->> 'party_id_type' <> after ->> 'party_id_type');
-- An alias that another FSP got belongs to the history of its former holder, too.
CREATE INDEX events_by_former_fsp ON events (((before ->> 'fsp_id') COLLATE "C"), event_id)
    WHERE entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' <> fsp_id;

-- Who read history: each question about an identifier adds a row here, not among the events.  The table's name gives it
-- the rights of the log (migrations/0003): the application adds to it and never changes it.
-- The identifier has a column of its own, as in events.
CREATE TABLE audit_reads (
    read_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    credential_id     text COLLATE "C" NOT NULL,
    role              text NOT NULL,
    caller_fsp_id     text,  -- to which the credential is bound
    asked             text NOT NULL,  -- the kind of question
    party_id_type     party_id_type,
    party_identifier  text COLLATE "C",
    sub_id            text,
    fsp_id            text COLLATE "C",  -- whose history
    details           jsonb NOT NULL DEFAULT '{}',
    request_id        text,
    trace_id          text
);
CREATE INDEX audit_reads_by_identifier ON audit_reads (party_identifier, read_id) WHERE party_identifier IS NOT NULL;
CREATE INDEX audit_reads_by_credential ON audit_reads (credential_id, read_id);
CREATE TRIGGER audit_reads_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_reads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE ALL ON audit_reads FROM PUBLIC;
