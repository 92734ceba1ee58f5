"""Backups of a standby, for holders of keys only, beside a busy server, and to second places."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import snapshot
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Table
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, hiding
from tests.integration.backing import back_up, left_over, made, manifest, row_counts
from tests.integration.children import until

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_special") as database:
        yield database


@pytest.fixture(scope="module")
def keys(request: pytest.FixtureRequest) -> Iterator[hiding.Keys]:
    """A pair of keys."""
    with hiding.keys_of(request.param) as made_keys:
        yield made_keys


@dataclass(frozen=True)
class Secret:
    """A database with a text in a row that nobody else may see, on a server with a role whose name is another one."""

    database: Database
    row: str
    role: str


@pytest.fixture(scope="module")
def secret(cluster: Cluster) -> Iterator[Secret]:
    """Such a one; the database says nothing of the role, so that a manifest does not either."""
    with Database.create(cluster, "backup_hidden") as database:
        found = Secret(database, hiding.marker(), hiding.marker())
        database.query(f"CREATE TABLE secrets AS SELECT n, '{found.row}' AS secret FROM generate_series(1, 2000) AS n")
        database.query(f"CREATE ROLE {found.role}")
        yield found
        database.query(f"DROP ROLE {found.role}")


@pytest.mark.parametrize(("keys", "form", "compression"), hiding.WAYS, indirect=["keys"])
def test_an_encrypted_backup_is_readable_with_the_key_alone(
    secret: Secret, tmp_path: Path, keys: hiding.Keys, monkeypatch: pytest.MonkeyPatch, form: str, compression: str
) -> None:
    folder, temporary = tmp_path / "backups", hiding.somewhere_temporary(monkeypatch, tmp_path / "temporary")
    options = {"format": form, "compression": compression, "encrypt": keys.encrypt}
    # What is written before it is encrypted would stand there till then at least.
    programs = backing.recording_bin_dir(tmp_path, after=hiding.till_looked_at(tmp_path / "waiting"))
    with hiding.Look([folder, temporary], [secret.row, secret.role], tmp_path / "waiting") as look:
        backup = made(secret.database, folder, bin_dir=str(programs), **options)
    assert look.found == set()
    document = manifest(backup)
    assert document["verified"]["how"] == "decode"
    method = next(name for name in hiding.METHODS if name in keys.encrypt)
    assert document["dump"]["encryption"] == {"method": method, "recipients": keys.encrypt[method]}
    hidden = sorted(path for path in backup.iterdir() if path.suffix == f".{method}")
    assert {path.name for path in backup.iterdir()} - {path.name for path in hidden} == {"manifest.json", "objects.json", "SHA256SUMS"}
    assert {path.name.partition(".")[0] for path in hidden} == {"database", "globals"}
    assert {Path(path).name for path in look.seen if "/.partial-" in path} >= {path.name for path in hidden}
    for path in hidden:
        plain = subprocess.run([*keys.decrypt, str(path)], capture_output=True, check=True).stdout
        if compression == "zstd":
            assert secret.row.encode() not in plain
            plain = subprocess.run(["zstd", "-dc"], input=plain, capture_output=True, check=True).stdout
        assert (secret.role if path.name.startswith("globals") else secret.row).encode() in plain
        # And so with another key, or none, it is not.
        without = [word for word in keys.decrypt if word not in keys.reading.values() and word not in ("--homedir", "--identity")]
        shut = subprocess.run([*without, str(path)], capture_output=True, check=False, env={**os.environ, "GNUPGHOME": str(temporary)})
        assert (shut.returncode != 0, shut.stdout) == (True, b"")
    assert back_up(secret.database, folder, **options)["changed"] is False


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_that_look_sees_what_is_not_encrypted(secret: Secret, tmp_path: Path, form: str) -> None:
    programs = backing.recording_bin_dir(tmp_path, after=hiding.till_looked_at(tmp_path / "waiting"))
    with hiding.Look([tmp_path / "backups"], [secret.row, secret.role], tmp_path / "waiting") as look:
        made(secret.database, tmp_path / "backups", bin_dir=str(programs), format=form, compression="none")
    assert {Path(path).stem for path in look.found if "/.partial-" in path} == {"database", "globals"}


@pytest.mark.parametrize("keys", hiding.METHODS, indirect=True)
def test_an_encrypted_dump_that_is_cut_off_is_noticed_before_it_is_encrypted(tim: Database, tmp_path: Path, keys: hiding.Keys) -> None:
    for form in ("plain", "custom"):
        programs = backing.recording_bin_dir(tmp_path, f'{backing.bin_dir()}/pg_dump "$@" | head -c 3000; exit 0')
        with pytest.raises(Unfinished) as caught:
            back_up(tim, tmp_path / "backups", format=form, compression="none", encrypt=keys.encrypt, bin_dir=str(programs))
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
    programs = backing.recording_bin_dir(tmp_path, backing.waiting_for(tmp_path / "go"))
    waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'TRUNCATE%' AND wait_event_type = 'Lock'"
    emptied: list[Any] = []

    def empty() -> None:
        until(lambda: backing.calls(programs))
        emptied.append(database.query("TRUNCATE counted"))

    def go_on() -> None:
        try:
            until(lambda: emptied or database.query(waiting))
        finally:
            (tmp_path / "go").touch()

    others = [threading.Thread(target=each) for each in (empty, go_on)]
    for other in others:
        other.start()
    try:
        result = back_up(database, tmp_path / "backups", bin_dir=str(programs), format=form, compression="none")
    finally:
        for other in others:
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
    database.query(f"ALTER DATABASE \"{database.name}\" SET idle_in_transaction_session_timeout = '1s'")
    # Longer than the timeout, which no pause between two statements comes near to, and until it has been seen.
    programs = backing.recording_bin_dir(tmp_path, f"sleep 2; {backing.waiting_for(tmp_path / 'go')}")
    asked = "SELECT application_name FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pgops.%%'"
    seen: set[str] = set()

    def at_work() -> bool:
        seen.update(name for (name,) in database.query(asked, [database.name]))
        return any("%" in name for name in seen)

    def look() -> None:
        try:
            until(at_work)
        finally:
            (tmp_path / "go").touch()

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
