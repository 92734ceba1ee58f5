CREATE FUNCTION pg_temp.epoch(seconds float8) RETURNS int LANGUAGE sql STABLE
    AS $$ SELECT floor(extract(epoch FROM now()) + seconds)::int $$;

-- Keycloak's own defaults: a session lives for ten hours and half an hour after its last use, an offline one for thirty days after it. The
-- second realm, one client and some users have been told to accept nothing from before a time.
INSERT INTO realm (id, name, enabled, access_token_lifespan, sso_idle_timeout, sso_max_lifespan, offline_session_idle_timeout, not_before)
SELECT pg_temp.uid('realm', i), 'realm-' || i, true, 300, 1800, 36000, 2592000, CASE WHEN i = 2 THEN pg_temp.epoch(-7200) ELSE 0 END
FROM generate_series(1, 2) AS i;

INSERT INTO client (id, enabled, client_id, not_before, secret, realm_id, protocol, name)
SELECT pg_temp.uid('client ' || n, i), true, 'client-' || i, CASE WHEN i = 4 THEN pg_temp.epoch(-5400) ELSE 0 END, pg_temp.secret('client', i),
    pg_temp.uid('realm', n), 'openid-connect', 'Client ' || i
FROM generate_series(1, 6) AS i, generate_series(1, 2) AS n;

INSERT INTO user_entity (id, email, enabled, realm_id, username, created_timestamp, not_before)
SELECT pg_temp.uid('user', i), 'user' || i || '@example.com', true, pg_temp.uid('realm', 1 + (i % 5 = 0)::int), 'user' || i,
    1000 * pg_temp.epoch(-86400 * 300)::bigint, CASE WHEN i % 9 = 0 THEN pg_temp.epoch(-9000) ELSE 0 END
FROM generate_series(1, pg_temp.rows(0.1)) AS i;

INSERT INTO federated_identity (identity_provider, realm_id, federated_user_id, user_id)
SELECT provider, u.realm_id, provider || '-' || u.username, u.id
FROM user_entity AS u, unnest(ARRAY['google', 'state']) AS provider
WHERE length(u.username) % 2 = 1 AND (provider = 'google' OR u.not_before > 0);

-- One session of four is an offline one, and one of eight of those continues an online session under its id.
CREATE TEMPORARY TABLE session AS
SELECT i, i % 4 = 0 AS offline, pg_temp.uid('session', CASE WHEN i % 32 = 0 THEN i - 1 ELSE i END)::text AS id,
    pg_temp.skewed('keycloak user', i, pg_temp.rows(0.1)) AS owner, pg_temp.chance('keycloak', i) AS kind, pg_temp.chance('keycloak age', i) AS age
FROM generate_series(1, pg_temp.rows()) AS i;

-- The cleaner leaves what is expired for a while: past its whole life, or idle for too long. Nobody renews a session from before a limit.
INSERT INTO offline_user_session (user_session_id, user_id, realm_id, created_on, offline_flag, data, last_session_refresh, broker_session_id,
    remember_me)
SELECT s.id, u.id, u.realm_id, pg_temp.epoch(created), CASE WHEN s.offline THEN '1' ELSE '0' END,
    jsonb_build_object('ipAddress', host(pg_temp.address(s.owner)), 'authMethod', 'openid-connect', 'started', pg_temp.epoch(created)),
    CASE WHEN refreshed > created AND pg_temp.epoch(created) < u.not_before THEN pg_temp.epoch(created) ELSE pg_temp.epoch(refreshed) END,
    CASE WHEN s.i % 6 = 0 THEN 'broker-' || s.i END, CASE WHEN NOT s.offline THEN false END
FROM session AS s
JOIN user_entity AS u ON u.id = pg_temp.uid('user', s.owner)::text,
LATERAL (SELECT CASE WHEN s.offline THEN CASE WHEN s.kind < 0.6 THEN -60 - 80000 * s.age ELSE -35 * 86400 - 86400 * s.age END
    WHEN s.kind < 0.5 THEN -60 - 34000 * s.age ELSE -36000 - 3600 - 86400 * s.age END) AS c (created),
LATERAL (SELECT greatest(created, CASE WHEN s.offline THEN created + 3600 WHEN s.kind < 0.5 THEN -s.age * 60 ELSE created + 30000 END)) AS r (refreshed);

INSERT INTO offline_client_session (user_session_id, client_id, offline_flag, "timestamp", data)
SELECT s.user_session_id, pg_temp.uid('client ' || CASE WHEN s.realm_id = pg_temp.uid('realm', 1)::text THEN 1 ELSE 2 END,
    pg_temp.skewed('keycloak client ' || n, s.created_on, 6)), s.offline_flag, s.last_session_refresh, '{}'
FROM offline_user_session AS s, generate_series(1, 2) AS n
ON CONFLICT DO NOTHING;

INSERT INTO revoked_token SELECT pg_temp.uid('revoked', i), pg_temp.epoch(CASE WHEN i % 2 = 0 THEN 3600 ELSE -3600 END) FROM generate_series(1, 20) AS i;
