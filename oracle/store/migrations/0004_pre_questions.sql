-- Questions to history: who asked what, and the indexes by which "as of an instant" takes index time.
--
-- Where there are events, their table is read once an index, five times: about three minutes at 100 million events, and
-- changes wait meanwhile (lookups do not).  What they cost a change: those but the last have nothing of an alias in
-- them, and the last only one that changed hands.

-- What an FSP was at an instant: (fsp_id, event_id) alone would go through the millions of its aliases.
CREATE INDEX events_of_fsps ON events (fsp_id, event_id) WHERE entity = 'fsp';
-- Everything but aliases, by kind.
CREATE INDEX events_of_administration ON events (entity, event_id) WHERE entity <> 'alias';
-- Which rules an identifier could have come under.  The second is for a rule whose prefix or type was changed: what it
-- was is found by that, too.
CREATE INDEX events_by_prefix ON events (((coalesce(after, before) ->> 'prefix') COLLATE "C")) WHERE entity = 'route';
CREATE INDEX events_by_former_prefix ON events (((before ->> 'prefix') COLLATE "C"))
    WHERE entity = 'route' AND action = 'changed'
      AND (before ->> 'prefix' <> after ->> 'prefix' OR before ->> 'party_id_type' <> after ->> 'party_id_type');
-- An alias that another FSP has got is of its former holder's history, too.
CREATE INDEX events_by_former_fsp ON events (((before ->> 'fsp_id') COLLATE "C"), event_id)
    WHERE entity = 'alias' AND action = 'changed' AND before ->> 'fsp_id' <> fsp_id;

-- Who read history: whoever asks what an identifier resolved to leaves a line here, not among the events.  The name gives
-- it the rights of the log (migrations/0003): the application adds to it and never changes it.
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
