-- The aliases of an FSP in one currency: a page of the list reads no more than the page.  Before, a page read all entries
-- and passed the others over, so a currency that few aliases have took hundreds of empty pages.
--
-- The indexes take 47 bytes an entry, and a change writes a seventh more (aliases_by_fsp stays for lists of every currency).
-- Making them reads each table once: 54 s for 10 million aliases on two busy cores, during which changes are
-- refused.
-- A directory with more of them can make the index beforehand, while changes go on; then this migration takes an instant:
--     CREATE INDEX CONCURRENTLY aliases_by_currency ON aliases (fsp_id, party_id_type, currency, changed_at);
CREATE INDEX IF NOT EXISTS aliases_by_currency ON aliases (fsp_id, party_id_type, currency, changed_at);
CREATE INDEX IF NOT EXISTS alias_currencies_by_currency ON alias_currencies (fsp_id, party_id_type, currency, changed_at);
