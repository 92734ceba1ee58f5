INSERT INTO networks SELECT pg_temp.uid('network', i), pg_temp.utc(-i * 86400), pg_temp.utc(-i * 86400) FROM generate_series(1, 2) AS i;

INSERT INTO hydra_client (id, nid, pk, client_name, client_secret, scope, owner, grant_types, redirect_uris, created_at)
SELECT 'client-' || i, pg_temp.uid('network', n), pg_temp.uid('client ' || n, i), 'Client ' || i, pg_temp.secret('client', i), 'openid offline',
    '', '["authorization_code", "refresh_token"]', '["https://client.example.com/back"]', pg_temp.utc(-i * 86400)
FROM generate_series(1, 6) AS i, generate_series(1, 2) AS n;

-- A request is a login with a consent; all that is issued for it carries its id, its client, its network and its subject.
CREATE TEMPORARY TABLE request AS
SELECT i, pg_temp.uid('request', i)::text AS request_id, pg_temp.uid('network', CASE WHEN pg_temp.chance('nid', i) < 0.8 THEN 1 ELSE 2 END) AS nid,
    'client-' || pg_temp.skewed('hydra client', i, 6) AS client_id, 'user' || pg_temp.skewed('hydra user', i, pg_temp.rows(0.1)) AS subject,
    pg_temp.uid('consent', i)::text AS challenge_id
FROM generate_series(1, pg_temp.rows(0.25)) AS i;

INSERT INTO hydra_oauth2_authentication_session (id, nid, authenticated_at, subject, remember, expires_at)
SELECT pg_temp.uid('session', i), nid, pg_temp.utc(pg_temp.ending('hydra session', i, 864000) - 864000), subject, i % 10 > 0,
    pg_temp.utc(pg_temp.ending('hydra session', i, 864000))
FROM request;

INSERT INTO hydra_oauth2_flow (login_challenge, nid, subject, client_id, requested_at, login_session_id, state, login_was_used,
    consent_challenge_id, consent_remember, consent_remember_for, consent_handled_at, consent_was_used)
SELECT pg_temp.uid('login', i), nid, subject, client_id, pg_temp.utc(-50 * 86400), pg_temp.uid('session', i), 6, true, challenge_id, i % 2 = 0,
    CASE WHEN i % 2 = 0 THEN 90 * 86400 ELSE 0 END, pg_temp.utc(-50 * 86400 + 20), true
FROM request;

CREATE TEMPORARY TABLE token AS
SELECT n, r.*, pg_temp.ending('hydra', n, 86400) AS ends, pg_temp.chance('hydra active', n) AS used
FROM generate_series(1, pg_temp.rows()) AS n
JOIN request AS r ON r.i = pg_temp.skewed('hydra request', n, pg_temp.rows(0.25));

INSERT INTO hydra_oauth2_access (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, active,
    challenge_id, nid, expires_at)
SELECT pg_temp.secret('access', n), request_id, pg_temp.utc(ends - 86400), client_id, 'openid|offline', 'openid|offline', '',
    jsonb_build_object('id_token', jsonb_build_object('expires_at', jsonb_build_object('access_token', pg_temp.at(ends)))),
    subject, used > 0.02, challenge_id, nid, pg_temp.utc(ends)
FROM token;

-- A used refresh token stays for half an hour as the witness of its use. One in twenty never expires.
INSERT INTO hydra_oauth2_refresh (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, active,
    challenge_id, nid, expires_at, first_used_at, access_token_signature, used_times)
SELECT pg_temp.secret('refresh', n), request_id, pg_temp.utc(ends - 86400), client_id, 'openid|offline', 'openid|offline', '',
    jsonb_build_object('id_token', jsonb_build_object('expires_at',
        CASE WHEN n % 20 = 0 THEN '{}'::jsonb ELSE jsonb_build_object('refresh_token', pg_temp.at(ends + 20 * 86400)) END)),
    subject, used > 0.3, challenge_id, nid,
    CASE WHEN used <= 0.3 THEN pg_temp.utc(least(ends, -600) + 1800) WHEN n % 20 > 0 THEN pg_temp.utc(ends + 20 * 86400) END,
    CASE WHEN used <= 0.3 THEN pg_temp.utc(least(ends, -600)) END, pg_temp.secret('access', n), CASE WHEN used <= 0.3 THEN 1 END
FROM token WHERE n % 2 = 0;

INSERT INTO hydra_oauth2_code (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject, active,
    challenge_id, nid, expires_at)
SELECT pg_temp.secret('code', i), request_id, pg_temp.utc(moment - 600), client_id, 'openid', 'openid', '', '{}', subject, i % 3 = 0,
    challenge_id, nid, pg_temp.utc(moment)
FROM request, LATERAL (SELECT CASE WHEN i % 2 = 0 THEN 1800 ELSE -3600.0 END) AS m (moment);
INSERT INTO hydra_oauth2_oidc SELECT * FROM hydra_oauth2_code;
INSERT INTO hydra_oauth2_pkce SELECT * FROM hydra_oauth2_code WHERE active;

INSERT INTO hydra_oauth2_device_auth_codes (device_code_signature, user_code_signature, request_id, requested_at, client_id, scope, granted_scope,
    form_data, session_data, subject, requested_audience, granted_audience, challenge_id, expires_at, nid)
SELECT pg_temp.secret('device', i), pg_temp.secret('user code', i), request_id, pg_temp.utc(-60), client_id, 'openid', 'openid', '', '{}', subject,
    '', '', challenge_id, pg_temp.utc(1800), nid
FROM request WHERE i % 20 = 0;

INSERT INTO hydra_oauth2_jti_blacklist
SELECT pg_temp.secret('jti', i), pg_temp.utc(CASE WHEN i % 2 = 0 THEN 3600 ELSE -3600 END), pg_temp.uid('network', 1) FROM generate_series(1, 20) AS i;
