"""Settings and versions: what endangers data, waits, is wrong in a file, has changed, or is old."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils._health import versions
from ansible_collections.pgops.runbook.plugins.module_utils._health.settings import comparable, readable
from tests.ground.databases import Database
from tests.integration.replicating import earlier, readings
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


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        ("524288", "8kB", "4 GB"),
        ("16385", "8kB", "131080 kB"),
        ("1", "8kB", "8 kB"),
        ("1024", "MB", "1 GB"),
        ("90000", "ms", "90 s"),
        ("3600", "s", "1 h"),
        ("1", "min", "1 min"),
        ("0", "ms", "0"),
        ("-1", "kB", "-1"),
        ("0.5", "ms", "500 us"),
        ("200", None, "200"),
        ("on", None, "on"),
    ],
)
def test_values_are_shown_as_the_server_shows_them(value: str, unit: str | None, shown: str) -> None:
    assert readable(value, unit) == shown


def test_a_declared_size_and_time_are_told_in_their_units(database: Database) -> None:
    declared = {"effective_cache_size": "3GB", "statement_timeout": "1h", "deadlock_timeout": "3 min"}
    result = watch(database, "cfg.drift", system={**NAMED, "settings": declared})
    told = {each["object"]: each["message"] for each in result["findings"]}
    assert told["effective_cache_size"] == f"is {database.query('SHOW effective_cache_size')[0][0].replace('GB', ' GB')}, declared is 3GB"
    assert told["statement_timeout"] == "is 0, declared is 1h"
    assert told["deadlock_timeout"].startswith("is ")
    assert "(in " not in str(told)


def test_a_setting_that_the_check_sets_for_itself_is_compared_all_the_same(altered: Database) -> None:
    (_reading,), before = readings(altered.cluster, "cfg.drift")
    kept = before.kept["settings"]
    assert not {"lock_timeout", "search_path", "jit", "client_encoding", "application_name"} & set(kept)
    run_script(altered, "ALTER SYSTEM SET lock_timeout = '90 s'")
    run_script(altered, "ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
    reload(altered)
    found, _after = readings(altered.cluster, "cfg.drift", history=earlier(kept=before.kept))
    told = {each.object_name: each.message for each in found}
    assert told["lock_timeout"] == "changed from the default to '90 s' since the run before"
    assert "'Asia/Tokyo'" in told["TimeZone"]
    assert set(told) == {"lock_timeout", "TimeZone"}


def test_a_line_above_an_error_makes_no_other_finding_of_it(altered: Database) -> None:
    path = altered.cluster.folder / "data" / "pg_hba.conf"
    whole = path.read_text(encoding="utf-8")
    wrong = "host all all nowhere\nhost all all ::1/128 nothing\nhost all all 10.0.0.0/8 nothing\n"
    try:
        path.write_text(whole + wrong, encoding="utf-8")
        before = watch(altered, "cfg.file_errors")["findings"]
        path.write_text(f"# one more\n{whole}{wrong}", encoding="utf-8")
        after = watch(altered, "cfg.file_errors")["findings"]
    finally:
        path.write_text(whole, encoding="utf-8")
    assert [each["key"] for each in before] == [each["key"] for each in after]
    assert len({each["key"] for each in after}) == len(after) == 2
    assert [each["message"] for each in before] != [each["message"] for each in after]
    assert sum(len(re.findall(r"line \d+:", each["message"])) for each in after) == 3


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


def test_indexes_whose_collation_has_no_version_are_said_and_not_judged(database: Database) -> None:
    def said() -> tuple[str, str]:
        check = next(each for each in watch(database, "ver.collation")["checks"] if each["id"] == "ver.collation")
        return check["status"], check["message"]

    run_script(database, 'CREATE TABLE words (word text COLLATE "C"); CREATE INDEX words_idx ON words (word)')
    status, message = said()
    assert (status, "not judged" in message) == ("ok", False)
    # As one of the C library before PostgreSQL 13, or the database's own before 15.
    odd = "(SELECT oid FROM pg_collation WHERE collname = 'odd')"
    run_script(database, "CREATE COLLATION odd (locale = 'C'); CREATE INDEX odd_idx ON words (word COLLATE odd)")
    run_script(database, f"UPDATE pg_collation SET collcollate = 'xx_XX', collversion = NULL WHERE oid = {odd}")
    status, message = said()
    recorded = database.query("SELECT to_jsonb(d) ->> 'datcollversion' FROM pg_database AS d WHERE datname = current_database()")
    if recorded == [(None,)]:
        assert (status, message) == (
            "skipped",
            "1 index sorted by a collation of which this server records no version, and none by another",
        )
    else:
        assert (status, message.partition("; ")[2]) == ("ok", "1 index sorted by one without a version not judged")


def test_extensions_that_are_missing_are_told(database: Database) -> None:
    result = watch(database, "ver.ext_outdated", system={**NAMED, "extensions": ["plpgsql", "no such one"]})
    assert [found["key"] for found in result["findings"]] == ["ver.ext_outdated[no such one]"]
    run_script(database, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'")
    assert finding(watch(database, "ver.ext_outdated"), "ver.ext_outdated[plpgsql]")["action"] == (
        'As its owner: ALTER EXTENSION "plpgsql" UPDATE;'
    )
    run_script(database, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'plpgsql'")
