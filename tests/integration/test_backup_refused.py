"""What keeps a backup from being made is said before anything is written, or leaves nothing behind."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import preflight
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.lock import folder_lock
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, InvalidValue, MissingObject, ProgramMissing
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import back_up, left_over, made
from tests.integration.children import until

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_refused") as database:
        yield database


@pytest.fixture
def reader(database: Database) -> Iterator[str]:
    """A role without any rights."""
    database.query("CREATE ROLE backup_reader LOGIN")
    yield "backup_reader"
    database.query("DROP OWNED BY backup_reader")
    database.query("DROP ROLE backup_reader")


def refused(database: Database, folder: Path, **options: Any) -> Unfinished:
    """Return the failure of a run that leaves nothing behind."""
    with pytest.raises(Unfinished) as caught:
        back_up(database, folder, **options)
    assert left_over(folder) == []
    return caught.value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"folder": ""}, "folder: name the folder"),
        ({"folder": "backups"}, "no absolute path"),
        ({"kind": "schemas"}, "schemas: is missing"),
        ({"kind": "full", "schemas": ["a"]}, "use kind=schemas"),
        ({"kind": "schema_only", "schemas": ["a"], "tables": ["b"]}, "not both"),
        ({"kind": "tables", "tables": ["a.b.c"]}, "has 3 parts"),
        ({"tables": ","}, "names none"),
        ({"encrypt": {"gpg": ["a@example.com"]}}, "cannot be encrypted"),
        ({"format": "plain", "encrypt": {"gpg": ["a"], "age": ["age1x"]}}, "not for both"),
        ({"format": "plain", "encrypt": {"age": ["AGE-SECRET-KEY-1"]}}, "no public key"),
        ({"format": "custom", "encrypt": {"gpg": ["a"]}, "verify": "restore"}, "no key for"),
        ({"kind": "data_only", "verify": "restore"}, "no tables to restore"),
        ({"contents": False, "verify": "restore"}, "nothing would show that the rows came back"),
        ({"compression_level": 3}, "means nothing"),
        ({"compression": "gzip", "compression_level": 12}, "1 to 9"),
        ({"databases": ["*", "tim"]}, "stands for all"),
        ({"databases": ["tim", "tim"]}, "twice"),
        ({"fresh_for": "soon"}, "fresh_for: 'soon' is not a duration"),
        ({"max_runtime": "0 s"}, "leaves no time"),
        ({"keep": {"hourly": 3}}, "keep"),
        ({"name": "a name that is much longer than any folder could be called, and longer still"}, "name"),
        ({"copies": [{"path": "/srv/a", "rsync": "b:c"}]}, "copies[0]"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_options({"folder": "/srv/backups", **given})
    assert said in str(caught.value)


def test_a_file_is_no_folder(tim: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidValue, match=r"folder: .*file"):
            back_up(tim, folder)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_written_to_is_named(tim: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    # Root may write everywhere, so that it is the answer of the system that is another one here.
    monkeypatch.setattr(os, "access", lambda *_arguments, **_words: False)
    with pytest.raises(InvalidValue, match="cannot be written to"):
        preflight.prepare_folder(tmp_path / "closed", check_mode=False)


def test_a_new_folder_is_for_its_owner_alone(tim: Database, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made(tim, tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert backing.modes(tmp_path / "a" / "b") == {"folder 700", "file 600"}


def test_too_little_room_is_refused_before_anything_is_written(tim: Database, tmp_path: Path) -> None:
    for check_mode in (True, False):
        with pytest.raises(Unfinished, match=r"TB are to stay free"):
            back_up(tim, tmp_path, min_free="900 TB", check_mode=check_mode)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_server_is_asked_for_sizes_only_where_they_count(tim: Database, tmp_path: Path) -> None:
    made(tim, tmp_path)
    (previous,), _faults = read_heads(str(tmp_path))
    with connect(backing.login(tim), application_name="room", read_only=True) as session:
        oid = session.value("SELECT 'shop.orders'::regclass::oid::bigint")

        def need(head: Head | None, *, raw_first: bool) -> tuple[int, int]:
            before = session.round_trips
            found = preflight.estimate(session, [oid], head, method="none", raw_first=raw_first, large_objects=True)
            return found.size, session.round_trips - before

        grown, fresh = int(previous.size * 1.2), need(None, raw_first=False)[0]
        assert need(previous, raw_first=False) == (grown, 0)
        assert need(previous, raw_first=True) == (grown + fresh, 2)
        assert fresh > 1.2 * int(session.value("SELECT pg_relation_size('shop.orders')"))


def test_the_second_of_two_runs_is_told_of_the_first(tim: Database, tmp_path: Path) -> None:
    with folder_lock(tmp_path, "pg_backup"), pytest.raises(Busy, match=rf"pg_backup, process {os.getpid()} on .*, since 20"):
        back_up(tim, tmp_path)
    assert back_up(tim, tmp_path)["changed"]


def test_an_older_client_and_a_missing_one_are_named(tim: Database, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="bin_dir"):
        back_up(tim, tmp_path, bin_dir="/")
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(InvalidValue, match=r"9\.6"):
        back_up(tim, tmp_path, bin_dir=str(tmp_path))
    with pytest.raises((InvalidValue, ProgramMissing)):
        back_up(tim, tmp_path, bin_dir=str(tmp_path / "nowhere"))


def test_a_database_schema_or_table_that_is_not_there_is_named(tim: Database, tmp_path: Path) -> None:
    with pytest.raises(MissingObject, match="nowhere"):
        back_up(tim, tmp_path, databases=["nowhere"])
    assert "nothing" in refused(tim, tmp_path, kind="schemas", schemas=["nothing"]).message
    assert "shop.nothing" in refused(tim, tmp_path, kind="tables", tables=["shop.nothing"]).message


def test_rows_that_the_role_does_not_see_are_refused(database: Database, tmp_path: Path, reader: str) -> None:
    database.query("CREATE TABLE seen (id int)")
    database.query("CREATE TABLE guarded (id int)")
    database.query(f"GRANT SELECT ON seen TO {reader}")
    as_role = {"login_user": reader, "login_password": ""}
    failure = refused(database, tmp_path, as_role=as_role)
    assert "public.guarded" in failure.message
    assert "may not SELECT" in failure.message
    database.query(f"GRANT SELECT ON guarded TO {reader}")
    database.query("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY")
    failure = refused(database, tmp_path, as_role=as_role)
    assert "public.guarded" in failure.message
    assert "row-level security" in failure.message
    assert "BYPASSRLS" in failure.message


def test_a_role_without_passwords_says_that_it_has_none(database: Database, tmp_path: Path, reader: str) -> None:
    backup = made(database, tmp_path, as_role={"login_user": reader, "login_password": ""}, compression="none")
    entry = backing.manifest(backup)["globals"]
    assert entry["role_passwords"] is False
    assert "pg_authid" in entry["note"]
    text = (backup / entry["file"]).read_text(encoding="utf-8")
    assert "CREATE ROLE backup_reader" in text
    assert "PASSWORD" not in text
    result = back_up(database, tmp_path, as_role={"login_user": reader, "login_password": ""}, fresh_for="0 s")
    assert any("passwords" in notice for notice in result["warnings"])


def test_a_table_that_is_locked_for_too_long_is_an_error_and_no_wait_without_an_end(database: Database, tmp_path: Path) -> None:
    database.query("CREATE TABLE held (id int)")
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        failure = refused(database, tmp_path, as_role={"lock_timeout": "200 ms"})
        assert time.monotonic() - began < 60
    assert "lock" in failure.message
    assert made(database, tmp_path).is_dir()


def test_too_few_locks_name_the_setting(installation: servers.Installation, tmp_path: Path) -> None:
    settings: dict[str, str | int] = {
        "max_locks_per_transaction": 10,
        "max_connections": 6,
        "max_wal_senders": 0,
        "superuser_reserved_connections": 1,
        "autovacuum": "off",
    }
    with Cluster(installation, settings=settings) as small, Database.create(small, "many") as many:
        with many.connect() as connection:
            for start in range(0, 1500, 50):
                tables = "; ".join(f"CREATE TABLE t{number} ()" for number in range(start, start + 50))
                connection.execute(tables)
        failure = refused(many, tmp_path)
    assert "max_locks_per_transaction" in failure.message
    assert "restart" in failure.message


def test_one_database_that_fails_keeps_no_other_from_its_backup_and_nothing_is_purged(
    tim: Database, database: Database, tmp_path: Path
) -> None:
    old = made(tim, tmp_path)
    database.query("CREATE TABLE held (id int)")
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unfinished) as caught:
            back_up(
                tim,
                tmp_path,
                databases=[database.name, tim.name],
                fresh_for="0 s",
                keep={"count": 1},
                as_role={"lock_timeout": "200 ms"},
            )
    result = caught.value.as_result()
    assert [(one["database"], one["action"]) for one in result["backups"]] == [(database.name, "failed"), (tim.name, "made")]
    assert "lock" in result["backups"][0]["msg"]
    assert (result["purged"], old.is_dir()) == ([], True)
    assert result["changed"] is True
    assert database.name in result["msg"]
    assert left_over(tmp_path) == []
    assert json.dumps(result)


def _ended_while(
    database: Database, folder: Path, act: Callable[[psycopg.Connection[Any]], None], bin_dir: Path, go: Path, **options: Any
) -> Unfinished:
    """Run a backup whose pg_dump waits at its start until there is the file `go`, and do something meanwhile."""

    def wait() -> None:
        try:
            until(lambda: backing.calls(bin_dir))
            with database.cluster.connect() as connection:
                act(connection)
        finally:
            go.touch()

    helper = threading.Thread(target=wait)
    helper.start()
    try:
        return refused(database, folder, bin_dir=str(bin_dir), compression="none", **options)
    finally:
        helper.join()


def test_a_lost_session_is_a_failure_even_though_pg_dump_goes_on(tim: Database, tmp_path: Path) -> None:
    programs = backing.recording_bin_dir(tmp_path, backing.waiting_for(tmp_path / "go"))

    def end(connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pgops.%%'",
            [tim.name],
        )

    failure = _ended_while(tim, tmp_path / "backups", end, programs, tmp_path / "go")
    assert "terminat" in failure.message or "closed" in failure.message


def test_a_pg_dump_that_is_killed_is_named_with_its_signal(tim: Database, tmp_path: Path) -> None:
    programs = backing.recording_bin_dir(tmp_path, " kill -9 $$")
    failure = refused(tim, tmp_path / "backups", bin_dir=str(programs), compression="none")
    assert "SIGKILL" in failure.message


def test_the_time_of_a_run_ends_it_cleanly(tim: Database, tmp_path: Path) -> None:
    programs = backing.recording_bin_dir(tmp_path, " sleep 600")
    began = time.monotonic()
    failure = refused(tim, tmp_path / "backups", bin_dir=str(programs), compression="none", max_runtime="1 s")
    assert "max_runtime" in failure.message
    assert time.monotonic() - began < 120
