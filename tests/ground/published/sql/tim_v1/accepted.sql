-- src/main/java/ee/eesti/authentication/configuration/jwt/JwtUtils.java (not expired, not from the future, and not in the table with the flag set)
-- and repository/SessionsRepository.java (valid_to is still to come) at github.com/buerokratt/TIM, commit 6f14853.
SELECT 'tokens', jwt_uuid::text FROM jwt_blacklist.jwt_token
WHERE is_blacklisted IS NOT TRUE AND expiration_date >= timezone('UTC', now()) AND issued_date <= timezone('UTC', now())
UNION ALL
SELECT 'custom_tokens', jwt_uuid::text FROM jwt_blacklist.custom_jwt_token
WHERE is_blacklisted IS NOT TRUE AND expiration_date >= timezone('UTC', now()) AND issued_date <= timezone('UTC', now())
UNION ALL
SELECT 'sessions', session_uuid::text FROM pwa.sessions WHERE valid_to > timezone('UTC', now())
