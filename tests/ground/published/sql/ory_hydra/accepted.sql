-- persistence/sql/persister_oauth2.go at 83127c5 (GetAccessTokenSession, GetRefreshTokenSession: the row is there and active; rotation is strict
-- by default, without a period of grace) and fosite/handler/oauth2/strategy_hmacsha.go (ValidateAccessToken, ValidateRefreshToken: the expiry
-- that counts is the one in the session's data; a refresh token without one is good for ever). The column expires_at is a copy. Of a login,
-- persister_consent.go asks only whether it is remembered (GetRememberedLoginSession); its cookie ends with its expires_at.
SELECT 'access_tokens', signature FROM hydra_oauth2_access
WHERE active AND (session_data::jsonb #>> '{id_token,expires_at,access_token}')::timestamptz >= now()
UNION ALL
SELECT 'refresh_tokens', signature FROM hydra_oauth2_refresh
WHERE active AND coalesce((session_data::jsonb #>> '{id_token,expires_at,refresh_token}')::timestamptz, 'infinity') >= now()
UNION ALL
SELECT 'login_sessions', id FROM hydra_oauth2_authentication_session
WHERE remember AND expires_at >= timezone('UTC', now())
