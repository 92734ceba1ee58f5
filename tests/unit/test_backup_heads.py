"""What the folders of backups say of themselves, and what later verifications change about it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import iso, read_manifest, sealed, write_document
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import backup_id
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import (
    Verification,
    read_verifications,
    record,
    standing,
)
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

TAKEN = datetime(2026, 11, 21, 2, 0, 1, tzinfo=UTC)


def backup(folder: Path, *, verified: str | None = "decode", **more: Any) -> Path:
    """Make a backup of one file."""
    taken = more.pop("taken_at", TAKEN)
    path = folder / more.pop("id", backup_id("shop", "full", taken))
    path.mkdir()
    document = {
        "format": "pgops.backup/1",
        "id": path.name,
        "name": "full",
        "database": "shop",
        "system_identifier": "7000000000000000001",
        "scope": {"kind": "schemas", "schemas": ["a", "b"], "tables": []},
        "started_at": iso(taken - timedelta(seconds=1)),
        "finished_at": iso(taken + timedelta(minutes=4)),
        "bytes": 700,
        "verified": {"how": verified, "at": iso(taken + timedelta(minutes=5))} if verified else None,
        "snapshot": {"at": iso(taken), "lsn": "0/1", "in_recovery": False},
        "files": [],
    }
    write_document(path / "manifest.json", sealed({**document, **more}))
    return path


def found(how: str, hours: float, *, ok: bool = True, message: str | None = None, **more: Any) -> Verification:
    """Return what a look so many hours after the backup has found."""
    return Verification(how, TAKEN + timedelta(hours=hours), ok, message, **more)


def only(folder: Path) -> Head:
    """Return the one backup in a folder."""
    heads, faults = read_heads(str(folder))
    assert (len(heads), faults) == (1, [])
    return heads[0]


def fault(folder: Path) -> str:
    """Return what is wrong with the one backup in a folder, which does not count."""
    heads, faults = read_heads(str(folder))
    assert (heads, len(faults)) == ([], 1)
    return faults[0].message


def test_a_head_says_what_matters(tmp_path: Path) -> None:
    path = backup(tmp_path)
    head = only(tmp_path)
    assert (head.folder, head.database, head.name, head.size, head.seconds) == (path.name, "shop", "full", 700, 241.0)
    assert (head.taken_at, head.verified, head.broken, head.drill) == (TAKEN, "decode", None, None)
    assert head.scope == ("schemas", ("a", "b"), ())
    assert head.series == ("7000000000000000001", "shop", "full")


@pytest.mark.parametrize(
    ("later", "verified", "broken"),
    [
        ([], "decode", None),
        ([found("checksum", 1)], "decode", None),
        ([found("restore", 1)], "restore", None),
        ([found("checksum", 1, ok=False, message="database.dump is missing")], None, "database.dump is missing"),
        # What goes less deep cannot make it good; what goes as deep can.
        ([found("restore", 1, ok=False), found("decode", 2)], None, "(restore) at 2026-11-21T03:00:01"),
        ([found("decode", 1, ok=False), found("decode", 2)], "decode", None),
        ([found("decode", 1, ok=False), found("restore", 2), found("checksum", 3)], "restore", None),
        ([found("restore", 1, ok=False, message="a"), found("checksum", 2, ok=False, message="b"), found("decode", 3)], None, "a"),
    ],
)
def test_later_verifications_count(tmp_path: Path, later: list[Verification], verified: str | None, broken: str | None) -> None:
    path = backup(tmp_path)
    manifest = (path / "manifest.json").read_bytes()
    for one in later:
        record(path, read_manifest(path), one)
    head = only(tmp_path)
    assert head.verified == verified
    assert (broken in str(head.broken)) if broken else head.broken is None
    assert (path / "manifest.json").read_bytes() == manifest
    assert later == read_verifications(path, read_manifest(path))


def test_a_backup_that_nobody_verified_counts_once_somebody_did(tmp_path: Path) -> None:
    path = backup(tmp_path, verified=None)
    assert (only(tmp_path).verified, only(tmp_path).broken) == (None, None)
    record(path, read_manifest(path), found("decode", 1))
    assert (only(tmp_path).verified, only(tmp_path).verified_at) == ("decode", TAKEN + timedelta(hours=1))


def test_the_last_drill_is_known_whatever_came_after_it(tmp_path: Path) -> None:
    path = backup(tmp_path)
    record(path, read_manifest(path), found("restore", 1, drill={"rto_seconds": 12.5}))
    record(path, read_manifest(path), found("checksum", 2))
    drill = only(tmp_path).drill
    assert drill is not None
    assert (drill.drill, drill.ok) == ({"rto_seconds": 12.5}, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("", "Expecting"),
        ("[]", "its format is not"),
        ('{"format": "pgops.verified/1"}', "'of' is missing"),
        ('{"format": "pgops.verified/1", "of": "0", "entries": []}', "it is that of another backup"),
    ],
)
def test_verifications_that_nobody_can_read_are_not_ok(tmp_path: Path, text: str, words: str) -> None:
    """A failure may stand in them: the backup does not count until it is looked at again."""
    path = backup(tmp_path)
    (path / "verified.json").write_text(text, encoding="utf-8")
    head = only(tmp_path)
    assert head.verified is None
    assert words in str(head.broken)
    record(path, read_manifest(path), found("decode", 1))
    assert (only(tmp_path).verified, only(tmp_path).broken) == ("decode", None)


def test_what_a_restore_had_found_is_not_made_good_by_less_than_a_restore(tmp_path: Path) -> None:
    path = backup(tmp_path, tables=[])
    manifest = read_manifest(path)
    (path / "verified.json").write_text("torn", encoding="utf-8")
    for hours in (1, 2):
        record(path, manifest, found("decode", hours), repeats=True)
        assert (only(tmp_path).verified, "what was found earlier cannot be read" in str(only(tmp_path).broken)) == (None, True)
    assert [(one.how, one.ok) for one in read_verifications(path, manifest)] == [("restore", False), ("decode", True)]
    record(path, manifest, found("restore", 3))
    assert (only(tmp_path).verified, only(tmp_path).broken) == ("restore", None)
    # What no restore proves anything of is as whole as it can be found.
    rows = backup(tmp_path, id="rows", tables=[], scope={"kind": "data_only"})
    (rows / "verified.json").write_text("torn", encoding="utf-8")
    record(rows, read_manifest(rows), found("decode", 1))
    assert standing(rows, read_manifest(rows)).how == "decode"


def test_one_that_goes_while_it_is_read_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, stays = (backup(tmp_path, id=name) for name in ("gone", "stays"))
    real = heads.read_manifest

    def reading(path: Path) -> Any:
        if path == gone:
            path.rename(tmp_path / ".deleted-gone")
        return real(path)

    monkeypatch.setattr(heads, "read_manifest", reading)
    assert only(tmp_path).folder == stays.name


@pytest.mark.parametrize(
    "entry",
    [
        {"how": "decode", "at": "2026-01-01T00:00:00Z", "ok": "yes"},
        {"how": "hope", "at": "2026-01-01T00:00:00Z", "ok": True},
        {"how": "decode", "at": "2026-01-01T00:00:00", "ok": True},
        {"how": "decode", "ok": True},
        [],
        None,
    ],
)
def test_an_entry_that_says_nothing_is_not_ok(tmp_path: Path, entry: Any) -> None:
    path = backup(tmp_path)
    document = {"format": "pgops.verified/1", "of": read_manifest(path)["sha256"], "entries": [entry]}
    (path / "verified.json").write_text(json.dumps(document), encoding="utf-8")
    assert standing(path, read_manifest(path)).broken


def test_of_two_that_write_at_once_none_is_lost(tmp_path: Path) -> None:
    path = backup(tmp_path)
    manifest = read_manifest(path)
    threads = [threading.Thread(target=record, args=(path, manifest, found("checksum", hours))) for hours in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_verifications(path, manifest)) == 8


def test_a_manifest_that_was_changed_counts_for_nothing(tmp_path: Path) -> None:
    path = backup(tmp_path)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"decode"', '"restore"'), encoding="utf-8")
    assert "it has been changed" in fault(tmp_path)


def test_a_backup_under_another_name_counts_for_nothing(tmp_path: Path) -> None:
    path = backup(tmp_path)
    shutil.copytree(path, tmp_path / "before-the-migration")
    heads, faults = read_heads(str(tmp_path))
    assert [head.folder for head in heads] == [path.name]
    assert "it is that of shop.full.20261121T020001Z" in faults[0].message
    assert faults[0].object_name == "before-the-migration"


def _is_folder(manifest: Path) -> None:
    manifest.mkdir()


def _is_pipe(manifest: Path) -> None:
    os.mkfifo(manifest)


def _points_nowhere(manifest: Path) -> None:
    manifest.symlink_to("nowhere")


def _points_to_itself(manifest: Path) -> None:
    manifest.symlink_to("manifest.json")


@pytest.mark.parametrize("kind", [_is_folder, _is_pipe, _points_nowhere, _points_to_itself])
def test_a_manifest_that_is_none_is_told(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "odd").mkdir()
    kind(tmp_path / "odd" / "manifest.json")
    assert "odd" in fault(tmp_path)


@pytest.mark.parametrize("closed", ["manifest.json", "verified.json", ""])
def test_what_may_not_be_read_is_told(tmp_path: Path, closed: str) -> None:
    path = backup(tmp_path)
    (path / "verified.json").write_text("{}", encoding="utf-8")
    place = Path("/") / "tmp" / f"pgops-closed-{os.getpid()}"
    shutil.copytree(tmp_path, place)
    place.chmod(0o755)
    own = place / path.name
    for one in (own, *own.iterdir()):
        one.chmod(0o755)
    (own / closed).chmod(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            heads, faults = read_heads(str(place))
            told = [*(str(head.broken) for head in heads), *(one.message for one in faults)]
            code = 0 if len(told) == 1 and "Permission denied" in told[0] else 2
        finally:
            os._exit(code)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        own.chmod(0o755)
        shutil.rmtree(place)


def test_links_hidden_folders_and_files_are_no_backups(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    backup(tmp_path, id="elsewhere")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    backup(folder, id=".partial-1")
    backup(folder, id=".deleted-1")
    (folder / "file").write_text("", encoding="utf-8")
    (folder / "unfinished").mkdir()
    assert read_heads(str(folder)) == ([], [])


def test_two_of_the_same_second_are_both_there(tmp_path: Path) -> None:
    first, second = backup(tmp_path), backup(tmp_path, id="shop.full.20261121T020002Z")
    assert [head.folder for head in read_heads(str(tmp_path))[0]] == [second.name, first.name]


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidValue, match="cannot be listed"):
        read_heads(str(tmp_path / folder))
