-- Users only: an outstanding token is kept as the signed text that was issued, which only the application can write.

INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT '!', false, 'user' || i, '', '', 'user' || i || '@example.com', false, true, pg_temp.at(-400 * 86400)
FROM generate_series(1, pg_temp.rows(0.1)) AS i;
