"""No token comes back to life by a restore unless somebody has said that it may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore.missing_rows import copy_missing_rows
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import Outcome, Request
from ansible_collections.pgops.runbook.plugins.module_utils._restore.table_replace import replace_tables
from ansible_collections.pgops.runbook.plugins.module_utils._restore.tokens_back import read_stores, require_none_back, tokens_back
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.dumping import archive, backup
from tests.integration.watching import run_script

pytestmark = pytest.mark.usefixtures("_one_driver")

TIMES = {"issued_at": "issued_at", "expires_at": "expires_at"}
STORES: list[dict[str, Any]] = [
    {
        "name": "jwt",
        "tokens": {"table": "app.jwt", "id": "id", **TIMES},
        "revoke": {"how": "denylist", "table": "app.denied", "id": "id", "expires_at": "expires_at"},
    },
    {"name": "stamped", "tokens": {"table": "app.stamped", "id": "id", **TIMES}, "revoke": {"how": "timestamp", "column": "revoked_at"}},
    {"name": "flagged", "tokens": {"table": "app.flagged", "id": "id", **TIMES}, "revoke": {"how": "flag", "column": "revoked"}},
    {
        "name": "sessions",
        "tokens": {"table": "app.sessions", "id": "id", "subject": "person", **TIMES},
        "revoke": {"how": "delete"},
        "not_before": [{"table": "app.people", "by": "subject", "id": "id", "column": "not_before"}],
    },
]
COLUMNS = "id {} PRIMARY KEY, issued_at timestamptz, expires_at timestamptz"
# Each store has 20 tokens, numbers 16 to 20 of which have expired; 1 and 2 are revoked already.
TABLES = f"""
CREATE SCHEMA app;
CREATE TABLE app.jwt ({COLUMNS.format("uuid")}, note text);
CREATE TABLE app.denied (id text PRIMARY KEY, expires_at timestamptz, why text);
CREATE TABLE app.stamped ({COLUMNS.format("int")}, revoked_at timestamptz);
CREATE TABLE app.flagged ({COLUMNS.format("text")}, revoked boolean);
CREATE TABLE app.people (id int PRIMARY KEY, not_before timestamptz);
CREATE TABLE app.sessions ({COLUMNS.format("bigint")}, person int);
CREATE TEMP TABLE n AS
  SELECT n, now() - interval '1 h' AS i, now() + CASE WHEN n > 15 THEN interval '-20 min' ELSE interval '1 h' END AS e
  FROM generate_series(1, 20) AS n;
