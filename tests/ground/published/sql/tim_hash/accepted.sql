-- docs/database/04-operations.md at github.com/Buerostack/TIM, commit 5c2f642, "Check if a token hash is denylisted": by the hash alone.
SELECT 'custom', token_hash FROM custom.jwt_metadata AS m
WHERE expires_at > now() AND NOT EXISTS (SELECT FROM custom.denylist AS d WHERE d.token_hash = m.token_hash)
UNION ALL
SELECT 'tara', token_hash FROM tara.jwt_metadata AS m
WHERE expires_at > now() AND NOT EXISTS (SELECT FROM tara.denylist AS d WHERE d.token_hash = m.token_hash)
