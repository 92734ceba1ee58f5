-- app/server/…/introspection/service/CustomJwtTokenValidator.java at github.com/Buerostack/TIM, commit bf4d0ca: its id is not on the deny list and
-- its expiry is still to come.
SELECT 'custom', jwt_uuid::text FROM custom_jwt.jwt_metadata AS m
WHERE expires_at >= timezone('UTC', now()) AND NOT EXISTS (SELECT FROM custom_jwt.denylist AS d WHERE d.jwt_uuid = m.jwt_uuid)
UNION ALL
SELECT 'auth', jwt_uuid::text FROM auth.jwt_metadata AS m
WHERE expires_at >= timezone('UTC', now()) AND NOT EXISTS (SELECT FROM auth.denylist AS d WHERE d.jwt_uuid = m.jwt_uuid)
