-- The country of phone numbers that are written without one: of an FSP, and of a file.

-- Written by an operator.  The triggers of migrations/0001 carry it in the events of the FSP.
ALTER TABLE fsps ADD COLUMN default_country text CHECK (default_country ~ '^[A-Z]{2}$');

-- The country of a file is fixed at its upload, so that the file is read the same way each time: named there, else that
-- of the FSP then.  A table of its own, because the version before this one reads batches with SELECT *: a new column
-- there would end its transactions in which it has prepared these statements.
CREATE TABLE batch_countries (
    batch_id  bigint PRIMARY KEY REFERENCES batches,
    country   text NOT NULL CHECK (country ~ '^[A-Z]{2}$')
);
CREATE TRIGGER batch_countries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON batch_countries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
