-- What people approved and rejected, by the time of the decision.
CREATE INDEX batches_decided ON batches (decided_at, batch_id) WHERE decided_at IS NOT NULL;
