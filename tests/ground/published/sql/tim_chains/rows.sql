-- Chains of one to four tokens. Extending one denies it, with its own expiry, and issues the next half an hour later; `supersedes` names the row
-- of the one before, not its jwt_uuid. One token of thirty was registered twice, the second time with a later expiry.
CREATE TEMPORARY TABLE token AS
SELECT chain, step, last, 1800 * floor(pg_temp.ending('chain', chain, 36000) / 1800) + 900 - 1800 * (last - step) AS ends, pg_temp.uid('jti ' || step, chain) AS jti,
    'user-' || pg_temp.skewed('chain user', chain, pg_temp.rows(0.1)) AS subject
FROM (SELECT chain, 1 + chain % 4 AS last FROM generate_series(1, pg_temp.rows(0.4)) AS chain) AS c, LATERAL generate_series(1, last) AS step;

INSERT INTO custom_jwt.jwt_metadata
SELECT pg_temp.uid('row ' || step || copy, chain), jti, pg_temp.utc(ends - 36000 + 60 * copy),
    (ARRAY['sub,role', 'sub,admin', 'sub, admin', 'role', 'sub,is_admin', 'administrative_unit'])[1 + chain % 6], pg_temp.utc(ends - 36000),
    pg_temp.utc(ends + 1800 * copy), subject, 'JWTTOKEN', 'service-' || chain % 5, 'tim',
    CASE WHEN step > 1 THEN pg_temp.uid('row ' || step - 1 || '0', chain) END, pg_temp.uid('jti 1', chain)
FROM token, LATERAL generate_series(0, (chain % 30 = 0)::int) AS copy;

INSERT INTO custom_jwt.denylist (jwt_uuid, denylisted_at, expires_at, reason)
SELECT jti, pg_temp.utc(least(ends - 34200, -60)), pg_temp.utc(ends + 1800), CASE WHEN step = last THEN 'logged out' END
FROM token WHERE step < last OR pg_temp.chance('chain denied', chain) < 0.15;

INSERT INTO auth.jwt_metadata
SELECT pg_temp.uid('tara', i), pg_temp.utc(ends - 7200), 'sub,personal_code', pg_temp.utc(ends - 7200), pg_temp.utc(ends)
FROM (SELECT i, pg_temp.ending('tara', i, 7200) AS ends FROM generate_series(1, pg_temp.rows(0.4)) AS i) AS token;
INSERT INTO auth.denylist (jwt_uuid, denylisted_at, expires_at)
SELECT jwt_uuid, least(expires_at - interval '1 h', timezone('UTC', now())), expires_at FROM auth.jwt_metadata
WHERE right(jwt_uuid::text, 1) < '3';

INSERT INTO auth.oauth_state SELECT pg_temp.secret('state', i), pg_temp.utc(-i * 60), NULL FROM generate_series(1, 30) AS i;
