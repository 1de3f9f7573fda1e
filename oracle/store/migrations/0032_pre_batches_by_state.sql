-- Files by state, by time and by person.  Before, such a list walked all batches from the newest one on until it had found
-- enough: all of them, where there are few.
CREATE INDEX batches_by_state ON batches (state, batch_id);
CREATE INDEX batches_by_time ON batches (uploaded_at);
CREATE INDEX batches_by_uploader ON batches (uploaded_by, batch_id);
CREATE INDEX batches_by_decider ON batches (decided_by, batch_id) WHERE decided_by IS NOT NULL;
CREATE INDEX batches_by_canceller ON batches (cancelled_by, batch_id) WHERE cancelled_by IS NOT NULL;
