"""Settings and versions: what endangers data, waits, is wrong in a file, has changed, or is old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils._health import versions
from ansible_collections.pgops.runbook.plugins.module_utils._health.settings import comparable
from tests.ground.databases import Database
from tests.integration.watching import create_role, drop_role, finding, look, run_script, status_of

pytestmark = pytest.mark.any_driver
NAMED = {"name": "shop", "schemas": ["public"]}


def watch(database: Database, *checks: str, tier: str = "monthly", **params: Any) -> dict[str, Any]:
    return look(database, tier, checks=list(checks), **{"system": None, **params})


@pytest.fixture
def altered(database: Database) -> Iterator[Database]:
    """A database whose server forgets what ALTER SYSTEM has set."""
    yield database
    run_script(database, "ALTER SYSTEM RESET ALL")
    reload(database)


def reload(database: Database) -> None:
    database.query("SELECT pg_reload_conf()")
    # A file is read by the postmaster, then by each session.
    assert database.query("SELECT pg_sleep(0.2)")


def test_a_server_that_may_lose_data_is_critical(database: Database) -> None:
    # The servers of the tests do without fsync.
    result = watch(database, "cfg.unsafe")
    assert finding(result, "cfg.unsafe[fsync]")["severity"] == "critical"
    assert "destroys the cluster" in finding(result, "cfg.unsafe[fsync]")["message"]
    assert {found["key"] for found in result["findings"]} == {"cfg.unsafe[fsync]", "cfg.unsafe[full_page_writes]"}


def test_a_setting_of_the_session_alone_is_not_the_servers(altered: Database) -> None:
    run_script(altered, f'ALTER DATABASE "{altered.name}" SET synchronous_commit = off')
    assert finding(watch(altered, "cfg.unsafe"), "cfg.unsafe[synchronous_commit]")["severity"] == "warning"


def test_a_setting_that_waits_for_a_restart_is_named(altered: Database) -> None:
    assert status_of(watch(altered, "cfg.pending_restart"), "cfg.pending_restart") == "ok"
    run_script(altered, "ALTER SYSTEM SET max_prepared_transactions = 7")
    reload(altered)
    found = finding(watch(altered, "cfg.pending_restart"), "cfg.pending_restart")
    assert (found["severity"], found["value"]) == ("warning", 1)
    assert "max_prepared_transactions" in found["message"]
    # It is no error of the file as well.
    assert status_of(watch(altered, "cfg.file_errors"), "cfg.file_errors") == "ok"
    # The server believes that it waits until a file has the present value: a RESET alone does not change that.
    run_script(altered, f"ALTER SYSTEM SET max_prepared_transactions = {altered.query('SHOW max_prepared_transactions')[0][0]}")
    reload(altered)
    assert status_of(watch(altered, "cfg.pending_restart"), "cfg.pending_restart") == "ok"


def test_an_error_in_a_file_is_found_before_the_next_start(altered: Database) -> None:
    folder = altered.query("SHOW data_directory")[0][0]
    with (altered.cluster.folder / "data" / "pg_hba.conf").open("a", encoding="utf-8") as file:
        file.write("host all all nowhere\n")
    assert folder
    try:
        result = watch(altered, "cfg.file_errors")
        assert [found["severity"] for found in result["findings"]] == ["warning"]
        assert "pg_hba.conf" in result["findings"][0]["key"]
    finally:
        path = altered.cluster.folder / "data" / "pg_hba.conf"
        path.write_text(path.read_text(encoding="utf-8").replace("host all all nowhere\n", ""), encoding="utf-8")


def test_what_a_role_may_not_see_is_unknown_until_it_is_granted(database: Database) -> None:
    login = create_role(database.cluster, "settings_reader")
    try:
        result = watch(database, "cfg", login=login)
        assert set(result["unknown"]) == {"cfg.pending_restart", "cfg.file_errors", "cfg.drift"}
        keys = ("cfg.pending_restart", "cfg.file_errors[the settings]", "cfg.file_errors[pg_hba.conf]")
        for key in keys:
            run_script(database, finding(result, key)["action"].partition(": ")[2])
        again = watch(database, "cfg", login=login)
        assert again["unknown"] == [], again["findings"]
    finally:
        drop_role(database.cluster, database, "settings_reader")


def test_what_is_declared_is_compared_in_the_units_of_the_server(database: Database) -> None:
    shared = database.query("SHOW shared_buffers")[0][0]
    declared = {"shared_buffers": shared, "max_connections": "200", "wal_level": "replica", "no_such_thing": "1"}
    result = watch(database, "cfg.drift", system={**NAMED, "settings": declared})
    found = {each["key"]: each for each in result["findings"]}
    assert set(found) == {"cfg.drift[max_connections]", "cfg.drift[no_such_thing]"}
    assert found["cfg.drift[max_connections]"]["severity"] == "warning"
    assert "ALTER SYSTEM SET max_connections = '200'" in found["cfg.drift[max_connections]"]["action"]
    assert found["cfg.drift[no_such_thing]"]["severity"] == "unknown"


@pytest.mark.parametrize(
    ("written", "unit", "other"),
    [
        ("512MB", None, "524288kB"),
        ("65536", "8kB", "512MB"),
        ("1000", "ms", "1s"),
        ("1", "min", "60 s"),
        ("0.70", None, "0.7"),
        ("true", None, "on"),
        ("256", "MB", "268435456B"),
    ],
)
def test_values_are_compared_by_what_they_mean(written: str, unit: str | None, other: str) -> None:
    assert comparable(written, unit) == comparable(other, unit)
    assert comparable(written, unit) != comparable("3", unit)


# --- versions -----------------------------------------------------------------------------------------------------------


def test_an_old_minor_version_and_the_end_of_support_are_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    number = int(database.query("SHOW server_version_num")[0][0])
    major, minor = divmod(number, 10000)
    monkeypatch.setitem(versions.NEWEST, major, minor + 2)  # type: ignore[arg-type]
    monkeypatch.setitem(versions.LAST_DAY, major, date.today() - timedelta(days=3))  # type: ignore[arg-type]
    result = watch(database, "ver.minor", "ver.eol")
    assert finding(result, "ver.minor")["value"] == 2
    assert finding(result, "ver.eol")["severity"] == "critical"
    monkeypatch.setitem(versions.LAST_DAY, major, date.today() + timedelta(days=90))  # type: ignore[arg-type]
    assert finding(watch(database, "ver.eol"), "ver.eol")["severity"] == "warning"
    monkeypatch.setitem(versions.NEWEST, major, minor)  # type: ignore[arg-type]
    monkeypatch.setitem(versions.LAST_DAY, major, date.today() + timedelta(days=900))  # type: ignore[arg-type]
    assert watch(database, "ver.minor", "ver.eol")["findings"] == []


def test_every_supported_major_has_an_end_of_support() -> None:
    assert set(versions.NEWEST) == set(versions.LAST_DAY)
    assert sorted(versions.LAST_DAY.values()) == list(versions.LAST_DAY.values())


def test_a_collation_that_changed_under_an_index_is_told(database: Database) -> None:
    with database.connect() as connection:
        collations = connection.execute(
            "SELECT oid, quote_ident(collname) FROM pg_collation WHERE collversion IS NOT NULL AND collprovider = 'c' LIMIT 1"
        ).fetchall()
        if not collations:
            collations = connection.execute(
                "SELECT oid, quote_ident(collname) FROM pg_collation WHERE collversion IS NOT NULL LIMIT 1"
            ).fetchall()
        if not collations:
            pytest.skip("this server records no version of any collation")
        oid, name = collations[0]
        connection.execute(sql.SQL("CREATE TABLE words (word text COLLATE {})").format(sql.SQL(name)))  # type: ignore[arg-type]
        connection.execute("CREATE INDEX words_idx ON words (word)")
        assert watch(database, "ver.collation")["findings"] == []
        connection.execute("UPDATE pg_collation SET collversion = 'older' WHERE oid = %s", (oid,))
    found = watch(database, "ver.collation")["findings"]
    assert [each["severity"] for each in found] == ["warning"]
    assert "version older" in found[0]["message"]
    assert "REFRESH VERSION" in found[0]["action"]


def test_extensions_that_are_missing_are_told(database: Database) -> None:
    result = watch(database, "ver.ext_outdated", system={**NAMED, "extensions": ["plpgsql", "no such one"]})
    assert [found["key"] for found in result["findings"]] == ["ver.ext_outdated[no such one]"]
    run_script(database, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'")
    assert finding(watch(database, "ver.ext_outdated"), "ver.ext_outdated[plpgsql]")["action"] == (
        'As its owner: ALTER EXTENSION "plpgsql" UPDATE;'
    )
    run_script(database, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'plpgsql'")
