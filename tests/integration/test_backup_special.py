"""Backups of a standby, for holders of keys only, beside a busy server, and to second places."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import snapshot
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Table
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import back_up, left_over, made, manifest, row_counts

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_special") as database:
        yield database


@pytest.fixture(scope="module")
def gpg_home() -> Iterator[Path]:
    """A keyring with one key, whose folder's name is short enough for the socket of its agent."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    folder = Path(f"/tmp/pgops-gpg-{os.getpid()}")
    folder.mkdir(mode=0o700)
    key = ["--batch", "--passphrase", "", "--quick-generate-key", "keeper@example.com", "default", "default", "never"]
    try:
        subprocess.run(["gpg", "--homedir", str(folder), *key], check=True, capture_output=True)
        yield folder
    finally:
        subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("form", ["custom", "plain"])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_an_encrypted_backup_is_readable_with_the_key_alone(
    tim: Database, tmp_path: Path, gpg_home: Path, form: str, compression: str
) -> None:
    encrypt = {"gpg": ["keeper@example.com"], "gpg_home": str(gpg_home)}
    backup = made(tim, tmp_path, format=form, compression=compression, encrypt=encrypt)
    document = manifest(backup)
    assert document["verified"]["how"] == "decode"
    assert document["dump"]["encryption"] == {"method": "gpg", "recipients": ["keeper@example.com"]}
    for path in (path for path in backup.rglob("*") if path.suffix == ".gpg"):
        assert b"customer 17" not in path.read_bytes()
        assert b"CREATE ROLE" not in path.read_bytes()
    assert {path.name for path in backup.iterdir() if path.suffix != ".gpg"} == {"manifest.json", "objects.json", "SHA256SUMS"}
    main = next(path for path in backup.iterdir() if path.name.startswith("database."))
    plain = subprocess.run(["gpg", "--homedir", str(gpg_home), "--quiet", "--decrypt", str(main)], capture_output=True, check=True).stdout
    if compression == "zstd":
        plain = subprocess.run(["zstd", "-dc"], input=plain, capture_output=True, check=True).stdout
    assert (b"customer 17" in plain) or form == "custom"
    assert back_up(tim, tmp_path, format=form, compression=compression, encrypt=encrypt)["changed"] is False


def test_an_encrypted_dump_that_is_cut_off_is_noticed_before_it_is_encrypted(tim: Database, tmp_path: Path, gpg_home: Path) -> None:
    encrypt = {"gpg": ["keeper@example.com"], "gpg_home": str(gpg_home)}
    for form in ("plain", "custom"):
        programs = backing.recording_bin_dir(tmp_path, f'{backing.bin_dir()}/pg_dump "$@" | head -c 3000; exit 0')
        with pytest.raises(Unfinished) as caught:
            back_up(tim, tmp_path / "backups", format=form, compression="none", encrypt=encrypt, bin_dir=str(programs))
        assert "whole" in caught.value.message or "pg_restore" in caught.value.message
        assert left_over(tmp_path / "backups") == []


def test_a_dump_of_which_the_end_is_missing_never_gets_a_name(tim: Database, tmp_path: Path) -> None:
    for form, size in (("plain", 30000), ("custom", 5000)):
        programs = backing.recording_bin_dir(tmp_path, f'{backing.bin_dir()}/pg_dump "$@" | head -c {size}; exit 0')
        with pytest.raises(Unfinished, match="not what was sent"):
            back_up(tim, tmp_path / "backups", format=form, compression="none", bin_dir=str(programs))
        assert left_over(tmp_path / "backups") == []


def test_a_standby_says_what_it_does_not_have(cluster: Cluster, standby: Cluster, tmp_path: Path) -> None:
    with Database.create(cluster, "backup_standby") as primary:
        primary.query("CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS one")
        primary.query("CREATE TABLE lasting AS SELECT generate_series(1, 10) AS n")
        cluster.wait_for(standby)
        result = back_up(Database(standby, primary.name), tmp_path)
        backup = Path(result["backups"][0]["path"])
        assert row_counts(backup) == {"public.lasting": 10}
        assert manifest(backup)["snapshot"]["in_recovery"] is True
        assert manifest(backup)["snapshot"]["lsn"]
        assert [one["object"] for one in result["backups"][0]["left_out"] if "unlogged" in one["what"]] == ["public.fleeting"]


