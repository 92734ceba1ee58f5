"""How old backups are, by the manifests that stand beside them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest, sealed
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import Verification, record
from tests.ground.databases import Database
from tests.integration.watching import finding, look, status_of

pytestmark = pytest.mark.any_driver
DECLARED = {"name": "shop", "schemas": ["public"], "backup": {"full": {"schedule": "daily"}}}


def backup(folder: Path, database: str, hours: float, *, verified: bool = True, name: str = "full", **more: Any) -> Path:
    """Write the manifest of a backup that was finished so many hours ago."""
    finished = datetime.now(UTC) - timedelta(hours=hours)
    target = folder / f"{database}-{name}-{hours}"
    target.mkdir()
    head = {
        "id": target.name,
        "files": [],
        "format": "pgops.backup/1",
        "name": name,
        "database": database,
        "started_at": (finished - timedelta(minutes=4)).isoformat(),
        "finished_at": finished.isoformat(),
        "bytes": 700 * 1024**2,
        "verified": {"how": "decode", "at": finished.isoformat()} if verified else None,
        "tables": [],
        **more,
    }
    (target / "manifest.json").write_text(json.dumps(sealed(head)), encoding="utf-8")
    return target


def declaring(*kinds: str) -> dict[str, Any]:
    """Return a system with a daily backup of each kind, and what those of parts name."""
    parts = {"schemas": {"schemas": ["public"]}, "tables": {"tables": ["public.orders"]}}
    return {**DECLARED, "backup": {f"{kind}_daily": {"kind": kind, **parts.get(kind, {})} for kind in kinds}}


def watch(database: Database, folder: Path | None, system: str | dict[str, Any] | None = "declared") -> dict[str, Any]:
    systems: dict[str, Any] = {"declared": DECLARED, "silent": {"name": "shop"}}
    return look(
        database,
        "daily",
        checks=["backup"],
        system=systems[system] if isinstance(system, str) else system,
        backup_folder=str(folder) if folder else None,
    )


def statuses(result: dict[str, Any]) -> tuple[str, str]:
    return status_of(result, "backup.age"), status_of(result, "backup.verify_age")


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([(1, True)], ("ok", "ok")),
        ([(25.9, True)], ("ok", "ok")),
        ([(26.1, True)], ("warning", "warning")),
        ([(50.1, True)], ("critical", "critical")),
        # The newest counts, whatever stands beside it.
        ([(100, True), (2, True)], ("ok", "ok")),
        # A backup that nobody has verified is none to count on.
        ([(1, False), (30, True)], ("ok", "warning")),
        ([(1, False)], ("ok", "critical")),
        ([], ("critical", "critical")),
    ],
)
def test_backups_are_judged_by_their_age(
    database: Database, tmp_path: Path, ages: list[tuple[float, bool]], expected: tuple[str, str]
) -> None:
    for hours, verified in ages:
        backup(tmp_path, database.name, hours, verified=verified)
    assert statuses(watch(database, tmp_path)) == expected


def test_backups_of_others_and_of_the_future_do_not_count(database: Database, tmp_path: Path) -> None:
    backup(tmp_path, "another", 1)
    backup(tmp_path, database.name, -2)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / ".working").mkdir()
    result = watch(database, tmp_path)
    assert statuses(result) == ("critical", "critical")
    assert "there is no backup" in finding(result, "backup.age")["message"]


@pytest.mark.parametrize("kind", ["schema_only", "tables", "schemas", "data_only"])
def test_a_backup_of_parts_stands_for_no_whole(database: Database, tmp_path: Path, kind: str) -> None:
    backup(tmp_path, database.name, 1, name="parts", scope={"kind": kind})
    result = watch(database, tmp_path)
    assert statuses(result) == ("critical", "critical")
    assert "there is no backup of kind full" in finding(result, "backup.age")["message"]
    assert [row["kind"] for row in result["details"]["backups"]] == ["parts"]
    backup(tmp_path, database.name, 30)
    result = watch(database, tmp_path)
    assert statuses(result) == ("warning", "warning")
    assert len(result["details"]["backups"]) == 2


@pytest.mark.parametrize(
    ("declared", "kept", "expected"),
    [
        # Nobody asks for a whole one.
        (["tables"], "tables", "ok"),
        (["schemas", "data_only"], "data_only", "ok"),
        (["tables"], "schemas", "critical"),
        # The form of tables holds no row of them.
        (["tables", "schema_only"], "schema_only", "critical"),
        (["schema_only"], "schema_only", "ok"),
        # A whole one is asked for, beside others or by another word.
        (["tables", "full"], "tables", "critical"),
        (["snapshot"], "full", "ok"),
        (["tables", "snapshot"], "tables", "critical"),
        # What this collection does not make is no reason to be content with less.
        (["physical", "wal"], "tables", "critical"),
        (["physical", "wal"], "full", "ok"),
    ],
)
def test_what_a_system_declares_is_what_counts(database: Database, tmp_path: Path, declared: list[str], kept: str, expected: str) -> None:
    backup(tmp_path, database.name, 1, scope={"kind": kept})
    assert statuses(watch(database, tmp_path, declaring(*declared))) == (expected, expected)


def test_a_backup_is_as_old_as_its_snapshot(database: Database, tmp_path: Path) -> None:
    at = datetime.now(UTC) - timedelta(hours=27)
    backup(tmp_path, database.name, 2, snapshot={"at": at.isoformat()})
    result = watch(database, tmp_path)
    assert statuses(result) == ("warning", "warning")
    assert "was taken 27 h ago" in finding(result, "backup.age")["message"]
    # It was finished before the other one, and holds more.
    backup(tmp_path, database.name, 10, snapshot={"at": (at + timedelta(hours=16)).isoformat()})
    assert statuses(watch(database, tmp_path)) == ("ok", "ok")


def test_a_verified_backup_that_has_lost_a_file_does_not_count(database: Database, tmp_path: Path) -> None:
    backup(tmp_path, database.name, 30)
    files = [{"path": "database.dump", "bytes": 3, "sha256": ""}]
    newest = backup(tmp_path, database.name, 1, files=files)
    (newest / "database.dump").write_bytes(b"abc")
    assert statuses(watch(database, tmp_path)) == ("ok", "ok")
    (newest / "database.dump").write_bytes(b"ab")
    result = watch(database, tmp_path)
    assert statuses(result) == ("ok", "warning")
    assert (
        f"{newest.name} does not count any more: database.dump has 2 bytes instead of 3" in finding(result, "backup.verify_age")["message"]
    )
    (newest / "database.dump").unlink()
    assert statuses(watch(database, tmp_path)) == ("ok", "warning")


def test_what_was_found_is_there_for_a_report(database: Database, tmp_path: Path) -> None:
    backup(tmp_path, database.name, 30)
    backup(tmp_path, database.name, 3, verified=False, name="hourly")
    result = watch(database, tmp_path)
    rows = result["details"]["backups"]
    assert [(row["kind"], row["verified"], row["seconds"], row["bytes"]) for row in rows] == [
        ("hourly", None, 240.0, 700 * 1024**2),
        ("full", "decode", 240.0, 700 * 1024**2),
    ]
    assert result["metrics"]["backup.bytes"] == 700 * 1024**2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("[]", "its format is not"),
        ('{"format": "other/1"}', "its format is not"),
        ('{"format": "pgops.backup/1"}', "it has been changed"),
        (json.dumps(sealed({"format": "pgops.backup/1", "files": [], "id": "broken"})), "'finished_at' is missing"),
        (json.dumps(sealed({"format": "pgops.backup/1", "files": [], "id": "another"})), "it is that of another"),
        (
            json.dumps(sealed({"format": "pgops.backup/1", "files": [], "id": "broken", "finished_at": "2026-01-01T00:00:00"})),
            "says no zone",
        ),
    ],
)
def test_a_manifest_that_cannot_be_read_is_no_backup_and_is_told(database: Database, tmp_path: Path, text: str, words: str) -> None:
    backup(tmp_path, database.name, 1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text(text, encoding="utf-8")
    found = finding(watch(database, tmp_path), "backup.age[broken]")
    assert (found["severity"], words in found["message"]) == ("unknown", True)


def test_a_backup_that_a_later_look_found_broken_does_not_count(database: Database, tmp_path: Path) -> None:
    newest, older = backup(tmp_path, database.name, 1), backup(tmp_path, database.name, 30)
    fault = Verification("decode", datetime.now(UTC), False, "toc.dat is cut off")
    record(newest, read_manifest(newest), fault)
    result = watch(database, tmp_path)
    assert statuses(result) == ("ok", "warning")
    assert f"{newest.name} does not count any more" in finding(result, "backup.verify_age")["message"]
    assert "toc.dat is cut off" in finding(result, "backup.verify_age")["message"]
    record(older, read_manifest(older), fault)
    result = watch(database, tmp_path)
    assert statuses(result) == ("ok", "critical")
    assert newest.name in finding(result, "backup.verify_age")["message"]


def test_without_a_folder_declared_backups_are_unknown(database: Database, tmp_path: Path) -> None:
    assert statuses(watch(database, None)) == ("unknown", "unknown")
    assert statuses(watch(database, tmp_path / "nowhere")) == ("unknown", "unknown")
    assert statuses(watch(database, None, "silent")) == ("skipped", "skipped")
    assert statuses(watch(database, None, None)) == ("skipped", "skipped")
