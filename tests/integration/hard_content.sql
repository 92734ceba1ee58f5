-- Everything that is hard to dump and restore, for every supported major.
CREATE SCHEMA app;
CREATE SCHEMA "Odd. ""Schema""";
COMMENT ON SCHEMA app IS 'of the application';
GRANT USAGE ON SCHEMA app TO content_reader;
CREATE TYPE app.mood AS ENUM ('sad', 'it''s ok', 'happy');
ALTER TYPE app.mood ADD VALUE 'so so' BEFORE 'happy';
-- commit: a value can be used only then
CREATE TYPE app.pair AS (x int, y app.mood, z text COLLATE "C");
CREATE DOMAIN app.email AS varchar(100) DEFAULT 'a@b' CHECK (VALUE ~ '@') CONSTRAINT short CHECK (length(VALUE) < 90 AND VALUE <> 'x');
CREATE DOMAIN app.positive AS int NOT NULL CHECK (VALUE > 0);
CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE FUNCTION app.twice(n int, by_default text DEFAULT 'x'::varchar) RETURNS int LANGUAGE sql IMMUTABLE SET search_path = app, pg_temp AS 'SELECT n * 2';
CREATE FUNCTION app.noted() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END $f$;
CREATE PROCEDURE app.work(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
CREATE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
REVOKE EXECUTE ON FUNCTION app.twice(int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.twice(int, text) TO content_reader WITH GRANT OPTION;
CREATE OPERATOR app.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE CAST (app.mood AS int) WITH INOUT;
CREATE COLLATION app.posix FROM "C";
CREATE TEXT SEARCH DICTIONARY app.plain (TEMPLATE = simple, Accept = false);
CREATE TEXT SEARCH CONFIGURATION app.words (COPY = simple);
CREATE TABLE app.types (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, small smallint, number numeric, money money, real_ real, double double precision,
    bits bit varying(9), flag boolean, char_ char(5), text_ text COLLATE "C", name_ name, bytes bytea, uuid_ uuid, day date, moment timestamp, instant timestamptz,
    clock time, clock_zone timetz, gap interval, doc json, docb jsonb, xml_ text, addr inet, net cidr, mac macaddr, spot point, shape polygon,
    words tsvector, query tsquery, mood app.mood, moods app.mood[], pair app.pair, pairs app.pair[], mail app.email, mails app.email[],
    whole int4range, spans app.span, matrix int[][], odd_bounds int[], texts text[], relation regclass, kind regtype, doubled int GENERATED ALWAYS AS (app.twice(small)) STORED,
    gone text, lsn pg_lsn, path_ jsonpath, "char" "char", acl aclitem[]);
ALTER TABLE app.types DROP COLUMN gone;
ALTER TABLE app.types ALTER COLUMN text_ SET STORAGE EXTERNAL, ALTER COLUMN number SET STATISTICS 77, ALTER COLUMN small SET (n_distinct = 5);
INSERT INTO app.types (small, number, money, real_, double, bits, flag, char_, text_, name_, bytes, uuid_, day, moment, instant, clock, clock_zone, gap,
        doc, docb, addr, net, mac, spot, shape, words, query, mood, moods, pair, pairs, mail, mails, whole, spans, matrix, odd_bounds, texts, relation, kind, lsn, path_, "char", acl)
VALUES (1, 1.10, 3.5, 0.1, 1e-300, '101', true, 'ab', E'tab\t nl\n \\ quote'' "', 'n', '\x00ff', '00000000-0000-0000-0000-000000000001', '0044-03-15 BC', 'infinity', '-infinity',
        '24:00', '12:00+05:30', '1 mon -3 days 04:05:06.7', '{"a" : 1}', '{"b": [1, null, 1.00], "a": "\u00e4"}', '::1/128', '10.0.0.0/8', '08:00:2b:01:02:03', '(1.5,NaN)', '((0,0),(1,1),(2,0))',
        'a:1A fat:2', 'a & !b', 'so so', '{sad,NULL}', '(1,happy,"a,""b")', ARRAY['(2,sad,)'::app.pair, NULL], 'x@y', '{q@w}', '[1,5)', '(-Infinity,0.1]',
        '{{1,2},{3,4}}', '[5:7]={1,2,3}', '{"a,b",NULL,"NULL",""}', 'app.types', 'app.mood', '16/B374D848', '$.a[*]', 'x', '{postgres=r/postgres}'),
    (2, 'NaN', -1, 'NaN', '-Infinity', '', false, '', '', '', '', NULL, 'infinity', '4713-01-01 BC', '294276-12-31 23:59:59+00', '00:00', '00:00-15:59', '-178000000 years',
        'null', 'null', NULL, NULL, NULL, NULL, NULL, '', '', NULL, '{}', '(,,)', '{}', NULL, '{}', 'empty', 'empty', '{}', '{}', '{}', NULL, NULL, '0/0', '$', '', '{}'),
    (3, 1.1, 0, '-0', 'Infinity'::float8 - 'Infinity'::float8, NULL, NULL, NULL, repeat('long', 5000), NULL, decode(repeat('ab', 9000), 'hex'), NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO app.types (small) VALUES (NULL), (NULL);
CREATE TABLE app.empty (id serial, at timestamptz DEFAULT now());
CREATE TABLE app.without_columns ();
INSERT INTO app.without_columns DEFAULT VALUES;
INSERT INTO app.without_columns DEFAULT VALUES;
CREATE TABLE "Odd. ""Schema"""."Tab.le ""x"" %s
{ä}" ("Col. ""y"" %d {z}" int PRIMARY KEY, "user" text, "ünï" int);
INSERT INTO "Odd. ""Schema"""."Tab.le ""x"" %s
{ä}" VALUES (1, 'x', 2);
CREATE INDEX "In.dex ""q""
%I" ON "Odd. ""Schema"""."Tab.le ""x"" %s
{ä}" ("user");
COMMENT ON TABLE "Odd. ""Schema"""."Tab.le ""x"" %s
{ä}" IS 'odd '' "';
GRANT SELECT ("ünï") ON "Odd. ""Schema"""."Tab.le ""x"" %s
{ä}" TO "Content ""Odd"" Role";
CREATE TABLE app.tokens (id int PRIMARY KEY, subject varchar(40) NOT NULL, state varchar(10) DEFAULT 'new'::varchar, expires_at timestamptz, price numeric,
    noted timestamptz, parent int REFERENCES app.tokens ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT state_known CHECK (state IN ('new', 'used', 'gone')), CONSTRAINT sane CHECK (price BETWEEN 0 AND 100 AND id > 0 OR subject = 'x'),
    UNIQUE (subject, expires_at)) WITH (fillfactor = 80, autovacuum_enabled = off);
INSERT INTO app.tokens (id, subject, price) SELECT g, 'user ' || g, g % 7 FROM generate_series(1, 500) g;
-- commit: triggers are pending
ALTER TABLE app.tokens ADD CONSTRAINT later CHECK (price <> 5) NOT VALID;
CREATE INDEX tokens_expires_idx ON app.tokens (expires_at DESC NULLS LAST, lower(subject)) WHERE state IN ('new', 'used') AND price IS NOT NULL;
ALTER TABLE app.tokens CLUSTER ON tokens_pkey;
CREATE STATISTICS app.tokens_stat (dependencies) ON subject, state FROM app.tokens;
CREATE TRIGGER tokens_noted BEFORE INSERT OR UPDATE OF state ON app.tokens FOR EACH ROW WHEN (NEW.state::text <> 'gone') EXECUTE FUNCTION app.noted();
CREATE TRIGGER tokens_off BEFORE DELETE ON app.tokens FOR EACH ROW EXECUTE FUNCTION app.noted();
ALTER TABLE app.tokens DISABLE TRIGGER tokens_off;
CREATE CONSTRAINT TRIGGER tokens_late AFTER INSERT ON app.tokens DEFERRABLE FOR EACH ROW EXECUTE FUNCTION app.noted();
CREATE RULE tokens_rule AS ON DELETE TO app.tokens WHERE OLD.state IN ('new', 'used') DO INSTEAD NOTHING;
ALTER TABLE app.tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tokens_own ON app.tokens FOR SELECT TO content_reader, PUBLIC USING (subject = current_user AND (price > 1 AND price < 3) AND state IN ('new', 'used'));
CREATE POLICY tokens_strict ON app.tokens AS RESTRICTIVE FOR ALL WITH CHECK (id > 0);
GRANT SELECT, INSERT ON app.tokens TO content_reader;
GRANT UPDATE (state, price) ON app.tokens TO content_reader WITH GRANT OPTION;
REVOKE TRUNCATE ON app.tokens FROM postgres;
COMMENT ON TABLE app.tokens IS 'tokens';
COMMENT ON COLUMN app.tokens.subject IS 'who';
COMMENT ON INDEX app.tokens_expires_idx IS 'for cleaning';
COMMENT ON CONSTRAINT sane ON app.tokens IS 'sane';
COMMENT ON TRIGGER tokens_noted ON app.tokens IS 'note';
COMMENT ON POLICY tokens_own ON app.tokens IS 'own';
COMMENT ON CONSTRAINT short ON DOMAIN app.email IS 'short';
COMMENT ON FUNCTION app.twice(int, text) IS 'twice';
ALTER TABLE app.empty OWNER TO content_owner;
CREATE TABLE app.events (id bigint NOT NULL, at timestamptz NOT NULL, kind text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE app.events_2024 PARTITION OF app.events FOR VALUES FROM ('2024-01-01 00:00+02') TO ('2025-01-01 00:00+02');
CREATE TABLE "Odd. ""Schema""".events_2025 (kind text, at timestamptz NOT NULL, dropped int, id bigint NOT NULL);
ALTER TABLE "Odd. ""Schema""".events_2025 DROP COLUMN dropped;
ALTER TABLE app.events ATTACH PARTITION "Odd. ""Schema""".events_2025 FOR VALUES FROM ('2025-01-01 00:00+02') TO ('2026-01-01 00:00+02');
CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT PARTITION BY LIST (id);
CREATE TABLE app.events_rest_a PARTITION OF app.events_rest FOR VALUES IN (3, 4);
CREATE INDEX events_kind ON app.events (kind);
CREATE TRIGGER events_noted AFTER INSERT ON app.events FOR EACH ROW EXECUTE FUNCTION app.noted();
INSERT INTO app.events VALUES (1, '2024-05-01', 'x'), (2, '2025-05-01', 'y'), (3, '2020-01-01', 'a'), (4, '2020-01-01', NULL);
CREATE TABLE app.refers (id int, event bigint, at timestamptz, FOREIGN KEY (event, at) REFERENCES app.events);
CREATE TABLE app.hashed (id int) PARTITION BY HASH (id);
CREATE TABLE app.hashed_0 PARTITION OF app.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.hashed_1 PARTITION OF app.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO app.hashed SELECT generate_series(1, 50);
CREATE TABLE app.animal (id int NOT NULL, name text CHECK (name <> ''));
CREATE TABLE app.swimmer (depth int);
CREATE TABLE app.duck (wings int, CHECK (wings > 0)) INHERITS (app.animal, app.swimmer);
ALTER TABLE app.animal ADD COLUMN later text DEFAULT 'later';
ALTER TABLE app.duck ALTER COLUMN name SET DEFAULT 'duck';
INSERT INTO app.animal VALUES (1, 'cat'); INSERT INTO app.duck VALUES (2, 'donald', 3, 2, 'x');
CREATE TABLE app.booked (room int4range, during tstzrange, EXCLUDE USING gist (room WITH &&, during WITH &&) WHERE (NOT isempty(room)));
CREATE UNLOGGED TABLE app.scratch (id int); INSERT INTO app.scratch VALUES (1), (1), (2);
CREATE SEQUENCE app.counter INCREMENT -5 MINVALUE -1000 MAXVALUE 1000 START 100 CACHE 3 CYCLE; SELECT nextval('app.counter'), nextval('app.counter');
CREATE SEQUENCE app.fresh START 7;
CREATE SEQUENCE app.set_back; SELECT setval('app.set_back', 42, false);
CREATE VIEW app.active WITH (security_barrier) AS SELECT t.id, t.subject, t.state::text AS st FROM app.tokens t LEFT JOIN app.events e USING (id)
    WHERE t.state IN ('new', 'used') AND (t.price BETWEEN 1 AND 5 AND t.id > 0) OR t.subject LIKE 'a%';
CREATE VIEW app.upon AS SELECT *, row_number() OVER (PARTITION BY st ORDER BY id) AS n, ARRAY(SELECT 1) AS a, CASE WHEN st IN ('a', 'b') THEN 1 ELSE 2 END AS c
    FROM app.active WHERE EXISTS (SELECT FROM app.types WHERE types.id = active.id);
CREATE VIEW app.updatable AS SELECT id, subject FROM app.tokens WHERE id > 5 WITH LOCAL CHECK OPTION;
CREATE TRIGGER upon_instead INSTEAD OF INSERT ON app.upon FOR EACH ROW EXECUTE FUNCTION app.noted();
CREATE VIEW app.grouped AS SELECT id, subject, count(*) AS n FROM app.tokens GROUP BY id HAVING count(*) > 0 AND (sum(price) > 1 OR max(id) > 2);
CREATE VIEW app.circle AS SELECT 1 AS id;
CREATE FUNCTION app.of_circle() RETURNS SETOF app.circle LANGUAGE sql AS 'SELECT * FROM app.circle';
CREATE OR REPLACE VIEW app.circle AS SELECT id FROM app.tokens WHERE (SELECT count(*) FROM app.of_circle()) >= 0;
CREATE MATERIALIZED VIEW app.summary AS SELECT state, count(*) AS n FROM app.tokens GROUP BY state;
CREATE UNIQUE INDEX summary_state ON app.summary (state);
CREATE MATERIALIZED VIEW app.unfilled AS SELECT 1 AS x WITH NO DATA;
GRANT SELECT ON app.active TO content_reader;
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER content_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION app.on_ddl();
ALTER EVENT TRIGGER content_ddl DISABLE;
CREATE PUBLICATION content_pub FOR TABLE app.animal, app.empty WITH (publish = 'insert');
CREATE FOREIGN DATA WRAPPER content_fdw;
CREATE SERVER content_server FOREIGN DATA WRAPPER content_fdw OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR content_reader SERVER content_server OPTIONS (password 'secret');
CREATE FOREIGN TABLE app.far (id int OPTIONS (a 'b') NOT NULL) SERVER content_server OPTIONS (c 'd');
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO content_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE content_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO content_reader;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
SELECT lo_from_bytea(5001, decode(repeat('0102', 3000), 'hex')), lo_from_bytea(5002, ''), lo_create(5003);
SELECT lo_put(5003, 9000, 'end'), lo_put(5003, 100, '\x0000');
GRANT SELECT ON LARGE OBJECT 5001 TO content_reader;
COMMENT ON LARGE OBJECT 5001 IS 'large';
