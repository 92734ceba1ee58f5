-- TIM of 2021 to 2023: the facts are those of src/main/resources/changelog/*.xml at github.com/buerokratt/TIM, commit 6f14853. Written by the
-- application's LocalDateTime; these servers run in UTC.

CREATE SCHEMA jwt_blacklist;
CREATE SCHEMA pwa;

CREATE TABLE jwt_blacklist.jwt_token (
    jwt_uuid uuid PRIMARY KEY,
    expiration_date timestamp NOT NULL,
    issued_date timestamp NOT NULL,
    is_blacklisted boolean DEFAULT false,
    blacklisted_date timestamp
);

CREATE TABLE jwt_blacklist.custom_jwt_token (
    jwt_uuid uuid PRIMARY KEY,
    custom_claim_keys text NOT NULL,
    expiration_date timestamp NOT NULL,
    issued_date timestamp NOT NULL,
    is_blacklisted boolean DEFAULT false,
    blacklisted_date timestamp
);

CREATE TABLE pwa.sessions (
    session_uuid uuid PRIMARY KEY,
    personal_code text,
    valid_from timestamp,
    valid_to timestamp,
    given_name text,
    surname text,
    channel text,
    ip text,
    params text,
    rights text,
    roles text,
    created timestamp,
    last_modified timestamp,
    username text,
    browser text,
    loginlevel text,
    xtee_asutus text,
    mobile_number text,
    certificate_type text
);
