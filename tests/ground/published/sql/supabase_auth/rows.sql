INSERT INTO auth.users (id, aud, role, email, banned_until, created_at)
SELECT pg_temp.uid('user', i), 'authenticated', 'authenticated', 'user' || i || '@example.com', CASE WHEN i % 40 = 0 THEN pg_temp.at(86400) END,
    pg_temp.at(-200 * 86400)
FROM generate_series(1, pg_temp.rows(0.1)) AS i;

-- Some users came from two providers.
INSERT INTO auth.identities (id, provider_id, user_id, identity_data, provider, created_at)
SELECT pg_temp.uid(provider, i), pg_temp.uid(provider, -i), pg_temp.uid('user', i), jsonb_build_object('email', 'user' || i || '@example.com'),
    provider, pg_temp.at(-200 * 86400)
FROM generate_series(1, pg_temp.rows(0.1)) AS i, unnest(ARRAY['email', 'google', 'github']) AS provider
WHERE provider = (ARRAY['email', 'google', 'github'])[1 + i % 3] OR i % 10 = 0 AND provider = 'email';

INSERT INTO auth.oauth_clients (id, client_secret_hash, registration_type, redirect_uris, grant_types, client_name, created_at)
SELECT pg_temp.uid('client', i), pg_temp.secret('client', i), 'manual', 'https://client.example.com/back', 'authorization_code', 'Client ' || i,
    pg_temp.at(-i * 86400)
FROM generate_series(1, 6) AS i;

-- Most sessions have no end of their own, and one in five signs its refresh tokens with a key instead of storing them.
INSERT INTO auth.sessions (id, user_id, created_at, updated_at, aal, not_after, refreshed_at, user_agent, ip, oauth_client_id,
    refresh_token_hmac_key, refresh_token_counter, scopes)
SELECT pg_temp.uid('session', i), pg_temp.uid('user', pg_temp.skewed('supabase user', i, pg_temp.rows(0.1))), pg_temp.at(began), pg_temp.at(used),
    'aal1', CASE WHEN i % 3 = 0 THEN pg_temp.at(ends) END, CASE WHEN i % 7 > 0 THEN pg_temp.utc(used) END, 'Mozilla/5.0',
    pg_temp.address(pg_temp.skewed('supabase user', i, pg_temp.rows(0.1))), CASE WHEN i % 4 = 0 THEN pg_temp.uid('client', 1 + i % 6) END,
    CASE WHEN i % 5 = 0 THEN pg_temp.secret('key', i) END, CASE WHEN i % 5 = 0 THEN i END, CASE WHEN i % 4 = 0 THEN 'openid email' END
FROM (SELECT i, pg_temp.ending('supabase', i, 864000) AS ends FROM generate_series(1, pg_temp.rows()) AS i) AS s,
LATERAL (SELECT ends - 864000, least(ends - 8000, -30)) AS l (began, used);

-- Three in a row: each was used for the next, which names it as its parent.
INSERT INTO auth.refresh_tokens (token, user_id, revoked, created_at, updated_at, parent, session_id)
SELECT pg_temp.secret('refresh ' || n, s.number), s.user_id::text, n < 3, s.created_at + n * interval '1 h',
    s.created_at + (n + 1) * interval '1 h', CASE WHEN n > 1 THEN pg_temp.secret('refresh ' || n - 1, s.number) END, s.id
FROM (SELECT *, row_number() OVER (ORDER BY created_at, id) AS number FROM auth.sessions WHERE refresh_token_hmac_key IS NULL) AS s,
    generate_series(1, 3) AS n
ORDER BY s.number, n;

INSERT INTO auth.mfa_amr_claims SELECT id, created_at, created_at, 'password', md5(id::text)::uuid FROM auth.sessions;

INSERT INTO auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to, created_at)
SELECT pg_temp.uid('link', i), pg_temp.uid('user', i), 'recovery_token', pg_temp.secret('link', i), 'user' || i || '@example.com', pg_temp.utc(-i * 60)
FROM generate_series(1, pg_temp.rows(0.05)) AS i;

INSERT INTO auth.flow_state (id, user_id, auth_code, code_challenge_method, code_challenge, provider_type, created_at, authentication_method,
    auth_code_issued_at)
SELECT pg_temp.uid('flow', i), CASE WHEN i % 4 > 0 THEN pg_temp.uid('user', pg_temp.skewed('supabase flow', i, pg_temp.rows(0.1))) END,
    pg_temp.secret('flow', i), 's256', pg_temp.secret('challenge', i), 'google', pg_temp.at(-i * 60), 'oauth', pg_temp.at(-i * 60)
FROM generate_series(1, pg_temp.rows(0.05)) AS i;

INSERT INTO auth.oauth_authorizations (id, authorization_id, client_id, user_id, redirect_uri, scope, status, authorization_code, created_at,
    expires_at)
SELECT pg_temp.uid('authorization', i), pg_temp.secret('authorization', i), pg_temp.uid('client', 1 + i % 6),
    pg_temp.uid('user', pg_temp.skewed('supabase code', i, pg_temp.rows(0.1))), 'https://client.example.com/back', 'openid', 'approved',
    pg_temp.secret('authorization code', i), pg_temp.at(-100), pg_temp.at(3600)
FROM generate_series(1, pg_temp.rows(0.05)) AS i;

INSERT INTO auth.oauth_consents (id, user_id, client_id, scopes, granted_at)
SELECT pg_temp.uid('consent', i), pg_temp.uid('user', i), pg_temp.uid('client', 1 + i % 6), 'openid', pg_temp.at(-86400)
FROM generate_series(1, pg_temp.rows(0.05)) AS i;
