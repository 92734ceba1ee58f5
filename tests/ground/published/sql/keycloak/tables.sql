-- Keycloak 26.5: the facts are those of model/jpa/src/main/resources/META-INF/jpa-changelog-*.xml at github.com/keycloak/keycloak, up to 26.5.0
-- (sessions: 1.6.1, 3.4.0, 4.0.0, 8.0.0, 25.0.0, 26.5.0; revoked tokens: 26.0.0; clients and realms: 1.0.0, and 13.0.0, which dropped the
-- foreign key between them). Of realm, client and user only the columns that identify, limit or refer. No table of sessions has a foreign
-- key. Every time of a session and every limit is whole seconds since 1970.

CREATE TABLE realm (
    id varchar(36) CONSTRAINT constraint_4a PRIMARY KEY,
    name varchar(255) CONSTRAINT uk_orvsdmla56612eaefiq6wl5oi UNIQUE,
    enabled boolean NOT NULL DEFAULT false,
    access_token_lifespan integer,
    sso_idle_timeout integer,
    sso_max_lifespan integer,
    offline_session_idle_timeout integer DEFAULT 0,
    remember_me boolean NOT NULL DEFAULT false,
    revoke_refresh_token boolean NOT NULL DEFAULT false,
    not_before integer
);

CREATE TABLE client (
    id varchar(36) CONSTRAINT constraint_7 PRIMARY KEY,
    enabled boolean NOT NULL DEFAULT false,
    client_id varchar(255),
    not_before integer,
    public_client boolean NOT NULL DEFAULT false,
    secret varchar(255),
    realm_id varchar(36),
    protocol varchar(255),
    name varchar(255),
    registration_token varchar(255),
    CONSTRAINT uk_b71cjlbenv945rb6gcon438at UNIQUE (realm_id, client_id)
);
CREATE INDEX idx_client_id ON client (client_id);

CREATE TABLE user_entity (
    id varchar(36) CONSTRAINT constraint_fb PRIMARY KEY,
    email varchar(255),
    enabled boolean NOT NULL DEFAULT false,
    federation_link varchar(255),
    realm_id varchar(255),
    username varchar(255),
    created_timestamp bigint,
    service_account_client_link varchar(255),
    not_before integer NOT NULL DEFAULT 0,
    CONSTRAINT uk_ru8tt6t700s9v50bu18ws5ha6 UNIQUE (realm_id, username)
);

CREATE TABLE federated_identity (
    identity_provider varchar(255) NOT NULL,
    realm_id varchar(36),
    federated_user_id varchar(255),
    federated_username varchar(255),
    token text,
    user_id varchar(36) NOT NULL CONSTRAINT fk404288b92ef007a6 REFERENCES user_entity (id),
    CONSTRAINT constraint_40 PRIMARY KEY (identity_provider, user_id)
);
CREATE INDEX idx_fedidentity_user ON federated_identity (user_id);

CREATE TABLE offline_user_session (
    user_session_id varchar(36) NOT NULL,
    user_id varchar(255) NOT NULL,
    realm_id varchar(36) NOT NULL,
    created_on integer NOT NULL,
    offline_flag varchar(4) NOT NULL,
    data text,
    last_session_refresh integer NOT NULL DEFAULT 0,
    broker_session_id varchar(1024),
    version integer DEFAULT 0,
    remember_me boolean,
    CONSTRAINT constraint_offl_us_ses_pk2 PRIMARY KEY (user_session_id, offline_flag)
);
CREATE INDEX idx_offline_uss_by_broker_session_id ON offline_user_session (broker_session_id, realm_id);
CREATE INDEX idx_offline_uss_by_last_session_refresh ON offline_user_session (realm_id, offline_flag, last_session_refresh);
CREATE INDEX idx_offline_uss_by_user ON offline_user_session (user_id, realm_id, offline_flag);
CREATE INDEX idx_user_session_expiration_created ON offline_user_session (realm_id, offline_flag, remember_me, created_on);
CREATE INDEX idx_user_session_expiration_last_refresh ON offline_user_session (realm_id, offline_flag, remember_me, last_session_refresh);

CREATE TABLE offline_client_session (
    user_session_id varchar(36) NOT NULL,
    client_id varchar(255) NOT NULL,
    offline_flag varchar(4) NOT NULL,
    "timestamp" integer,
    data text,
    client_storage_provider varchar(36) NOT NULL DEFAULT 'local',
    external_client_id varchar(255) NOT NULL DEFAULT 'local',
    version integer DEFAULT 0,
    CONSTRAINT constraint_offl_cl_ses_pk3
        PRIMARY KEY (user_session_id, client_id, client_storage_provider, external_client_id, offline_flag)
);
CREATE INDEX idx_offline_css_by_client ON offline_client_session (client_id, offline_flag) WHERE client_id <> 'external';
CREATE INDEX idx_offline_css_by_client_storage_provider ON offline_client_session (client_storage_provider, external_client_id, offline_flag)
    WHERE client_storage_provider <> 'internal';

CREATE TABLE revoked_token (
    id varchar(255) CONSTRAINT constraint_rt PRIMARY KEY,
    expire bigint NOT NULL
);
CREATE INDEX idx_rev_token_on_expire ON revoked_token (expire);
