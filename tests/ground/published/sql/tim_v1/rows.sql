-- A flag that was never set is NULL in rows from before it had a default.
INSERT INTO jwt_blacklist.jwt_token
SELECT pg_temp.uid('v1 token', i), pg_temp.utc(ends), pg_temp.utc(ends - 7200), CASE WHEN denied THEN true WHEN i % 30 > 0 THEN false END,
    CASE WHEN denied THEN pg_temp.utc(least(ends - 3000, -60)) END
FROM (SELECT i, pg_temp.ending('v1', i, 7200) AS ends, pg_temp.chance('v1 denied', i) < 0.2 AS denied
      FROM generate_series(1, pg_temp.rows(0.5)) AS i) AS token;

INSERT INTO jwt_blacklist.custom_jwt_token
SELECT pg_temp.uid('v1 custom', i), (ARRAY['sub', 'sub::_::admin', 'admin::_::role', 'sub::_::administrative_unit', 'sub,admin'])[1 + i % 5],
    pg_temp.utc(ends), pg_temp.utc(ends - 36000), CASE WHEN denied THEN true WHEN i % 30 > 0 THEN false END,
    CASE WHEN denied THEN pg_temp.utc(least(ends - 20000, -60)) END
FROM (SELECT i, pg_temp.ending('v1 custom', i, 36000) AS ends, pg_temp.chance('v1 custom denied', i) < 0.2 AS denied
      FROM generate_series(1, pg_temp.rows()) AS i) AS token;

INSERT INTO pwa.sessions (session_uuid, personal_code, valid_from, valid_to, given_name, surname, ip, created)
SELECT pg_temp.uid('v1 session', i), '3' || lpad((pg_temp.skewed('v1 person', i, pg_temp.rows(0.1)))::text, 10, '0'), pg_temp.utc(ends - 7200),
    pg_temp.utc(ends), 'Given', 'Name', host(pg_temp.address(i)), pg_temp.utc(ends - 7200)
FROM (SELECT i, pg_temp.ending('v1 session', i, 7200) AS ends FROM generate_series(1, pg_temp.rows(0.25)) AS i) AS session;
