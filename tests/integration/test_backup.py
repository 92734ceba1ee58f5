"""pg_backup makes a backup where a fresh one is missing, and nothing where one is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import read_verifications
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import verify
from ansible_collections.pgops.runbook.plugins.module_utils._client import coding
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import find_client
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import ROWS, back_up, made, manifest
from tests.integration.handmade import rewritten

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_tim") as database:
        yield database


@pytest.mark.parametrize("compression", ["auto", "gzip", "lz4", "none"])
@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_a_backup_holds_everything_and_says_so(tim: Database, tmp_path: Path, form: str, compression: str) -> None:
    backup = made(tim, tmp_path / "backups", format=form, compression=compression)
    document = read_manifest(backup)
    assert backing.row_counts(backup) == ROWS
    assert document["database"] == tim.name
    assert document["verified"]["how"] == "decode"
    assert document["large_objects"]["count"] == 1
    assert document["snapshot"]["lsn"]
    assert document["globals"]["role_passwords"] is True
    assert document["bytes"] == sum(file["bytes"] for file in document["files"])
    assert backing.modes(tmp_path / "backups") == {"folder 700", "file 600"}
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=backup, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    again = verify(backup, document, "decode", find_client(0, backing.bin_dir()))
    assert (again.ok, again.how, again.message) == (True, "decode", None)
    assert backing.left_over(tmp_path / "backups") == []


def test_the_second_run_starts_nothing_and_changes_nothing(tim: Database, tmp_path: Path) -> None:
    programs = backing.recording_bin_dir(tmp_path)
    began = time.monotonic()
    first = back_up(tim, tmp_path / "backups", bin_dir=str(programs))
    assert first["changed"]
    assert [call.split()[0] for call in backing.calls(programs) if "--snapshot" in call] == ["pg_dump"]
    (programs / "calls").unlink()
    coding._built_with.cache_clear()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "backups").rglob("*") if path.name != ".lock"}
    second = back_up(tim, tmp_path / "backups", bin_dir=str(programs))
    assert (second["changed"], second["backups"][0]["action"]) == (False, "present")
    assert backing.calls(programs) == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "backups").rglob("*") if path.name != ".lock"} == before
    for key in ("id", "path", "bytes", "verified", "tables", "rows", "left_out"):
        assert second["backups"][0][key] == first["backups"][0][key], key
    # In tenths of a second.
    assert 0 < second["backups"][0]["age_seconds"] < time.monotonic() - began + 0.1


def test_check_mode_writes_nothing_and_foresees_the_run(tim: Database, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "backups"
    foreseen = back_up(tim, folder, check_mode=True)
    assert (foreseen["changed"], foreseen["backups"][0]["action"], foreseen["backups"][0]["id"]) == (True, "made", None)
    assert not folder.parent.exists()
    first = made(tim, folder)
    standing = sorted(folder.rglob("*"))
    assert back_up(tim, folder, check_mode=True)["changed"] is False
    options: dict[str, Any] = {"fresh_for": "0 s", "keep": {"count": 1}}
    foreseen = back_up(tim, folder, check_mode=True, **options)
    assert (foreseen["purged"], foreseen["kept"]) == ([first.name], [])
    assert sorted(folder.rglob("*")) == standing
    done = back_up(tim, folder, **options)
    assert (done["purged"], done["kept"]) == ([first.name], [done["backups"][0]["id"]])
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == done["kept"]


def test_backups_of_one_second_have_different_names(tim: Database, tmp_path: Path) -> None:
    names = {made(tim, tmp_path, fresh_for="0 s", format="custom", contents=False, verify="checksum").name for _number in range(3)}
    assert len(names) == 3


def test_what_is_fresh_depends_on_name_and_scope(tim: Database, tmp_path: Path) -> None:
    made(tim, tmp_path)
    made(tim, tmp_path, name="other")
    made(tim, tmp_path, name="shop", kind="schemas", schemas=["shop"])
    made(tim, tmp_path, name="shop", kind="schemas", schemas=["public"])
    assert back_up(tim, tmp_path, name="shop", kind="schemas", schemas=["shop"])["changed"] is False


def test_a_fresh_backup_is_verified_deeper_where_that_is_asked_for(tim: Database, tmp_path: Path) -> None:
    backup = made(tim, tmp_path, verify="checksum")
    foreseen = back_up(tim, tmp_path, check_mode=True)
    assert foreseen["backups"][0]["action"] == "verified"
    assert not (backup / "verified.json").exists()
    deeper = back_up(tim, tmp_path)
    assert (deeper["changed"], deeper["backups"][0]["action"], deeper["backups"][0]["verified"]) == (True, "verified", "decode")
    assert deeper["backups"][0]["id"] == backup.name
    assert back_up(tim, tmp_path)["changed"] is False


def test_a_fresh_backup_that_is_damaged_does_not_count(tim: Database, tmp_path: Path) -> None:
    backup = made(tim, tmp_path, verify="checksum")
    member = max((backup / "database").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(member.read_bytes())
    content[len(content) // 2] ^= 1
    member.write_bytes(content)
    done = back_up(tim, tmp_path)
    assert done["backups"][0]["action"] == "made"
    assert any(backup.name in notice and member.name in notice for notice in done["warnings"])
    newer = Path(done["backups"][0]["path"])
    member = newer / "objects.json"
    member.unlink()
    again = back_up(tim, tmp_path)
    assert again["backups"][0]["action"] == "made"
    assert any(newer.name in notice and "objects.json" in notice for notice in again["warnings"])


def test_what_is_counted_is_what_was_dumped_while_others_write(database: Database, tmp_path: Path) -> None:
    database.query("CREATE TABLE busy (id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO busy DEFAULT VALUES")
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(60)
        for _number in range(3):
            backup = made(database, tmp_path, fresh_for="0 s", format="plain", compression="none")
            lines = (backup / "database.sql").read_text(encoding="utf-8").splitlines()
            start = next(number for number, line in enumerate(lines) if line.startswith("COPY public.busy"))
            assert lines[start:].index("\\.") - 1 == backing.row_counts(backup)["public.busy"] > 0
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    ("form", "compression", "tables"),
    [
        ("directory", "auto", []),
        ("directory", "gzip", []),
        ("custom", "zstd", []),
        ("plain", "lz4", []),
        ("custom", "gzip", ["shop.customers", "shop.events", "public.empty"]),
    ],
)
def test_the_commands_for_people_restore_it(
    tim: Database, cluster: Cluster, tmp_path: Path, form: str, compression: str, tables: list[str]
) -> None:
    scope = {"kind": "tables", "tables": tables} if tables else {}
    backup = made(tim, tmp_path / "backups", format=form, compression=compression, **scope)
    wanted = {name: rows for name, rows in ROWS.items() if not tables or name.startswith(tuple(tables))}
    lines = [line for line in manifest(backup)["by_hand"] if "globals" not in line]
    shutil.copytree(backup, tmp_path / "copy")
    newest = servers.find(18)
    place = cluster.address("postgres")
    environment = {
        "PATH": os.pathsep.join([str(newest.program("psql").parent), os.environ["PATH"]]),
        "PGHOST": place["host"],
        "PGPORT": str(place["port"]),
        "PGUSER": place["user"],
    }
    cluster.drop_database("restored")
    try:
        for line in lines:
            done = subprocess.run(line, shell=True, cwd=tmp_path / "copy", env=environment, capture_output=True, text=True, check=False)
            faults = [one for one in done.stderr.splitlines() if "error" in one.lower() and "transaction_timeout" not in one]
            assert [one for one in faults if "errors ignored on restore" not in one] == [], line
        assert _counts(Database(cluster, "restored"), wanted) == wanted
    finally:
        cluster.drop_database("restored")


def _counts(database: Database, names: Iterable[str]) -> dict[str, Any]:
    with database.connect() as connection:
        return {name: _count(connection, name) for name in names}


def _count(connection: psycopg.Connection[Any], name: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_it_is_restored_before_it_counts(tim: Database, tmp_path: Path, form: str) -> None:
    backup = made(tim, tmp_path, verify="restore", format=form)
    assert manifest(backup)["verified"]["how"] == "restore"
    assert [name for (name,) in tim.query("SELECT datname FROM pg_database") if name.startswith("pgops_restore_")] == []


def test_a_fresh_backup_is_restored_where_that_is_asked_for(tim: Database, tmp_path: Path) -> None:
    made(tim, tmp_path)
    deeper = back_up(tim, tmp_path, verify="restore")
    assert (deeper["backups"][0]["action"], deeper["backups"][0]["verified"]) == ("verified", "restore")
    assert back_up(tim, tmp_path, verify="restore")["changed"] is False


@pytest.mark.parametrize("level", ["decode", "restore"])
def test_one_that_cannot_be_read_here_is_made_again(tim: Database, tmp_path: Path, level: str) -> None:
    newer = made(tim, tmp_path, verify="checksum")
    rewritten(newer, lambda document: document["versions"].update(client="99.1"))
    result = back_up(tim, tmp_path, verify=level)
    assert (result["backups"][0]["action"], result["backups"][0]["verified"]) == ("made", level)
    assert f"{newer.name} was looked at again: only the checksums were looked at" in str(result["warnings"])


def test_one_that_cannot_be_restored_here_any_more_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    with Database.create(cluster, "backup_owned") as database:
        database.query("CREATE ROLE pgops_leaver; CREATE TABLE notes (n integer); ALTER TABLE notes OWNER TO pgops_leaver")
        try:
            older = made(database, tmp_path)
        finally:
            database.query("REASSIGN OWNED BY pgops_leaver TO CURRENT_USER; DROP ROLE pgops_leaver")
        result = back_up(database, tmp_path, verify="restore")
    assert (result["backups"][0]["action"], result["backups"][0]["verified"]) == ("made", "restore")
    assert f"{older.name} was looked at again: it could not be restored here" in str(result["warnings"])
    # That it was read once more is worth writing down all the same.
    assert [one.how for one in read_verifications(older, read_manifest(older))] == ["decode"]
