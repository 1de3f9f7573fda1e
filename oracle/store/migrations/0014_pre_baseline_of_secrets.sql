-- Each secret that is older than the events of secrets (0013) gets an event, so that history explains every row: `oracle
-- audit verify --directory` reports a secret without one.  History cannot say who made these secrets. An operator
-- finds them by the reason of this event, and revokes those that no person claims.
INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason)
SELECT 'secret', 'registered', c.channel, c.actor, c.role, k.fsp_id, to_jsonb(s) - 'secret_sha256',
       'migration 0014: this secret is older than the events of secrets'
FROM credential_secrets s JOIN credentials k USING (credential_id) CROSS JOIN event_context() c
WHERE NOT EXISTS (
    SELECT FROM events e
    WHERE e.entity = 'secret' AND e.after ->> 'credential_id' = s.credential_id
      AND (e.after ->> 'created_at')::timestamptz = s.created_at
);
