-- Ory Hydra v2 of July 2026: the facts are those of persistence/sql/migrations at github.com/ory/hydra, commit 83127c5 (the last of them
-- 20260420120000000001), as internal/testhelpers/sql_schemas/postgres_dump.sql of the same commit shows their result. Of the client and the
-- flow only the columns that identify, limit or refer. Every time is a wall clock in UTC.

CREATE TABLE networks (
    id uuid PRIMARY KEY,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);

CREATE TABLE hydra_client (
    id varchar(255) NOT NULL,
    nid uuid NOT NULL REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE,
    pk uuid,
    client_name text NOT NULL,
    client_secret text NOT NULL,
    client_secret_expires_at integer NOT NULL DEFAULT 0,
    rotated_secrets jsonb,
    scope text NOT NULL,
    owner text NOT NULL,
    grant_types jsonb NOT NULL,
    redirect_uris jsonb NOT NULL,
    registration_access_token_signature varchar(128) NOT NULL DEFAULT '',
    refresh_token_grant_refresh_token_lifespan bigint,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (id, nid)
);

CREATE TABLE hydra_oauth2_authentication_session (
    id varchar(40) PRIMARY KEY,
    nid uuid NOT NULL REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE,
    authenticated_at timestamp,
    subject varchar(255) NOT NULL,
    remember boolean NOT NULL DEFAULT false,
    identity_provider_session_id varchar(40),
    expires_at timestamp
);
CREATE INDEX hydra_oauth2_authentication_session_sub_idx ON hydra_oauth2_authentication_session (subject, nid);

CREATE TABLE hydra_oauth2_flow (
    login_challenge varchar(40) PRIMARY KEY,
    nid uuid NOT NULL REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE,
    login_verifier varchar(40),
    subject varchar(255),
    client_id varchar(255),
    requested_at timestamp NOT NULL DEFAULT now(),
    login_session_id varchar(40) REFERENCES hydra_oauth2_authentication_session (id) ON DELETE SET NULL,
    state integer,
    login_error text,
    login_was_used boolean,
    consent_challenge_id varchar(40),
    consent_verifier varchar(40),
    consent_remember boolean,
    consent_remember_for integer,
    consent_handled_at timestamp,
    consent_error text,
    consent_was_used boolean,
    expires_at timestamp GENERATED ALWAYS AS (
        CASE WHEN consent_remember_for > 0 THEN requested_at + consent_remember_for * interval '1 s' END
    ) STORED,
    FOREIGN KEY (client_id, nid) REFERENCES hydra_client (id, nid) ON DELETE CASCADE
);
CREATE UNIQUE INDEX hydra_oauth2_flow_consent_challenge_idx ON hydra_oauth2_flow (consent_challenge_id);
CREATE INDEX hydra_oauth2_flow_login_session_id_idx ON hydra_oauth2_flow (login_session_id, nid);
CREATE INDEX hydra_oauth2_flow_client_id_subject_idx ON hydra_oauth2_flow (client_id, nid, subject);
CREATE INDEX hydra_oauth2_flow_sub_idx ON hydra_oauth2_flow (subject, nid);

CREATE TABLE hydra_oauth2_access (
    signature varchar(255) PRIMARY KEY,
    request_id varchar(40) NOT NULL,
    requested_at timestamp NOT NULL DEFAULT now(),
    client_id varchar(255) NOT NULL,
    scope text NOT NULL,
    granted_scope text NOT NULL,
    form_data text NOT NULL,
    session_data text NOT NULL,
    subject varchar(255) NOT NULL DEFAULT '',
    active boolean NOT NULL DEFAULT true,
    requested_audience text DEFAULT '',
    granted_audience text DEFAULT '',
    challenge_id varchar(40) REFERENCES hydra_oauth2_flow (consent_challenge_id) ON DELETE CASCADE,
    nid uuid NOT NULL REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE,
    expires_at timestamp,
    FOREIGN KEY (client_id, nid) REFERENCES hydra_client (id, nid) ON DELETE CASCADE
);
CREATE INDEX hydra_oauth2_access_challenge_id_idx ON hydra_oauth2_access (challenge_id);
CREATE INDEX hydra_oauth2_access_client_id_idx ON hydra_oauth2_access (client_id, nid);
CREATE INDEX hydra_oauth2_access_nid_subject_idx ON hydra_oauth2_access (nid, subject, client_id);
CREATE INDEX hydra_oauth2_access_request_id_idx ON hydra_oauth2_access (request_id, nid);
CREATE INDEX hydra_oauth2_access_requested_at_idx ON hydra_oauth2_access (requested_at, nid);

