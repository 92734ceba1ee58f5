-- lib/doorkeeper/models/concerns/{accessible,expirable,revocable}.rb at d0cd44a: an access token counts while it is neither expired nor
-- revoked; lib/doorkeeper/oauth/refresh_token_request.rb: to be renewed with, a row need only not be revoked, however old it is.
SELECT 'tokens', id::text FROM oauth_access_tokens
WHERE (refresh_token IS NOT NULL OR expires_in IS NULL OR timezone('UTC', now()) <= created_at + make_interval(secs => expires_in))
    AND (revoked_at IS NULL OR revoked_at > timezone('UTC', now()))
