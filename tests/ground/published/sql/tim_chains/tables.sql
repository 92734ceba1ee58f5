-- TIM 2.0 of October 2025: the facts are those of db/init.sql at github.com/Buerostack/TIM, commit bf4d0ca. A jwt_uuid is not unique. Every time
-- is a wall clock in UTC. The default of jwt_metadata.id is gen_random_uuid() there, which PostgreSQL 12 has not.

CREATE SCHEMA custom_jwt;
CREATE SCHEMA auth;

CREATE TABLE custom_jwt.denylist (
    jwt_uuid uuid PRIMARY KEY,
    created_at timestamp NOT NULL DEFAULT now(),
    denylisted_at timestamp NOT NULL DEFAULT now(),
    expires_at timestamp NOT NULL,
    reason text
);
CREATE INDEX idx_custom_jwt_denylist_exp ON custom_jwt.denylist (expires_at);

CREATE TABLE custom_jwt.jwt_metadata (
    id uuid PRIMARY KEY,
    jwt_uuid uuid NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    claim_keys text NOT NULL,
    issued_at timestamp NOT NULL,
    expires_at timestamp NOT NULL,
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

CREATE TABLE auth.denylist (LIKE custom_jwt.denylist INCLUDING ALL);

CREATE TABLE auth.jwt_metadata (
    jwt_uuid uuid PRIMARY KEY,
    created_at timestamp NOT NULL DEFAULT now(),
    claim_keys text NOT NULL,
    issued_at timestamp NOT NULL,
    expires_at timestamp NOT NULL
);

CREATE TABLE auth.oauth_state (
    state text PRIMARY KEY,
    created_at timestamp NOT NULL DEFAULT now(),
    pkce_verifier text
);