-- The other four hold a request in the same columns, with constraints of the same kind.
CREATE TABLE hydra_oauth2_refresh (LIKE hydra_oauth2_access INCLUDING DEFAULTS);
ALTER TABLE hydra_oauth2_refresh
    ADD PRIMARY KEY (signature),
    ADD COLUMN first_used_at timestamp,
    ADD COLUMN access_token_signature varchar(255) DEFAULT NULL,
    ADD COLUMN used_times integer;
CREATE INDEX hydra_oauth2_refresh_request_id_idx ON hydra_oauth2_refresh (request_id);
CREATE INDEX hydra_oauth2_refresh_nid_subject_idx ON hydra_oauth2_refresh (nid, subject, client_id);
CREATE INDEX hydra_oauth2_refresh_requested_at_idx ON hydra_oauth2_refresh (nid, requested_at);
CREATE TABLE hydra_oauth2_code (LIKE hydra_oauth2_access INCLUDING DEFAULTS);
ALTER TABLE hydra_oauth2_code ADD PRIMARY KEY (signature);
CREATE TABLE hydra_oauth2_oidc (LIKE hydra_oauth2_access INCLUDING DEFAULTS);
ALTER TABLE hydra_oauth2_oidc ADD PRIMARY KEY (signature);
CREATE TABLE hydra_oauth2_pkce (LIKE hydra_oauth2_access INCLUDING DEFAULTS);
ALTER TABLE hydra_oauth2_pkce ADD PRIMARY KEY (signature), ALTER COLUMN subject DROP DEFAULT;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['refresh', 'code', 'oidc', 'pkce'] LOOP
        EXECUTE format('ALTER TABLE hydra_oauth2_%s
            ADD FOREIGN KEY (challenge_id) REFERENCES hydra_oauth2_flow (consent_challenge_id) ON DELETE CASCADE,
            ADD FOREIGN KEY (client_id, nid) REFERENCES hydra_client (id, nid) ON DELETE CASCADE,
            ADD FOREIGN KEY (nid) REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE', name);
        EXECUTE format('CREATE INDEX hydra_oauth2_%s_client_id_idx ON hydra_oauth2_%s (client_id, nid)', name, name);
        EXECUTE format('CREATE INDEX hydra_oauth2_%s_challenge_id_idx ON hydra_oauth2_%s (challenge_id)', name, name);
    END LOOP;
END $$;

CREATE TABLE hydra_oauth2_device_auth_codes (
    device_code_signature varchar(255) NOT NULL,
    user_code_signature varchar(255) NOT NULL,
    request_id varchar(40) NOT NULL,
    requested_at timestamp NOT NULL DEFAULT now(),
    client_id varchar(255) NOT NULL,
    scope varchar(1024) NOT NULL,
    granted_scope varchar(1024) NOT NULL,
    form_data varchar(4096) NOT NULL,
    session_data text NOT NULL,
    subject varchar(255) NOT NULL DEFAULT '',
    device_code_active boolean NOT NULL DEFAULT true,
    user_code_state smallint NOT NULL DEFAULT 0,
    requested_audience varchar(1024) NOT NULL,
    granted_audience varchar(1024) NOT NULL,
    challenge_id varchar(40) REFERENCES hydra_oauth2_flow (consent_challenge_id) ON DELETE CASCADE,
    expires_at timestamp,
    nid uuid NOT NULL REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE,
    PRIMARY KEY (device_code_signature, nid),
    FOREIGN KEY (client_id, nid) REFERENCES hydra_client (id, nid) ON DELETE CASCADE
);
CREATE INDEX hydra_oauth2_device_auth_codes_request_id_idx ON hydra_oauth2_device_auth_codes (request_id, nid);
CREATE UNIQUE INDEX hydra_oauth2_device_auth_codes_user_code_signature_idx ON hydra_oauth2_device_auth_codes (nid, user_code_signature);

CREATE TABLE hydra_oauth2_jti_blacklist (
    signature varchar(64) NOT NULL,
    expires_at timestamp NOT NULL DEFAULT now(),
    nid uuid NOT NULL REFERENCES networks (id) ON UPDATE RESTRICT ON DELETE CASCADE,
    PRIMARY KEY (signature, nid)
);
CREATE INDEX hydra_oauth2_jti_blacklist_expires_at_idx ON hydra_oauth2_jti_blacklist (expires_at, nid);
