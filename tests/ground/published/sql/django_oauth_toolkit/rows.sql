-- The bulk of the rows, as their application would have written them; django_site/toolkit_rows.py adds some through the
-- application's own code. Access tokens live for ten hours here, refresh tokens for as long as the site says.

INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT '!', false, 'user' || i, '', '', 'user' || i || '@example.com', false, true, pg_temp.at(-400 * 86400)
FROM generate_series(1, pg_temp.rows(0.1)) AS i;

INSERT INTO oauth2_provider_application (client_id, redirect_uris, client_type, authorization_grant_type, client_secret, name, user_id,
    skip_authorization, created, updated, algorithm, post_logout_redirect_uris, hash_client_secret, allowed_origins, registration_source)
SELECT 'client-' || i, 'https://client' || i || '.example.com/back', CASE WHEN i % 3 = 0 THEN 'public' ELSE 'confidential' END,
    'authorization-code', pg_temp.secret('client', i), 'Client ' || i, NULL, false, pg_temp.at(-i * 86400), pg_temp.at(-i * 86400),
    CASE WHEN i % 2 = 0 THEN 'RS256' ELSE '' END, '', true, '', 'manual'
FROM generate_series(1, 12) AS i;

CREATE TEMPORARY TABLE token AS
SELECT i, pg_temp.skewed('toolkit family', i, pg_temp.rows(0.25)) AS family, pg_temp.ending('toolkit', i, 36000) AS ends,
    pg_temp.chance('toolkit kind', i) AS kind
FROM generate_series(1, pg_temp.rows()) AS i;

-- A login with OpenID Connect has an ID token beside the access token; one of a machine has no user and no refresh token.
INSERT INTO oauth2_provider_idtoken (id, jti, expires, scope, created, updated, application_id, user_id)
SELECT i, pg_temp.uid('id token', i), pg_temp.at(ends), 'openid', pg_temp.at(ends - 36000), pg_temp.at(ends - 36000),
    pg_temp.skewed('toolkit client', family, 12), pg_temp.skewed('toolkit user', family, pg_temp.rows(0.1))
FROM token WHERE kind < 0.2;

INSERT INTO oauth2_provider_accesstoken (id, token, token_checksum, expires, scope, application_id, user_id, created, updated, id_token_id,
    resource)
SELECT i, 'access ' || i, encode(sha256(convert_to('access ' || i, 'UTF8')), 'hex'), pg_temp.at(ends),
    (ARRAY['read', 'read write', 'write', 'openid read'])[1 + i % 4], pg_temp.skewed('toolkit client', family, 12),
    CASE WHEN kind < 0.9 THEN pg_temp.skewed('toolkit user', family, pg_temp.rows(0.1)) END,
    pg_temp.at(ends - 36000), pg_temp.at(ends - 36000), CASE WHEN kind < 0.2 THEN i END, '[]'
FROM token WHERE kind < 0.6 OR kind >= 0.8;

-- Of kind up to 0.6 a refresh token stands beside its access token; of kind up to 0.8 it was used or revoked and the access token is
-- gone, or the access token alone was deleted behind the application's back.
INSERT INTO oauth2_provider_refreshtoken (id, token, token_checksum, access_token_id, application_id, user_id, created, updated, revoked,
    token_family, resource)
SELECT i, 'refresh ' || i, encode(sha256(convert_to('refresh ' || i, 'UTF8')), 'hex'), CASE WHEN kind < 0.6 THEN i END,
    pg_temp.skewed('toolkit client', family, 12), pg_temp.skewed('toolkit user', family, pg_temp.rows(0.1)),
    pg_temp.at(ends - 36000), pg_temp.at(ends - 36000), CASE WHEN kind >= 0.6 AND kind < 0.78 THEN pg_temp.at(least(ends - 30000, -60)) END,
    CASE WHEN i % 20 > 0 THEN pg_temp.uid('family', family) END, '[]'
FROM token WHERE kind < 0.8;

-- What was renewed names the refresh token that it was renewed with.
UPDATE oauth2_provider_accesstoken AS a SET source_refresh_token_id = r.id
FROM oauth2_provider_refreshtoken AS r
WHERE r.revoked IS NOT NULL AND a.id = r.id + 1 AND a.user_id IS NOT NULL;

INSERT INTO oauth2_provider_grant (code, expires, redirect_uri, scope, application_id, user_id, created, updated, code_challenge,
    code_challenge_method, nonce, claims, resource)
SELECT pg_temp.secret('code', i), pg_temp.at(CASE WHEN i % 3 = 0 THEN 3600 ELSE -3600 END), 'https://client.example.com/back', 'read',
    pg_temp.skewed('toolkit client', i, 12), pg_temp.skewed('toolkit user', i, pg_temp.rows(0.1)), pg_temp.at(-3660), pg_temp.at(-3660), '',
    '', '', '', '[]'
FROM generate_series(1, pg_temp.rows(0.05)) AS i;

INSERT INTO oauth2_provider_devicegrant (device_code, user_code, scope, interval, expires, status, client_id, last_checked, user_id)
SELECT pg_temp.secret('device', i), 'USER-' || i, 'read', 5, pg_temp.at(3600), 'authorized', 'client-1', pg_temp.at(-10),
    pg_temp.skewed('toolkit user', i, pg_temp.rows(0.1))
FROM generate_series(1, pg_temp.rows(0.01)) AS i;

SELECT setval(pg_get_serial_sequence(name, 'id'), pg_temp.rows())
FROM unnest(ARRAY['oauth2_provider_idtoken', 'oauth2_provider_accesstoken', 'oauth2_provider_refreshtoken']) AS name;
