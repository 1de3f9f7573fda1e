-- Events in the order of sealing by one index.  Before, an index knew the transaction alone.  So an export, the sealer, and
-- the question how long events wait read and sorted all that a large transaction had written, again for each portion.
-- With 4 million events of one transaction, the sealer needed 50 s for a portion, and `getLogStatus` was 503.
--
-- The index takes 31 bytes an event, instead of 7 where transactions write thousands of events, and 22 where each writes
-- one.  Making it reads each partition once: about 40 s for 10 million events on two busy cores, during which changes are
-- refused.  A directory with more of them can make the index of each partition beforehand, while changes go on:
--     CREATE INDEX CONCURRENTLY ON events_2026_11 (xact, event_id);
-- Then this migration adopts those indexes, and takes an instant.
CREATE INDEX events_by_xact_in_order ON events (xact, event_id);
DROP INDEX events_by_xact;
