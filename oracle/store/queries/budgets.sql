-- Queries of the budgets against scans (oracle/budgets).

-- name: budget_fsps(int8) -> FspIdRow
-- Each worker, every 10 seconds: who has a bucket.  $1 how many; the oldest first, so that new names displace none.
SELECT fsp_id FROM fsps WHERE status <> 'closed' ORDER BY created_at, fsp_id LIMIT $1

-- name: budget_empty(text, text, int8, int8, text)
-- The bucket of an FSP has stayed empty.  $1 FSP, $2 class, $3 size, $4 refill a minute, $5 mode.  Its trigger writes
-- the event.  Nothing is written if another process noticed it within the hour.
INSERT INTO empty_budgets AS e (fsp_id, fsp_class, size, refill, mode) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (fsp_id) DO UPDATE SET fsp_class = excluded.fsp_class, size = excluded.size, refill = excluded.refill,
    mode = excluded.mode, noticed_at = excluded.noticed_at
WHERE e.noticed_at < now() - interval '1 hour'

-- name: budgets_page(text[], text, int8) -> FspIdRow
-- A page of the admin API, by the primary key.  $1 the FSPs that the caller is bound to or NULL, $2 after this id or
-- NULL, $3 limit.
SELECT fsp_id FROM fsps
WHERE status <> 'closed' AND ($1::text[] IS NULL OR fsp_id = ANY ($1)) AND ($2::text IS NULL OR fsp_id > $2)
ORDER BY fsp_id LIMIT $3
