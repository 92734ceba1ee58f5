"""Whatever a copy lacks, has otherwise or has too much is found, and the sentence names the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import hard_content as hard

pytestmark = pytest.mark.any_driver

# What is done to the copy, and what must be said about it.
ROWS = [
    ("DELETE FROM app.types WHERE id = 3", "app.types: 1 row missing (4 instead of 5)"),
    ("INSERT INTO app.scratch VALUES (3)", "app.scratch: 1 row too many (4 instead of 3)"),
    ("UPDATE app.events SET kind = 'X' WHERE id = 1", "app.events_2024: 1 row as expected, but what is in them differs"),
    ("UPDATE ONLY app.animal SET name = NULL", "app.animal: 1 row as expected, but what is in them differs"),
    # One value exchanged between two rows, and one value that a folding hash takes for the other.
    (
        "UPDATE app.swapped SET b = 3 - b WHERE a < 3",
        "app.swapped: 3 rows as expected, but what is in them differs",
    ),
    ("UPDATE app.folded SET a = 4294967296", "app.folded: 1 row as expected, but what is in them differs"),
    ("SELECT setval('app.set_back', 41, false)", "sequence app.set_back is behind: it would give 41 next instead of 42"),
    ("SELECT setval('app.counter', 100, true)", "sequence app.counter is behind: it would give 95 next instead of 85"),
    ("SELECT lo_put(5001, 0, 'x')", "large objects: 3 as expected, but what is in them differs"),
]
OBJECTS = [
    ("DROP INDEX app.tokens_expires_idx", "app.tokens: index tokens_expires_idx is missing"),
    ("DROP TRIGGER tokens_noted ON app.tokens", "app.tokens: trigger tokens_noted is missing"),
    ("ALTER TABLE app.tokens ENABLE TRIGGER tokens_off", "app.tokens: trigger tokens_off is plain instead of disabled"),
    ("REVOKE INSERT ON app.tokens FROM content_reader", "app.tokens: grant INSERT to content_reader is missing"),
    (
        "REVOKE UPDATE (price) ON app.tokens FROM content_reader",
        "app.tokens: grant UPDATE on column price to content_reader is missing",
    ),
    ("GRANT TRUNCATE ON app.tokens TO postgres", "app.tokens: grant TRUNCATE revoked from postgres is missing"),
    ("DROP POLICY tokens_strict ON app.tokens", "app.tokens: policy tokens_strict is missing"),
    ("ALTER POLICY tokens_own ON app.tokens USING (subject = current_user)", "app.tokens: policy tokens_own is defined differently"),
    ("ALTER TABLE app.tokens NO FORCE ROW LEVEL SECURITY", "app.tokens: row-level security is enabled instead of forced"),
    ("ALTER TABLE app.tokens DROP CONSTRAINT sane", "app.tokens: constraint sane is missing"),
    ("ALTER TABLE app.tokens ALTER COLUMN state DROP DEFAULT", "app.tokens: column state is defined differently"),
    ("ALTER TABLE app.booked ALTER COLUMN room TYPE int8range USING NULL", "app.booked: column room is int8range instead of int4range"),
    ("DROP RULE tokens_rule ON app.tokens", "app.tokens: rule tokens_rule is missing"),
    ("DROP STATISTICS app.tokens_stat", "app.tokens: statistics object app.tokens_stat is missing"),
    ("COMMENT ON COLUMN app.tokens.subject IS NULL", "app.tokens: comment column subject is missing"),
    ("ALTER TABLE app.empty OWNER TO postgres", "app.empty: owner is postgres instead of content_owner"),
    ("ALTER TABLE app.empty ADD COLUMN more int", "app.empty: column more is there and not in the backup"),
    ("ALTER TABLE app.events DETACH PARTITION app.events_2024", "app.events: partition app.events_2024 is missing"),
    ("ALTER TABLE app.duck NO INHERIT app.swimmer", "app.duck: parent app.swimmer is missing"),
    ("DROP VIEW app.updatable", "app.updatable: the view is missing"),
    ("CREATE TABLE app.stranger (id int)", "app.stranger: the table is there and not in the backup"),
    ("DROP MATERIALIZED VIEW app.unfilled", "app.unfilled: the materialized view is missing"),
    (
        "CREATE OR REPLACE FUNCTION app.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "function app.noted() is defined differently",
    ),
    ("DROP SEQUENCE app.fresh", "app.fresh: the sequence is missing"),
    ("DROP EVENT TRIGGER content_ddl", "event trigger content_ddl is missing"),
    ("ALTER PUBLICATION content_pub DROP TABLE app.animal", "app.animal: publication content_pub is missing"),
    ("ALTER TYPE app.mood RENAME VALUE 'happy' TO 'glad'", "type app.mood is defined differently"),
    ("ALTER DOMAIN app.email DROP CONSTRAINT short", "type app.email is defined differently"),
    ("DROP TEXT SEARCH CONFIGURATION app.words", "text search configuration app.words is missing"),
    ("DROP OPERATOR app.=== (int, int)", "operator app.===(integer,integer) is missing"),
    ("DROP CAST (app.mood AS int)", "cast from app.mood to integer is missing"),
    ("COMMENT ON SCHEMA app IS 'another'", "comment schema app is another instead of of the application"),
    (
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) TO PUBLIC",
        "grant function pg_catalog.pg_sleep(double precision) EXECUTE revoked from PUBLIC is missing",
    ),
    ("REVOKE USAGE ON SCHEMA app FROM content_reader", "grant schema app USAGE to content_reader is missing"),
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE SELECT ON TABLES FROM content_reader",
        "grant default for postgres in schema app on tables SELECT to content_reader is missing",
    ),
    ("REVOKE SELECT ON LARGE OBJECT 5001 FROM content_reader", "grant large objects SELECT to content_reader is missing"),
    ("DROP USER MAPPING FOR content_reader SERVER content_server", "user mapping content_server for content_reader is missing"),
    ("ALTER SERVER content_server OPTIONS (SET host 'x')", "foreign server content_server is defined differently"),
    ("DROP TABLE app.without_columns", "app.without_columns: the table is missing"),
    ("CREATE SCHEMA another", "schema another is there and not in the backup"),
]
# What comes with it.
ALSO = {
    "app.events_2024: index events_2024_pkey is unique instead of unique, part of events_pkey",
    "app.events_2024: index events_2024_kind_idx is plain instead of part of events_kind",
    "app.events_2024: trigger events_noted is missing",
    "app.empty_id_seq: owner is postgres instead of content_owner",
    "comment domain constraint short on app.email is missing",
    "app.duck: publication content_pub is missing",
}


@pytest.fixture(scope="module")
def both(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Measured, Database]]:
    with Database.create(cluster, "content_before") as source:
        hard.fill(source)
        with source.connect() as connection:
            connection.execute("CREATE TABLE app.swapped AS SELECT g AS a, g AS b FROM generate_series(1, 3) g")
            connection.execute("CREATE TABLE app.folded AS SELECT 1::bigint AS a")
        file = hard.dump(source, tmp_path_factory.mktemp("content") / "before.dump")
        with hard.restore(file, cluster, "content_after") as after:
            yield hard.measured(source), after


def said(found: list[Difference]) -> list[str]:
    return [one.message for one in found]


def test_every_difference_is_named(both: tuple[Measured, Database]) -> None:
    expected, after = both
    assert said(hard.differences(expected, after)) == []
    with after.connect() as connection:
        for statement, _message in ROWS + OBJECTS:
            connection.execute(statement)
    found = said(hard.differences(expected, after))
    wanted = [message for _statement, message in ROWS + OBJECTS]
    assert [message for message in wanted if message not in found] == []
    # Nothing that was not touched is blamed.
    assert [message for message in found if message not in wanted and message not in ALSO] == []
