"""What is hard to restore comes back as it was, whatever the format, and what does not is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.settings import read_settings
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring

_numbers = itertools.count()
PRIVILEGES = """
SELECT x.grantee::regrole::text AS grantee, x.privilege_type, x.is_grantable
FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x WHERE d.datname = current_database() ORDER BY 1, 2, 3
"""


@pytest.fixture(scope="module")
def hard(cluster: Cluster) -> Iterator[Database]:
    """A database with everything that is hard, and the roles that it needs."""
    number = next(_numbers)
    with Database.create(cluster, f"hard_{number}") as made:
        restoring.fill_hard(made, number)
        yield made
        for name in restoring.databases(cluster) - {made.name}:
            if name.startswith("hard_again"):
                cluster.drop_database(name)
    restoring.drop_hard_roles(cluster, number)


def described(database: Database) -> dict[str, Any]:
    """Return all that the engine can measure of a database, and what the catalogue says of it as a whole."""
    with connect(backing.login(database), application_name="test", read_only=True) as session:
        found = measure(session, Scope())
        said = found.as_manifest()
        # Which other databases there are is no property of this one.
        said["coverage"]["left_out"] = [one for one in said["coverage"]["left_out"] if one["what"] != "database"]
        # What everybody has unless it is said otherwise, and the same said.
        settings = {name: told for name, told in read_settings(session).items() if name != "acl"}
        return {"settings": settings, "privileges": session.rows(PRIVILEGES), "objects": found.objects, **said}


@pytest.mark.parametrize("form", ["directory", "plain"])
def test_everything_comes_back(hard: Database, tmp_path: Path, form: str) -> None:
    backing.made(hard, tmp_path, format=form)
    result = restoring.restore(hard, tmp_path, target="hard_again")
    before = described(hard)
    with Database(hard.cluster, "hard_again") as again:
        assert described(again) == before
        assert result["rows"] == sum(table["rows"] for table in before["tables"])
        # Planner statistics are there, which no dump brings along.
        assert again.query("SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'hard'") == [(True,)]
    assert (result["changed"], result["action"]) == (True, "restored")


def test_a_trigger_on_logins_does_not_write_into_what_is_compared(database: Database, tmp_path: Path) -> None:
    if database.cluster.installation.major < 17:
        pytest.skip("servers before 17 have no triggers on logins")
    database.query("CREATE TABLE logins (at timestamptz)")
    database.query("CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.logins VALUES (now()); END'")
    database.query("CREATE EVENT TRIGGER noted ON login EXECUTE FUNCTION note(); ALTER EVENT TRIGGER noted ENABLE ALWAYS")
    path = backing.made(database, tmp_path)
    again = {"path": str(path), "target": f"{database.name}_again"}
    try:
        assert [restoring.restore(database, **again)["action"] for _time in range(2)] == ["restored", "present"]
    finally:
        database.cluster.drop_database(again["target"])


def test_names_of_databases_that_are_hard_to_quote(cluster: Cluster, tmp_path: Path) -> None:
    with Database.create(cluster, "dbname=postgres x") as source, Database(cluster, "-odd \"%s'\\õ;") as target:
        source.query("CREATE TABLE t AS SELECT 1 AS n")
        for form in ("directory", "plain"):
            path = backing.made(source, tmp_path, format=form, name=form)
            restoring.restore(source, path=str(path), target=target.name)
            result = restoring.restore(source, path=str(path), target=target.name, mode="swap", replace=target.name, disconnect=True)
            assert (result["action"], target.query("SELECT n FROM t")) == ("present", [(1,)])
            target.query("DELETE FROM t")
            result = restoring.restore(
                source, path=str(path), target=target.name, mode="swap", replace=target.name, disconnect=True, keep_old=False
            )
            assert (result["action"], target.query("SELECT n FROM t")) == ("swapped", [(1,)])
            target.drop()


@pytest.mark.parametrize(
    "words",
    [
        "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        "LOCALE_PROVIDER icu ICU_LOCALE 'et'",
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
    ],
)
def test_the_encoding_and_the_locale_come_back(cluster: Cluster, tmp_path: Path, words: str) -> None:
    name = "contents_locale"
    with cluster.connect() as connection:
        try:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {words}")
        except psycopg.Error as error:
            pytest.skip(f"this server has no such databases: {error}")
    with Database(cluster, name) as source:
        # In SQL_ASCII bytes are taken as they are: these are no UTF-8.
        text = "E'\\xf5\\xff'" if "SQL_ASCII" in words else "'õunad'"
        source.query(f"CREATE TABLE t AS SELECT {text}::text AS x")
        for form in ("directory", "plain"):
            path = backing.made(source, tmp_path, format=form, name=form)
            restoring.restore(source, path=str(path), target=f"{name}_again")
            with Database(cluster, f"{name}_again") as again:
                assert described(again) == described(source)
