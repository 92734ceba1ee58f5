"""Indexes that are out of order: found by amcheck, with the role's own privileges, and never said to be in order unread."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._health import integrity
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Reading
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.integration.watching import create_role, finding, look, run_script, statements_in, status_of

pytestmark = pytest.mark.any_driver

SYSTEM: dict[str, Any] = {"name": "shelf", "schemas": ["Odd %s"]}
# A comparison of a test's own: an index built by it is out of order as soon as it says something else, as with a collation.
SHELF = """
CREATE SCHEMA "Odd %s"; CREATE SCHEMA "Ext %s";
CREATE FUNCTION "Odd %s".compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($1, $2)';
CREATE OPERATOR CLASS "Odd %s".own_order FOR TYPE int USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 "Odd %s".compare(int, int);
CREATE TABLE "Odd %s"."T.""1" (id int PRIMARY KEY, x int, y text);
INSERT INTO "Odd %s"."T.""1" SELECT n, n, md5(n::text) FROM generate_series(1, 5000) AS n;
CREATE INDEX "I'd %s;" ON "Odd %s"."T.""1" (x "Odd %s".own_order); CREATE INDEX plain ON "Odd %s"."T.""1" (y);
CREATE INDEX hashed ON "Odd %s"."T.""1" USING hash (x);
CREATE TABLE "Odd %s".p (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE "Odd %s".p1 PARTITION OF "Odd %s".p FOR VALUES FROM (0) TO (9);
ANALYZE;
"""
TURNED = """CREATE OR REPLACE FUNCTION "Odd %s".compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)'"""
INTEGRITY = "integrity.amcheck"
BROKEN = "integrity.amcheck[Odd %s.I'd %s;]"


def seen(database: Database, **params: Any) -> dict[str, Any]:
    """Look at the order of the indexes."""
    return look(database, None, **{"system": SYSTEM, "checks": [INTEGRITY], **params})


def message(result: dict[str, Any]) -> str:
    """Return what the check says."""
    return str(next(each["message"] for each in result["checks"] if each["id"] == INTEGRITY))


def severities(result: dict[str, Any]) -> dict[str, str]:
    """Return the findings with their severity."""
    return {found["key"]: found["severity"] for found in result["findings"]}


@pytest.fixture(scope="module")
def shelves(installation: servers.Installation) -> Iterator[Cluster]:
    """A server with the extension."""
    with Cluster(servers.with_features(installation.major), settings={"autovacuum": "off"}) as own:
        yield own


@pytest.fixture
def shelf(shelves: Cluster) -> Iterator[Database]:
    """A few indexes in order."""
    with Database.create(shelves, "shelf") as made:
        run_script(made, SHELF)
        yield made


def test_the_extension_and_its_grant_are_told(shelf: Database) -> None:
    login = create_role(shelf.cluster, "shelf watch", "pg_monitor")
    result = seen(shelf, login=login)
    assert (status_of(result, INTEGRITY), result["findings"]) == ("skipped", [])
    assert "CREATE EXTENSION amcheck" in message(result)
    run_script(shelf, 'CREATE EXTENSION amcheck SCHEMA "Ext %s"')
    result = seen(shelf, login=login)
    assert severities(result) == {INTEGRITY: "unknown"}
    for grant in statements_in(finding(result, INTEGRITY)["action"]):
        run_script(shelf, grant)
    # Not the role's tables, and not one row of them.
    assert message(seen(shelf, login=login)) == "4 indexes are in order"
    assert status_of(seen(shelf, login=login, system={"name": "none", "schemas": ["none"]}), INTEGRITY) == "skipped"
    with shelf.connect() as session:
        session.execute('DROP OWNED BY "shelf watch"; DROP ROLE "shelf watch"')


def test_an_index_out_of_order_is_critical_and_the_others_are_looked_at(shelf: Database) -> None:
    run_script(shelf, f'CREATE EXTENSION amcheck; {TURNED}; CREATE INDEX after_it ON "Odd %s"."T.""1" (y, x)')
    result = seen(shelf)
    assert severities(result) == {BROKEN: "critical"}
    assert "invariant violated" in finding(result, BROKEN)["message"]
    assert 'REINDEX INDEX CONCURRENTLY "Odd %s"."I\'d %s;";' in finding(result, BROKEN)["action"]
    run_script(shelf, 'REINDEX INDEX "Odd %s"."I\'d %s;"')
    assert status_of(seen(shelf), INTEGRITY) == "ok"


