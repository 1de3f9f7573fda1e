-- When changes without fences last began to move the generation: they move it together, so that one service that cannot
-- reach Redis does not take the copies from all others all the time.
--
-- The time is no infinity: before version 17, infinite times cannot be subtracted.
ALTER TABLE cache_generation ADD COLUMN unfenced_since timestamptz NOT NULL DEFAULT '2000-01-01';
