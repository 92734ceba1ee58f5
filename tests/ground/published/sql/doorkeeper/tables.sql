-- Doorkeeper 5.9 and 6.0: the facts are those of lib/generators/doorkeeper/templates/migration.rb.erb (create tables) and
-- enable_pkce_migration.rb.erb at github.com/doorkeeper-gem/doorkeeper, commit d0cd44a, as Rails 7 writes them for PostgreSQL: `datetime` is
-- timestamp(6) without a zone, written in UTC; `references` is bigint with an index. `users` is the site's own.

CREATE TABLE users (
    id bigserial PRIMARY KEY,
    email varchar NOT NULL
);

CREATE TABLE oauth_applications (
    id bigserial PRIMARY KEY,
    name varchar NOT NULL,
    uid varchar NOT NULL,
    secret varchar NOT NULL,
    redirect_uri text NOT NULL,
    scopes varchar NOT NULL DEFAULT '',
    confidential boolean NOT NULL DEFAULT true,
    created_at timestamp(6) NOT NULL,
    updated_at timestamp(6) NOT NULL
);
CREATE UNIQUE INDEX index_oauth_applications_on_uid ON oauth_applications (uid);

CREATE TABLE oauth_access_grants (
    id bigserial PRIMARY KEY,
    resource_owner_id bigint NOT NULL,
    application_id bigint NOT NULL REFERENCES oauth_applications (id),
    token varchar NOT NULL,
    expires_in integer NOT NULL,
    redirect_uri text NOT NULL,
    scopes varchar NOT NULL DEFAULT '',
    created_at timestamp(6) NOT NULL,
    revoked_at timestamp(6),
    access_token_id bigint,
    code_challenge varchar,
    code_challenge_method varchar
);
CREATE UNIQUE INDEX index_oauth_access_grants_on_token ON oauth_access_grants (token);
CREATE INDEX index_oauth_access_grants_on_resource_owner_id ON oauth_access_grants (resource_owner_id);
CREATE INDEX index_oauth_access_grants_on_application_id ON oauth_access_grants (application_id);
CREATE INDEX index_oauth_access_grants_on_access_token_id ON oauth_access_grants (access_token_id);

CREATE TABLE oauth_access_tokens (
    id bigserial PRIMARY KEY,
    resource_owner_id bigint,
    application_id bigint NOT NULL REFERENCES oauth_applications (id),
    token varchar NOT NULL,
    refresh_token varchar,
    expires_in integer,
    scopes varchar,
    created_at timestamp(6) NOT NULL,
    revoked_at timestamp(6),
    previous_refresh_token varchar NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX index_oauth_access_tokens_on_token ON oauth_access_tokens (token);
CREATE UNIQUE INDEX index_oauth_access_tokens_on_refresh_token ON oauth_access_tokens (refresh_token);
CREATE INDEX index_oauth_access_tokens_on_resource_owner_id ON oauth_access_tokens (resource_owner_id);
CREATE INDEX index_oauth_access_tokens_on_application_id ON oauth_access_tokens (application_id);
