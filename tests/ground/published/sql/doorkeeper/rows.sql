INSERT INTO users (id, email) SELECT i, 'user' || i || '@example.com' FROM generate_series(1, pg_temp.rows(0.1)) AS i;

INSERT INTO oauth_applications (id, name, uid, secret, redirect_uri, scopes, created_at, updated_at)
SELECT i, 'Client ' || i, pg_temp.secret('uid', i), pg_temp.secret('client', i), 'https://client.example.com/back', 'read write',
    pg_temp.utc(-i * 86400), pg_temp.utc(-i * 86400)
FROM generate_series(1, 12) AS i;

-- One in ten never expires, one in five is a machine's own (no user, nothing to renew with), one in five is revoked.
INSERT INTO oauth_access_tokens (id, resource_owner_id, application_id, token, refresh_token, expires_in, scopes, created_at, revoked_at,
    previous_refresh_token)
SELECT i, CASE WHEN i % 5 > 0 THEN pg_temp.skewed('doorkeeper user', i, pg_temp.rows(0.1)) END, pg_temp.skewed('doorkeeper client', i, 12),
    pg_temp.secret('token', i), CASE WHEN i % 5 > 0 THEN pg_temp.secret('refresh', i) END, CASE WHEN i % 10 <> 3 THEN lifetime END,
    (ARRAY['read', 'read write', 'write', NULL])[1 + i % 4], pg_temp.utc(ends - lifetime),
    CASE WHEN pg_temp.chance('doorkeeper revoked', i) < 0.2 THEN pg_temp.utc(least(ends - 0.4 * lifetime, -60)) END,
    CASE WHEN i % 5 > 0 AND i % 4 = 0 THEN pg_temp.secret('refresh', i - 1) ELSE '' END
FROM (SELECT i, lifetime, pg_temp.ending('doorkeeper', i, lifetime) AS ends
      FROM generate_series(1, pg_temp.rows()) AS i, LATERAL (SELECT (ARRAY[7200, 86400, 36000])[1 + i % 3]) AS l (lifetime)) AS token;

-- Codes: used ones are revoked and name the token that they became.
INSERT INTO oauth_access_grants (resource_owner_id, application_id, token, expires_in, redirect_uri, scopes, created_at, revoked_at,
    access_token_id)
SELECT coalesce(t.resource_owner_id, 1), t.application_id, pg_temp.secret('code', t.id), 3600, 'https://client.example.com/back', 'read',
    CASE WHEN t.id % 4 = 0 THEN pg_temp.utc(-300) ELSE t.created_at - interval '10 s' END, CASE WHEN t.id % 4 > 0 THEN t.created_at END,
    CASE WHEN t.id % 4 > 0 THEN t.id END
FROM oauth_access_tokens AS t WHERE t.id <= pg_temp.rows(0.1);

SELECT setval('users_id_seq', pg_temp.rows()), setval('oauth_applications_id_seq', 12), setval('oauth_access_tokens_id_seq', pg_temp.rows());