INSERT INTO app.jwt SELECT lpad(n::text, 32, '0')::uuid, i, e, E'a\\tb\\\\' FROM n;
INSERT INTO app.denied SELECT upper(id::text), expires_at FROM app.jwt LIMIT 2;
INSERT INTO app.stamped SELECT n, i, e, CASE WHEN n < 3 THEN now() END FROM n;
INSERT INTO app.flagged SELECT E'id \\t' || n, i, e, n < 3 FROM n;
INSERT INTO app.people SELECT n, NULL FROM n;
INSERT INTO app.sessions SELECT n, i, e, n FROM n WHERE n > 2;
"""
# What happens after the backup: five tokens of each store are revoked in its own way, three of which are alive.
REVOKED = """
INSERT INTO app.denied SELECT id::text, expires_at FROM app.jwt WHERE right(id::text, 2)::int BETWEEN 13 AND 17;
UPDATE app.stamped SET revoked_at = now() WHERE id BETWEEN 13 AND 17;
UPDATE app.flagged SET revoked = true WHERE right(id, 2) ~ '1[3-7]';
DELETE FROM app.sessions WHERE id BETWEEN 13 AND 17;
UPDATE app.people SET not_before = now() WHERE id IN (3, 4);
"""
EXPECTED = {
    "jwt": {"revoked": 3, "denied": 0, "gone": 0},
    "stamped": {"revoked": 3, "denied": 0, "gone": 0},
    "flagged": {"revoked": 3, "denied": 0, "gone": 0},
    "sessions": {"revoked": 2, "denied": 0, "gone": 3},
}


def told(counts: Any) -> dict[str, dict[str, int]]:
    return {one.store: {"revoked": one.revoked, "denied": one.denied, "gone": one.gone} for one in counts}


def session_on(database: Database, **options: Any) -> Any:
    return connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="restore", read_only=False, **options)


def put(way: Any, database: Database, folder: Path, manifest: dict[str, Any], *tables: str, check: bool = False, **options: Any) -> Outcome:
    request = Request(archive(folder, manifest), manifest, tuple(map(parse_relation, tables)), read_stores(STORES), **options)
    with session_on(database) as session:
        return way(session, request, check_mode=check)


@pytest.fixture
def app(database: Database, tmp_path: Path) -> tuple[Database, Path, dict[str, Any]]:
    run_script(database, TABLES)
    return database, tmp_path, backup(database, tmp_path)


def test_a_database_in_the_place_of_another(cluster: Cluster, database: Database) -> None:
    run_script(database, TABLES)
    cluster.create_database("restored_one", database.name)
    with Database(cluster, "restored_one") as other:
        stores = read_stores(STORES)
        with session_on(database) as live, session_on(other) as restored:
            assert sum(one.back for one in tokens_back(live, restored, stores)) == 0
            run_script(database, REVOKED)
            counts = tokens_back(live, restored, stores)
            assert told(counts) == EXPECTED
            with pytest.raises(
                Refused, match=r"store jwt: 3 \(3 revoked since\); .*; store sessions: 5 \(2 revoked since, 3 whose rows are gone\)"
            ):
                require_none_back(counts, accepted=False)
            require_none_back(counts, accepted=True)
            # Rows that are gone while the deny list has their ids, and denials that end before their tokens do.
            run_script(database, "DELETE FROM app.jwt; UPDATE app.denied SET expires_at = now()")
            assert told(tokens_back(live, restored, stores[:1])) == {"jwt": {"revoked": 0, "denied": 3, "gone": 0}}
            # Nobody knows what a table told that is gone.
            run_script(database, "DROP TABLE app.denied")
            (count,) = tokens_back(live, restored, stores[:1])
            assert count.unknown == "table app.denied does not exist in the live database"
            with pytest.raises(Refused, match=r"store jwt: unknown how many, because table app\.denied does not exist"):
                require_none_back([count], accepted=False)
            # What the restored database lacks, it does not accept.
            run_script(other, "DROP TABLE app.stamped")
            assert told(tokens_back(live, restored, stores[1:2])) == {"stamped": {"revoked": 0, "denied": 0, "gone": 0}}


# Revocation came with a migration that the backup does not have: the application makes it anew, and nothing is revoked any more.
YOUNGER = {
    "jwt": ("DROP TABLE app.denied", "table app.denied does not exist"),
    "stamped": ("ALTER TABLE app.stamped DROP revoked_at", "table app.stamped has no column 'revoked_at'"),
    "flagged": ("ALTER TABLE app.flagged DROP revoked", "table app.flagged has no column 'revoked'"),
    "sessions": ("DROP TABLE app.people", "table app.people does not exist"),
}


def test_what_revokes_is_younger_than_the_backup(cluster: Cluster, database: Database) -> None:
    run_script(database, TABLES)
    cluster.create_database("restored_older", database.name)
    with Database(cluster, "restored_older") as other:
        run_script(other, "; ".join(lost for lost, _said in YOUNGER.values()))
        run_script(database, REVOKED)
        with session_on(database) as live, session_on(other) as restored:
            counts = tokens_back(live, restored, read_stores(STORES))
    assert {one.store: one.unknown for one in counts} == {
        store: f"{said} in the restored database" for store, (_lost, said) in YOUNGER.items()
    }
    with pytest.raises(Refused, match=r"store jwt: unknown how many, because table app\.denied does not exist in the restored database"):
        require_none_back(counts, accepted=False)


@pytest.mark.any_driver
@pytest.mark.parametrize("store", [name for name in EXPECTED if name != "jwt"])
def test_a_table_of_tokens_in_the_place_of_another(app: Any, store: str) -> None:
    database, folder, manifest = app
    run_script(database, REVOKED)
    expected = {**EXPECTED, "sessions": {"revoked": 0, "denied": 0, "gone": 3}}[store]
    for check in (True, False):
        with pytest.raises(Refused, match=f"tokens that are refused now would be accepted again: store {store}: 3 "):
            put(replace_tables, database, folder, manifest, f"app.{store}", check=check)
    before = database.query(f"SELECT count(*) FROM app.{store}")
    done = put(replace_tables, database, folder, manifest, f"app.{store}", accept_tokens_back=True)
    assert told(done.tokens) == {store: expected}
    assert database.query(f"SELECT count(*) FROM app.{store}") >= before


@pytest.mark.any_driver
def test_limits_that_were_moved_since(app: Any) -> None:
    database, folder, manifest = app
    run_script(database, REVOKED)
    with pytest.raises(Refused, match=r"store sessions: 2 \(2 revoked since\)"):
        put(replace_tables, database, folder, manifest, "app.people")


@pytest.mark.any_driver
def test_denials_stay_when_a_deny_list_is_replaced(app: Any) -> None:
    database, folder, manifest = app
    run_script(database, REVOKED + "UPDATE app.denied SET expires_at = expires_at + interval '1 h', why = 'longer' WHERE id ~ '1$'")
    run_script(database, "DELETE FROM app.denied WHERE id ~ '2$'")
    planned = put(replace_tables, database, folder, manifest, "app.denied", "app.jwt", check=True)
    done = put(replace_tables, database, folder, manifest, "app.denied", "app.jwt")
    assert told(done.tokens) == told(planned.tokens) == {"jwt": {"revoked": 0, "denied": 0, "gone": 0}}
    keys = ("in_backup", "denials_kept", "rows")
    assert [[one.as_result()[key] for key in keys] for one in done.tables] == [[2, 6, 7], [20, 0, 20]]
    assert [[one.as_result()[key] for key in keys] for one in planned.tables] == [[2, 6, 7], [20, 0, 20]]
    assert database.query("SELECT count(*), count(*) FILTER (WHERE why = 'longer') FROM app.denied") == [(7, 1)]


@pytest.mark.any_driver
def test_rows_that_are_copied_back(app: Any) -> None:
    database, folder, manifest = app
    run_script(database, REVOKED + "DELETE FROM app.jwt WHERE right(id::text, 2)::int > 5; DELETE FROM app.stamped WHERE id > 10")
    # What the deny list has, it still has.
    assert told(put(copy_missing_rows, database, folder, manifest, "app.jwt").tokens) == {"jwt": {"revoked": 0, "denied": 0, "gone": 0}}
    with pytest.raises(Refused, match=r"store stamped: 5 \(5 whose rows are gone\)"):
        put(copy_missing_rows, database, folder, manifest, "app.stamped")
    with pytest.raises(Refused, match=r"store sessions: 3 \(3 whose rows are gone\)"):
        put(copy_missing_rows, database, folder, manifest, "app.people", "app.sessions")
    done = put(copy_missing_rows, database, folder, manifest, "app.stamped", accept_tokens_back=True)
    assert database.query("SELECT count(*) FROM app.stamped") == [(20,)]
    assert told(done.tokens) == {"stamped": {"revoked": 0, "denied": 0, "gone": 5}}


@pytest.mark.any_driver
def test_a_description_that_is_wrong_is_told_before_anything_else() -> None:
    with pytest.raises(DescriptionError, match=r"token_stores\[0\]"):
        read_stores([{"name": "x"}])
    assert read_stores(None) == ()
