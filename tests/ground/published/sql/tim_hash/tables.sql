-- TIM 2.0 as its handbook has it: the facts are those of docs/database/04-operations.md at github.com/Buerostack/TIM, commit 5c2f642. Tokens are
-- known by their hash, and nothing makes a hash unique, neither among the tokens nor on the deny list, which denies whole subjects as well.

CREATE SCHEMA custom;
CREATE SCHEMA tara;

CREATE TABLE custom.jwt_metadata (
    id bigserial PRIMARY KEY,
    jwt_name varchar(128) NOT NULL,
    subject varchar(256),
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    audience varchar(256),
    issuer varchar(256),
    claims_json jsonb NOT NULL,
    token_hash varchar(128)
);
CREATE INDEX idx_custom_jwt_metadata_expires_at ON custom.jwt_metadata (expires_at);
CREATE INDEX idx_custom_jwt_metadata_subject ON custom.jwt_metadata (subject);
CREATE INDEX idx_custom_jwt_metadata_jwt_name ON custom.jwt_metadata (jwt_name);

CREATE TABLE custom.denylist (
    id bigserial PRIMARY KEY,
    token_hash varchar(128),
    subject varchar(256),
    reason varchar(512),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_custom_denylist_token_hash ON custom.denylist (token_hash);
CREATE INDEX idx_custom_denylist_subject ON custom.denylist (subject);

CREATE TABLE custom.allowlist (
    id bigserial PRIMARY KEY,
    token_hash varchar(128),
    subject varchar(256),
    reason varchar(512),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tara.jwt_metadata (LIKE custom.jwt_metadata INCLUDING ALL);
CREATE TABLE tara.denylist (LIKE custom.denylist INCLUDING ALL);
CREATE TABLE tara.allowlist (LIKE custom.allowlist INCLUDING ALL);

CREATE TABLE tara.oauth_state (
    state varchar(128) PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    nonce varchar(128),
    redirect_uri varchar(512)
);
CREATE INDEX idx_tara_oauth_state_expires_at ON tara.oauth_state (expires_at);
