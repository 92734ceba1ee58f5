CREATE TEMPORARY TABLE token AS
SELECT i, 'user-' || pg_temp.skewed('hash user', i, pg_temp.rows(0.1)) AS subject, pg_temp.ending('hash', i, 36000) AS ends,
    (ARRAY['{"role": "viewer"}', '{"admin": true, "role": "admin"}', '{"administrative_unit": 7}', '{"role": "admin"}'])[1 + i % 4]::jsonb AS claims,
    'sha256:' || pg_temp.secret('hash', i) AS hash
FROM generate_series(1, pg_temp.rows()) AS i;

INSERT INTO custom.jwt_metadata (jwt_name, subject, issued_at, expires_at, audience, issuer, claims_json, token_hash)
SELECT 'JWTTOKEN', subject, pg_temp.at(ends - 36000), pg_temp.at(ends), 'service-' || i % 5, 'tim', claims, hash FROM token;
INSERT INTO tara.jwt_metadata (jwt_name, subject, issued_at, expires_at, audience, issuer, claims_json, token_hash)
SELECT 'TARATOKEN', subject, pg_temp.at(ends - 36000), pg_temp.at(ends), 'service', 'tim', claims, md5(hash) FROM token WHERE i % 4 = 0;

-- A hash that was denied twice is there twice; an entry for a subject has no hash at all.
INSERT INTO custom.denylist (token_hash, reason, created_at)
SELECT hash, 'logged out', pg_temp.at(least(ends - 20000, -60)) FROM token, generate_series(1, 1 + (i % 10 = 0)::int)
WHERE pg_temp.chance('hash denied', i) < 0.2;
INSERT INTO tara.denylist (token_hash, reason, created_at)
SELECT md5(hash), 'logged out', pg_temp.at(least(ends - 20000, -60)) FROM token WHERE i % 4 = 0 AND pg_temp.chance('hash tara denied', i) < 0.2;
INSERT INTO custom.denylist (subject, reason) SELECT 'user-' || i * 7, 'left the house' FROM generate_series(1, 3) AS i;

INSERT INTO tara.oauth_state (state, created_at, expires_at, nonce)
SELECT pg_temp.secret('state', i), pg_temp.at(-i * 60), pg_temp.at(3600), 'nonce' FROM generate_series(1, 10) AS i;