def test_bytes_that_were_overwritten_are_critical(shelf: Database) -> None:
    run_script(shelf, "CREATE EXTENSION amcheck; CHECKPOINT")
    ((path,),) = shelf.query("""SELECT pg_relation_filepath('"Odd %s".plain')""")
    shelf.cluster.stop()
    with (shelf.cluster.data / path).open("r+b") as file:
        # The middle of the first leaf: keys and pointers, not the header.
        file.seek(8192 + 4096)
        file.write(b"\xff" * 2048)
    shelf.cluster.start()
    result = seen(shelf)
    assert severities(result) == {"integrity.amcheck[Odd %s.plain]": "critical"}
    assert finding(result, "integrity.amcheck[Odd %s.plain]")["sqlstate"][:2] == "XX"


def test_a_page_that_is_no_page_is_critical(shelf: Database) -> None:
    run_script(shelf, "CREATE EXTENSION amcheck; CHECKPOINT")
    ((path,),) = shelf.query("""SELECT pg_relation_filepath('"Odd %s"."T.""1_pkey"')""")
    shelf.cluster.stop()
    with (shelf.cluster.data / path).open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 8192)
    shelf.cluster.start()
    assert severities(seen(shelf)) == {'integrity.amcheck[Odd %s."T.""1_pkey"]': "critical"}


def test_a_lock_on_one_table_leaves_the_others(shelf: Database) -> None:
    run_script(shelf, f"CREATE EXTENSION amcheck; {TURNED}")
    run_script(shelf, 'CREATE TABLE "Odd %s".other (id int PRIMARY KEY)')
    with shelf.connect() as holder:
        holder.execute('BEGIN; LOCK TABLE "Odd %s".other IN ACCESS EXCLUSIVE MODE')
        result = seen(shelf)
    assert severities(result) == {BROKEN: "critical", "integrity.amcheck[Odd %s.other_pkey]": "unknown"}
    assert "exclusive lock" in finding(result, "integrity.amcheck[Odd %s.other_pkey]")["action"]


def test_an_index_that_is_dropped_meanwhile_is_no_corruption(shelf: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run_script(shelf, "CREATE EXTENSION amcheck")
    check = integrity._within_budget

    def dropping(*arguments: Any) -> list[Reading]:
        run_script(shelf, 'DROP INDEX "Odd %s".plain')
        return check(*arguments)

    monkeypatch.setattr(integrity, "_within_budget", dropping)
    result = seen(shelf)
    assert (status_of(result, INTEGRITY), result["findings"]) == ("ok", [])


def test_writers_do_not_wait(shelf: Database) -> None:
    run_script(shelf, "CREATE EXTENSION amcheck")
    with shelf.connect() as writer:
        writer.execute("""BEGIN; INSERT INTO "Odd %s"."T.""1" VALUES (0, 0, 'open')""")
        assert status_of(seen(shelf), INTEGRITY) == "ok"


def test_what_was_not_reached_in_time_is_unknown(shelf: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run_script(shelf, "CREATE EXTENSION amcheck")
    monkeypatch.setattr(integrity, "BUDGET_SECONDS", 0.0)
    result = seen(shelf)
    assert severities(result) == {INTEGRITY: "unknown"}
    assert "4 indexes of 4 were not reached" in message(result)


def test_an_index_that_takes_too_long_is_unknown(shelf: Database) -> None:
    slow = """CREATE OR REPLACE FUNCTION "Odd %s".compare(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
              'BEGIN PERFORM pg_sleep(0.1); RETURN btint4cmp($1, $2); END'"""
    run_script(shelf, f"CREATE EXTENSION amcheck; {slow}")
    result = seen(shelf, check_timeout="5 s")
    assert severities(result) == {BROKEN: "unknown"}
    assert "check_timeout" in finding(result, BROKEN)["action"]


def test_on_a_standby(shelf: Database) -> None:
    run_script(shelf, f'CREATE EXTENSION amcheck; CREATE UNLOGGED TABLE "Odd %s".fleeting (id int PRIMARY KEY); {TURNED}')
    try:
        replica = shelf.cluster.standby()
    except (ProgramMissing, subprocess.SubprocessError) as reason:
        pytest.skip(str(reason))
    shelf.cluster.wait_for(replica)
    assert severities(seen(shelf, cluster=replica)) == {BROKEN: "critical"}
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), replica.connect("shelf") as session:
        session.execute("CREATE TABLE never (id int)")
