-- services/…/managers/AuthenticationManager.java (isSessionValid, isOfflineSessionValid: the ages of the session and of its last use against the
-- realm's settings) and services/…/TokenManager.java (a token from before the realm's, the client's or the user's notBefore is stale) at
-- github.com/keycloak/keycloak, 26.5. The newest token of a session is as old as its last use. A session is accepted while one of its clients can
-- still use it. An offline session has no longest life unless the realm sets one.
SELECT CASE s.offline_flag WHEN '1' THEN 'offline_sessions' ELSE 'sessions' END, s.user_session_id
FROM offline_user_session AS s
JOIN realm AS r ON r.id = s.realm_id
JOIN user_entity AS u ON u.id = s.user_id
CROSS JOIN (SELECT extract(epoch FROM now())::int AS at) AS now
WHERE u.enabled
    AND CASE WHEN s.offline_flag = '1' THEN s.last_session_refresh + r.offline_session_idle_timeout > now.at
        ELSE s.last_session_refresh + r.sso_idle_timeout > now.at AND s.created_on + r.sso_max_lifespan > now.at END
    AND EXISTS (
        SELECT FROM offline_client_session AS c JOIN client ON client.id = c.client_id
        WHERE c.user_session_id = s.user_session_id AND c.offline_flag = s.offline_flag
            AND s.last_session_refresh >= greatest(r.not_before, client.not_before, u.not_before)
    )