@pytest.mark.parametrize("form", ["directory", "plain"])
def test_whoever_changes_a_table_meanwhile_goes_first_and_what_was_counted_is_in_the_dump(
    database: Database, tmp_path: Path, form: str
) -> None:
    """A TRUNCATE between the snapshot and pg_dump's own locks would leave a table empty that was counted before."""
    database.query("CREATE TABLE counted AS SELECT generate_series(1, 1000) AS n")
    programs = backing.recording_bin_dir(tmp_path, f"[ -e {tmp_path}/slow ] || {{ touch {tmp_path}/slow; sleep 1; }}")

    def empty() -> None:
        end = time.monotonic() + 20
        while not backing.calls(programs) and time.monotonic() < end:
            time.sleep(0.01)
        with database.connect() as connection:
            connection.execute("TRUNCATE counted")

    other = threading.Thread(target=empty)
    other.start()
    try:
        result = back_up(database, tmp_path / "backups", bin_dir=str(programs), format=form, compression="none")
    finally:
        other.join()
    backup = Path(result["backups"][0]["path"])
    assert any("begun again" in notice and "change the form" in notice for notice in result["warnings"])
    assert len([call for call in backing.calls(programs) if call.startswith("pg_dump ")]) == 2
    assert row_counts(backup) == {"public.counted": 0}
    if form == "plain":
        assert "\n1000\n" not in (backup / "database.sql").read_text(encoding="utf-8")


def test_tables_that_come_and_go_are_locked_all_the_same(database: Database) -> None:
    from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
    from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, tables_in

    database.query("CREATE TABLE stays (id int)")
    database.query("CREATE TABLE goes (id int)")
    looks = []
    with connect(backing.login(database), application_name="test", read_only=True) as session:

        def listed() -> list[Table]:
            found = tables_in(session, Scope())
            looks.append(len(found))
            if len(looks) == 1:
                database.query("DROP TABLE goes")
                database.query("CREATE TABLE comes (id int)")
            return found

        with snapshot.open_snapshot(session, listed) as held:
            assert [table.name for table in held.tables] == ["public.comes", "public.stays"]
            locked = database.query(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = %s AND mode = 'AccessShareLock'"
                " AND relation IN ('stays'::regclass, 'comes'::regclass) ORDER BY 1",
                [session.backend_pid],
            )
            assert locked == [("comes",), ("stays",)]
    assert len(looks) > 2


def test_a_dba_sees_what_is_at_work_and_no_timeout_of_idle_sessions_ends_it(database: Database, tmp_path: Path) -> None:
    database.query(f"ALTER DATABASE \"{database.name}\" SET idle_in_transaction_session_timeout = '300ms'")
    programs = backing.recording_bin_dir(tmp_path, "sleep 2")
    seen: set[str] = set()

    def look() -> None:
        end = time.monotonic() + 20
        with database.cluster.connect() as connection:
            while not any("%" in name for name in seen) and time.monotonic() < end:
                asked = "SELECT application_name FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pgops.%%'"
                seen.update(name for (name,) in connection.execute(asked, [database.name]))
                time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        made(database, tmp_path / "backups", bin_dir=str(programs), compression="none")
    finally:
        watcher.join()
    assert any(name.startswith("pgops.runbook/pg_backup ") and database.name in name and "%" in name for name in seen)


def test_second_places_get_it_and_a_run_that_makes_none_copies_what_is_missing(tim: Database, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    folder = tmp_path / "backups"
    copies: list[dict[str, Any]] = [{"path": str(second)}]
    foreseen = back_up(tim, folder, copies=copies, check_mode=True)
    assert [copy["action"] for copy in foreseen["backups"][0]["copies"]] == ["copied"]
    first = back_up(tim, folder, copies=copies)
    name = first["backups"][0]["id"]
    assert row_counts(second / name) == backing.ROWS
    assert back_up(tim, folder, copies=copies)["changed"] is False
    shutil.rmtree(second / name)
    assert back_up(tim, folder, copies=copies, check_mode=True)["changed"] is True
    assert back_up(tim, folder, copies=copies)["changed"] is True
    assert row_counts(second / name) == backing.ROWS
    with pytest.raises(Unfinished, match="a copy of it is not") as caught:
        back_up(tim, folder, copies=[{"path": str(tmp_path / "unmounted")}], fresh_for="0 s", keep={"count": 1})
    result = caught.value.as_result()
    assert result["backups"][0]["action"] == "made"
    assert (result["purged"], (folder / name).is_dir()) == ([], True)


def test_a_subscription_that_the_server_could_not_make_again_is_said_and_left_out(database: Database, tmp_path: Path) -> None:
    backing.fill(database)
    database.query("CREATE SUBSCRIPTION special_sub CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false)")
    try:
        backup = backing.made(database, tmp_path, verify="restore")
        told = [one for one in backing.manifest(backup)["coverage"]["left_out"] if one["what"] == "subscription"]
        assert [one["object"] for one in told] == ["special_sub"]
        assert ("make it by hand" in told[0]["why"]) == (database.cluster.installation.major < 16)
    finally:
        database.query("ALTER SUBSCRIPTION special_sub SET (slot_name = NONE)")
        database.query("DROP SUBSCRIPTION special_sub")
