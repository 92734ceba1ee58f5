-- Chains of one to three tokens. Two requests that extend the same token at once both succeed, so that some chains fork.
CREATE TEMPORARY TABLE token AS
SELECT chain, step, last, fork, 1800 * floor(pg_temp.ending('rust', chain, 36000) / 1800) + 900 - 1800 * (last - step) AS ends,
    pg_temp.uid('jti ' || step || fork, chain) AS jti, 'user-' || pg_temp.skewed('rust user', chain, pg_temp.rows(0.1)) AS subject
FROM (SELECT chain, 1 + chain % 3 AS last FROM generate_series(1, pg_temp.rows(0.45)) AS chain) AS c, LATERAL generate_series(1, last) AS step,
    LATERAL generate_series(0, (chain % 10 = 5 AND step = last AND step > 1)::int) AS fork;

INSERT INTO custom_jwt.jwt_metadata
SELECT pg_temp.uid('row ' || step || fork, chain), jti, pg_temp.at(ends - 36000),
    (ARRAY['role,token_type', 'admin,token_type', 'admin_email,token_type', 'token_type'])[1 + chain % 4], pg_temp.at(ends - 36000),
    pg_temp.at(ends), subject, 'JWTTOKEN', 'service-' || chain % 5, 'tim',
    CASE WHEN step > 1 THEN pg_temp.uid('row ' || step - 1 || '0', chain) END, pg_temp.uid('jti 10', chain)
FROM token;

INSERT INTO custom_jwt.denylist (jwt_uuid, denylisted_at, expires_at, reason)
SELECT jti, pg_temp.at(least(ends - 34200, -60)), pg_temp.at(ends), CASE WHEN step = last THEN 'logged out' END
FROM token WHERE step < last OR pg_temp.chance('rust denied', chain) < 0.15;

INSERT INTO auth.session
SELECT pg_temp.secret('session', i), (ARRAY['tara', 'google'])[1 + i % 2], 'user-' || pg_temp.skewed('rust session', i, pg_temp.rows(0.1)),
    pg_temp.at(ends - 28800), pg_temp.at(least(ends - 3600, -10)), pg_temp.at(ends), '\x00'
FROM (SELECT i, pg_temp.ending('rust session', i, 28800) AS ends FROM generate_series(1, pg_temp.rows(0.5)) AS i) AS session;

INSERT INTO auth.oauth_state (state, created_at, provider_id, nonce)
SELECT pg_temp.secret('state', i), pg_temp.at(-i * 30), (ARRAY['tara', 'google'])[1 + i % 2], 'nonce' FROM generate_series(1, 20) AS i;
