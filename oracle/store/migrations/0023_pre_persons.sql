-- Whose key a credential is, and who sent a file: one person is one person, whichever way they came in.

-- The person's name at an identity provider, as history writes it: oidc:{alias of the issuer}:{sub}.  NULL: nobody said.
ALTER TABLE credentials ADD COLUMN person text COLLATE "C"
    CHECK (person ~ '^oidc:[a-z0-9-]{1,32}:[!-~]{1,255}$');
CREATE INDEX credentials_by_person ON credentials (person) WHERE person IS NOT NULL;

-- The person who sent a file, as known then: a key can get another person later.  A table of its own, because the version
-- before this one reads batches with SELECT *.
CREATE TABLE batch_persons (
    batch_id  bigint PRIMARY KEY REFERENCES batches,
    person    text COLLATE "C" NOT NULL
);
CREATE TRIGGER batch_persons_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON batch_persons
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Encrypts what is kept for callers who have no key of ours: their cursors, and answers to repeated calls.  One row; all
-- processes of all machines read it.  No answer that holds a key is kept for these callers.
CREATE TABLE caller_secret (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    secret    bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
INSERT INTO caller_secret DEFAULT VALUES;
CREATE TRIGGER caller_secret_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON caller_secret
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
