"""What pg_backup_info tells of a folder of backups, and that its documentation is true."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.module_utils._backup import lock
from ansible_collections.pgops.runbook.plugins.module_utils._backup.catalogue import look_through, read_question
from ansible_collections.pgops.runbook.plugins.module_utils._backup.lock import folder_lock, locked
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import Verification, record
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.modules.pg_backup_info import RETURN
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import handmade
from tests.integration.handmade import copied
from tests.integration.test_cleanup_documented import ANSIBLE, unlike

pytestmark = pytest.mark.any_driver
NOW = datetime.now(UTC)
HIDDEN = (".partial-0123456789abcdef-1", ".deleted-tim.full.20200101T000000Z", ".copy-tim.full.20200101T000000Z")
DRILL = {"passed": True, "reasons": [], "rto": {"seconds": 61.5, "target_seconds": None, "met": None}, "rpo": {}}


@pytest.fixture(scope="module")
def originals(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[float, Path]]:
    """Backups of two databases, by the hours that they are old; tests use copies."""
    folder = tmp_path_factory.mktemp("backups")
    with Database.create(cluster, "info one") as one, Database.create(cluster, "info two") as two:
        handmade.fill(cluster, one.name)

        def made(database: Database, hours: float, layout: str = "custom, gzip", **more: Any) -> Path:
            return handmade.dumped(cluster, database.name, folder, layout, taken_at=NOW - timedelta(hours=hours), globals_too=False, **more)

        parts = {"kind": "tables", "schemas": [], "tables": ["public.notes"]}
        yield {
            30: made(one, 30),
            4: made(one, 4, "directory, gzip"),
            3: made(one, 3, verified=None),
            1: made(one, 1, name="hourly", scope=parts),
            10: made(two, 10, "plain, zstd"),
        }


@pytest.fixture
def folder(originals: dict[float, Path], tmp_path: Path) -> Path:
    """A folder with all of them."""
    place = tmp_path / "backups"
    for backup in originals.values():
        copied(backup, place)
    return place


def test_whoever_looks_keeps_no_run_from_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / ".lock").open("w", encoding="ascii") as look:
        # As `locked` does, which is over before whoever wants the lock has waited.
        fcntl.flock(look, fcntl.LOCK_SH)
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            fcntl.flock(look, fcntl.LOCK_UN)

        monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=sleep))
        with folder_lock(tmp_path, "pg_backup"):
            assert locked(tmp_path)
        assert not locked(tmp_path)
        assert [0 < seconds < 1 for seconds in waits] == [True]


def ask(folder: Path, **parameters: Any) -> dict[str, Any]:
    """Return what the engine tells."""
    return look_through(read_question({"folder": str(folder), **parameters}), NOW)


def ages(rows: list[dict[str, Any]]) -> list[int]:
    return [round(row["age_seconds"] / 3600) for row in rows]


def found(how: str, *, ok: bool = True, message: str | None = None, drill: dict[str, Any] | None = None) -> Verification:
    return Verification(how, NOW - timedelta(minutes=30), ok, message, drill)


def test_what_there_is_and_how_much_would_be_lost(folder: Path, originals: dict[float, Path]) -> None:
    told = ask(folder, rpo="5 h", rto="1 h")
    assert ages(told["backups"]) == [1, 3, 4, 10, 30]
    assert told["newest_verified"]["id"] == originals[1].name
    first, newest = told["backups"][0], told["backups"][2]
    assert first["scope"] == {"kind": "tables", "schemas": [], "tables": ["public.notes"]}
    assert (newest["format"], newest["compression"], newest["tables"], newest["rows"]) == ("directory", "gzip", 3, 4300)
    assert newest["bytes"] == sum(path.stat().st_size for path in (folder / newest["id"]).rglob("*") if path.is_file()) - sum(
        (folder / newest["id"] / name).stat().st_size for name in ("manifest.json", "SHA256SUMS")
    )
    by_name = {row["database"]: row for row in told["databases"]}
    # The backup of one table does not stand for the whole, and one that nobody has verified for nothing.
    assert by_name["info one"]["newest_verified"] == originals[4].name
    assert (by_name["info one"]["backups"], by_name["info one"]["verified"]) == (4, 3)
    assert by_name["info one"]["rpo"] == {"seconds": 4 * 3600.0, "target_seconds": 18000.0, "met": True}
    # Of several databases the one that would lose most.
    assert told["rpo"] == by_name["info two"]["rpo"] == {"seconds": 36000.0, "target_seconds": 18000.0, "met": False}
    assert told["rto"] == {"seconds": None, "target_seconds": 3600.0, "met": False}
    assert (told["broken"], told["unfinished"], told["foreign"], told["locked"]) == ([], [], [], False)


def test_a_database_or_a_name_alone(folder: Path) -> None:
    assert ages(ask(folder, database="info two")["backups"]) == [10]
    hourly = ask(folder, name="hourly", rpo="90 min")
    assert (ages(hourly["backups"]), hourly["rpo"]["met"]) == ([1], True)
    nothing = ask(folder, database="nowhere", rpo="1 h")
    assert nothing["newest_verified"] == {}
    assert nothing["rpo"] == {"seconds": None, "target_seconds": 3600.0, "met": False}
    assert ask(folder, database="nowhere")["rpo"]["met"] is None


def test_a_drill_says_how_long_a_recovery_takes(folder: Path, originals: dict[float, Path]) -> None:
    backup = folder / originals[4].name
    record(backup, read_manifest(backup), found("restore", drill=DRILL))
    told = ask(folder, rto="2 min")
    assert told["rto"] == {"seconds": 61.5, "target_seconds": 120.0, "met": True}
    row = next(row for row in told["backups"] if row["id"] == backup.name)
    assert row["verified"] == "restore"
    assert row["last_drill"] == {"at": row["verified_at"], "age_seconds": 1800.0, "passed": True, "rto_seconds": 61.5, "reasons": []}


def test_what_is_broken_counts_for_nothing(folder: Path, originals: dict[float, Path]) -> None:
    failed, short, gone, edited = (folder / originals[hours].name for hours in (4, 30, 10, 1))
    record(failed, read_manifest(failed), found("decode", ok=False, message="database/toc.dat cannot be decoded"))
    dump = short / "database.dump"
    dump.write_bytes(dump.read_bytes()[:-1])
    (gone / "database.sql.zst").unlink()
    (edited / "manifest.json").write_text("{}", encoding="utf-8")
    told = ask(folder)
    why = {one["id"]: one["why"] for one in told["broken"]}
    assert set(why) == {failed.name, short.name, gone.name, edited.name}
    assert "cannot be decoded" in why[failed.name]
    assert "bytes instead of" in why[short.name]
    assert "database.sql.zst cannot be looked at" in why[gone.name]
    assert "its format is not" in why[edited.name]
    assert ages(told["backups"]) == [3, 4, 10, 30]
    assert [row["verified"] for row in told["backups"]] == [None] * 4
    assert told["newest_verified"] == {}
    assert told["rpo"]["seconds"] is None


def test_what_else_stands_there_is_told(folder: Path, originals: dict[float, Path], tmp_path: Path) -> None:
    for name in (*HIDDEN, "info.full.20261121T000000Z", "lost+found", ".snapshot"):
        (folder / name).mkdir()
    (folder / HIDDEN[0] / "database.dump").write_bytes(b"x" * 1000)
    (folder / "notes.txt").write_text("", encoding="utf-8")
    (folder / "link").symlink_to(originals[4])
    with (folder / ".lock").open("w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = ask(folder)
    assert [(one["name"], one["state"], one["bytes"]) for one in told["unfinished"]] == [
        (HIDDEN[2], "being copied", 0),
        (HIDDEN[1], "being deleted", 0),
        (HIDDEN[0], "being made", 1000),
        ("info.full.20261121T000000Z", "without a manifest", 0),
    ]
    assert told["foreign"] == [".snapshot", "link", "lost+found", "notes.txt"]
    assert (told["locked"], len(told["backups"])) == (True, 5)


def test_a_backup_of_the_future_is_nothing_to_count_on(folder: Path, cluster: Cluster, database: Database) -> None:
    handmade.dumped(cluster, database.name, folder, taken_at=NOW + timedelta(days=2), globals_too=False)
    told = ask(folder, database=database.name, rpo="1 h")
    assert (ages(told["backups"]), told["rpo"]["seconds"], told["rpo"]["met"]) == ([-48], None, False)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"folder": "here"}, "folder: 'here' is no absolute path"),
        ({"folder": ""}, "folder: name the folder in which the backups stand"),
        ({"folder": "/nowhere/at/all"}, "cannot be listed"),
        ({"folder": "/", "rpo": "soon"}, "rpo: 'soon' is not a duration"),
        ({"folder": "/", "rto": "0 s"}, "rto: '0 s' is no time"),
    ],
)
def test_what_cannot_be_asked(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        look_through(read_question(parameters))


def test_the_module_tells_what_it_documents(folder: Path, originals: dict[float, Path], run_module: Callable[..., dict[str, Any]]) -> None:
    failed = folder / originals[30].name
    record(failed, read_manifest(failed), found("restore", ok=False, message="public.notes differs", drill={**DRILL, "passed": False}))
    record(folder / originals[4].name, read_manifest(folder / originals[4].name), found("restore", drill=DRILL))
    (folder / HIDDEN[0]).mkdir()
    (folder / "notes").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    results = [run_module("pg_backup_info", {"folder": str(folder), "rpo": "26 h", "rto": ""}, check=check) for check in (False, True)]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert results[0]["changed"] is False
    assert {key: len(results[0][key]) for key in ("backups", "databases", "broken", "unfinished", "foreign")} == {
        "backups": 5,
        "databases": 2,
        "broken": 1,
        "unfinished": 1,
        "foreign": 1,
    }
    documented = {key: facts for key, facts in yaml.safe_load(RETURN).items() if facts["returned"] == "success"}
    for result in results:
        assert unlike({key: value for key, value in result.items() if key not in ANSIBLE}, documented, set()) == []
    refused = run_module("pg_backup_info", {"folder": str(folder / "nowhere")})
    assert (refused["failed"], refused["error"]["type"]) == (True, "InvalidValue")
