-- The change of one alias that waits for a second person, and FSPs whose aliases the hub cannot change.

-- Such a change is a batch with a file of one row.  Its action as the caller asked for it, and the version of the alias
-- (its ETag) that the caller named: if the alias has another one when the row is applied, the row is refused.  Nothing
-- here names the alias.  A table of its own, because the version before this one reads batches with SELECT *.  That
-- version lists, approves and applies these batches as it does files, so it does not look at the version of the alias.
CREATE TABLE batch_changes (
    batch_id  bigint PRIMARY KEY REFERENCES batches,
    action    text NOT NULL CHECK (action IN ('add', 'update', 'remove')),
    version   text CHECK (length(version) BETWEEN 1 AND 64)
);
CREATE TRIGGER batch_changes_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON batch_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- To count what waits, for each change of one alias.
CREATE INDEX batches_waiting ON batches (fsp_id) WHERE state = 'waiting';

-- false: calls of the hub cannot change aliases of this FSP.  The triggers of migrations/0001 carry it in its events.
ALTER TABLE fsps ADD COLUMN hub_changes boolean NOT NULL DEFAULT true;
