-- src/jwt/service.rs (validate: the expiry in whole seconds is not past, and the id is not on the deny list) and src/oauth2/session/postgres.rs
-- (get) at github.com/turnerrainer/TIM, commits 4277c95 and bc98f90.
SELECT 'custom', jwt_uuid::text FROM custom_jwt.jwt_metadata AS m
WHERE floor(extract(epoch FROM expires_at)) >= floor(extract(epoch FROM now()))
    AND NOT EXISTS (SELECT FROM custom_jwt.denylist AS d WHERE d.jwt_uuid = m.jwt_uuid)
UNION ALL
SELECT 'sessions', id FROM auth.session WHERE expires_at > now()
