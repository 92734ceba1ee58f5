"""What is in a backup of each kind: names are names, whatever characters they have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import back_up, made, manifest, row_counts

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_scopes") as database:
        yield database


@pytest.fixture
def odd(database: Database) -> Database:
    """A database with schemas and tables whose names mean something to a shell, to a pattern or to SQL."""
    with database.connect() as connection:
        for schema in ("a.b", "A", "a", 'quo"te', "st*r", "str", "näme", "new\nline"):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            for table in ("t.t", "T", "t", "t?", "$(id)", "-t", 'q"q'):
                connection.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS one").format(sql.Identifier(schema, table)))
    return database


def texts(backup: Path) -> str:
    """Return a plain backup's SQL."""
    return (backup / "database.sql").read_text(encoding="utf-8")


def test_schemas_are_taken_by_their_exact_names(odd: Database, tmp_path: Path) -> None:
    for schema in ("a", "a.b", 'quo"te', "st*r", "new\nline"):
        backup = made(odd, tmp_path, kind="schemas", schemas=[schema], fresh_for="0 s", format="plain", compression="none")
        assert len(row_counts(backup)) == 7
        assert texts(backup).count("\nCREATE TABLE ") == 7
        quoted = sql.Identifier(schema).as_string(None).strip('"')
        assert all(quoted in name for name in row_counts(backup))
        assert manifest(backup)["globals"] is None
        assert manifest(backup)["large_objects"] is None


def test_tables_are_taken_by_their_exact_names(odd: Database, tmp_path: Path) -> None:
    wanted = ['"a.b"."t.t"', "a.t?", '"st*r"."q""q"', "a.-t", "näme.$(id)"]
    backup = made(odd, tmp_path, kind="tables", tables=wanted, format="plain", compression="none")
    assert len(row_counts(backup)) == len(wanted)
    assert texts(backup).count("\nCREATE TABLE ") == len(wanted)
    assert texts(backup).count("\nCOPY ") == len(wanted)


def test_a_partitioned_table_comes_with_its_partitions(tim: Database, tmp_path: Path) -> None:
    backup = made(tim, tmp_path, kind="tables", tables=["shop.events"], format="plain", compression="none")
    assert row_counts(backup) == {name: rows for name, rows in backing.ROWS.items() if "events_" in name}
    assert texts(backup).count("\nCREATE TABLE ") == 3


@pytest.mark.parametrize("client", [15, 18])
def test_definitions_alone_and_rows_alone(tim: Database, tmp_path: Path, client: int) -> None:
    if client < tim.cluster.installation.major:
        pytest.skip("that client is older than the server")
    options = {"format": "plain", "compression": "none", "bin_dir": backing.bin_dir(client)}
    definitions = made(tim, tmp_path, name="definitions", kind="schema_only", **options)
    rows = made(tim, tmp_path, name="rows", kind="data_only", schemas=["shop"], **options)
    assert "\nCREATE TABLE " in texts(definitions)
    assert "\nCOPY " not in texts(definitions)
    assert not manifest(definitions)["tables"]
    assert "\nCREATE TABLE " not in texts(rows)
    assert "\nCOPY shop.orders" in texts(rows)
    assert row_counts(rows) == {name: count for name, count in backing.ROWS.items() if name.startswith("shop.")}


def test_without_contents_nothing_is_counted(tim: Database, tmp_path: Path) -> None:
    result = back_up(tim, tmp_path, contents=False)
    document = manifest(Path(result["backups"][0]["path"]))
    assert document["tables"] is None
    assert result["backups"][0]["rows"] is None
    assert back_up(tim, tmp_path, contents=False)["changed"] is False


@pytest.mark.parametrize(
    "name", ["with space", "a=b", "dbname=postgres", "sl/ash", "-dash", "new\nline", "näme", "per%cent", "Quo'te\"s", "*"]
)
def test_databases_of_any_name(cluster: Cluster, tmp_path: Path, name: str) -> None:
    with Database.create(cluster, name) as database:
        database.query("CREATE TABLE t AS SELECT 1 AS one")
        at_hand = Database(cluster, "postgres")
        databases = [name]
        if name == "*":
            # It stands for all, so that one of this name is backed up by its login.
            at_hand, databases = database, []
        backup = Path(back_up(at_hand, tmp_path, databases=databases)["backups"][0]["path"])
        assert manifest(backup)["database"] == name
        assert row_counts(backup) == {"public.t": 1}
        assert back_up(at_hand, tmp_path, databases=databases)["changed"] is False


def test_all_databases_are_those_that_take_connections(installation: servers.Installation, tmp_path: Path) -> None:
    with Cluster(installation, settings={"autovacuum": "off"}) as server:
        for name in ("one", "closed", "invalid", "pgops_restore_0123abcd"):
            server.create_database(name)
        with server.connect() as connection:
            connection.execute("ALTER DATABASE closed ALLOW_CONNECTIONS false")
            connection.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'invalid'")
        result = back_up(Database(server, "postgres"), tmp_path, databases=["*"], format="custom")
    assert [one["database"] for one in result["backups"]] == ["one", "postgres", "template1"]
    assert {one["action"] for one in result["backups"]} == {"made"}
    said = "\n".join(result["warnings"])
    assert "'closed' is not in the backup: it takes no connections" in said
    assert "'invalid' is not in the backup: it is invalid" in said
    assert "pgops_restore" not in said


def test_a_login_whose_database_stands_in_connect_params(tim: Database, tmp_path: Path) -> None:
    result = back_up(tim, tmp_path, databases=["postgres", tim.name], as_role={"connect_params": {"dbname": tim.name}}, contents=False)
    assert [one["database"] for one in result["backups"]] == ["postgres", tim.name]
    assert {manifest(Path(one["path"]))["database"] for one in result["backups"]} == {"postgres", tim.name}
    sizes = [one["bytes"] for one in result["backups"]]
    assert sizes[0] < sizes[1]


def test_what_belongs_to_the_database_is_in_the_manifest(database: Database, tmp_path: Path) -> None:
    with database.connect() as connection:
        connection.execute("CREATE ROLE settings_role")
        try:
            name = sql.Identifier(database.name)
            for statement in (
                "ALTER DATABASE {} SET work_mem = '7MB'",
                "ALTER ROLE settings_role IN DATABASE {} SET lock_timeout = '3s'",
                "COMMENT ON DATABASE {} IS 'what it is for'",
                "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
                "ALTER DATABASE {} CONNECTION LIMIT 17",
            ):
                connection.execute(sql.SQL(statement).format(name))
            settings = manifest(made(database, tmp_path))["settings"]
        finally:
            connection.execute("DROP OWNED BY settings_role")
            connection.execute("DROP ROLE settings_role")
    assert settings["config"] == ["work_mem=7MB"]
    assert settings["role_config"] == {"settings_role": ["lock_timeout=3s"]}
    assert (settings["comment"], settings["connection_limit"], settings["owner"]) == ("what it is for", 17, "postgres")
    assert settings["encoding"] == "UTF8"
    assert any("postgres=" in item for item in settings["acl"])
