-- Events in the order of sealing by one index.  Before, an index knew the transaction alone: an export, a proof, the sealer
-- and the question how long events wait sorted a whole transaction before its first event (measured: 11 s for one that
-- had written 100,000 events), and again for each portion of it.
--
-- The index takes 31 bytes an event instead of 7 where transactions write thousands of events, and 31 instead of 22 where
-- each writes one.  Making it reads each partition once: about 20 s for 10 million events, during which changes are
-- refused.  A directory with more of them can make the index of each partition beforehand, while changes go on:
--     CREATE INDEX CONCURRENTLY ON events_2026_11 (xact, event_id);
-- Then this migration adopts those indexes, and takes an instant.
CREATE INDEX events_by_xact_in_order ON events (xact, event_id);
DROP INDEX events_by_xact;
