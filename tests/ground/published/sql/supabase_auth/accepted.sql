-- internal/tokens/service.go (RefreshTokenGrant) and internal/models/sessions.go (CheckValidity, FindCurrentlyActiveRefreshToken) at
-- github.com/supabase/auth, commit bc32168, with the settings' defaults: the user is not banned, the session has not ended, and it has a refresh
-- token that is not revoked, or is the parent of the one in use, or was revoked within ten seconds; or it signs its own.
WITH session AS (
    SELECT s.* FROM auth.sessions AS s JOIN auth.users AS u ON u.id = s.user_id
    WHERE (s.not_after IS NULL OR s.not_after >= now()) AND (u.banned_until IS NULL OR u.banned_until < now())
),
active AS (
    SELECT DISTINCT ON (session_id) session_id, parent FROM auth.refresh_tokens WHERE revoked IS FALSE ORDER BY session_id, id DESC
)
SELECT 'sessions', s.id::text FROM session AS s
WHERE s.refresh_token_hmac_key IS NOT NULL OR EXISTS (
    SELECT FROM auth.refresh_tokens AS t LEFT JOIN active AS a ON a.session_id = t.session_id
    WHERE t.session_id = s.id AND (t.revoked IS NOT TRUE OR a.parent = t.token OR t.updated_at > now() - interval '10 s')
)
