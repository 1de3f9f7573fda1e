-- Which PostgreSQL wrote the generation, so that a failover that lost commits is noticed.

ALTER TABLE cache_generation
    ADD COLUMN system_identifier text NOT NULL DEFAULT '',
    ADD COLUMN timeline int NOT NULL DEFAULT 0;
-- The timeline is the first part of the name of the file that is being written: pg_control_checkpoint lags after a
-- promotion.
UPDATE cache_generation SET
    system_identifier = audit_cluster(),
    timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
