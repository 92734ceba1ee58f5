-- TIM in Rust: the facts are those of migrations/0001_init.sql and 0002_session_store.sql at github.com/turnerrainer/TIM, commits d4c27c3 and
-- fefea2c. As TIM 2.0, with times that know their zone and sessions of its own. The default of jwt_metadata.id is uuid_generate_v4() there, of an
-- extension.

CREATE SCHEMA custom_jwt;
CREATE SCHEMA auth;

CREATE TABLE custom_jwt.jwt_metadata (
    id uuid PRIMARY KEY,
    jwt_uuid uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    claim_keys text NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    subject text,
    jwt_name text,
    audience text,
    issuer text,
    supersedes uuid,
    original_jwt_uuid uuid NOT NULL
);
CREATE INDEX idx_custom_jwt_metadata_subject ON custom_jwt.jwt_metadata (subject);
CREATE INDEX idx_custom_jwt_metadata_issued ON custom_jwt.jwt_metadata (issued_at);
CREATE INDEX idx_custom_jwt_metadata_jwt_uuid ON custom_jwt.jwt_metadata (jwt_uuid, created_at DESC);
CREATE INDEX idx_custom_jwt_metadata_original ON custom_jwt.jwt_metadata (original_jwt_uuid);

CREATE TABLE custom_jwt.denylist (
    jwt_uuid uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    denylisted_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    reason text
);
CREATE INDEX idx_custom_jwt_denylist_exp ON custom_jwt.denylist (expires_at);

CREATE TABLE auth.oauth_state (
    state text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    provider_id text NOT NULL,
    nonce text NOT NULL,
    pkce_verifier text,
    redirect_uri text
);
CREATE INDEX idx_auth_oauth_state_created ON auth.oauth_state (created_at);

CREATE TABLE auth.session (
    id text PRIMARY KEY,
    provider_id text NOT NULL,
    user_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_activity timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    profile_encrypted bytea NOT NULL
);
CREATE INDEX idx_auth_session_expires ON auth.session (expires_at);
CREATE INDEX idx_auth_session_user ON auth.session (user_id, provider_id);
