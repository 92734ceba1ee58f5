"""Copies in second places: a folder, what rsync reaches and what rclone reaches, with the hashes looked at there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import engine
from ansible_collections.pgops.runbook.plugins.module_utils._backup.copies import Copied, copy_out, purge_copies, read_copies
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import head_of, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.integration import backing, handmade
from tests.integration.handmade import look
from tests.tools import debian_programs

pytestmark = pytest.mark.any_driver
NOW = datetime.now(UTC)
# A shell that rsync takes for ssh: what it is told to run on a host, it runs here.
SHELL = '#!/bin/sh\nshift\nexec sh -c "$*"\n'


@pytest.fixture(scope="module")
def made(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A backup with files in folders, which tests leave as it is."""
    with Database.create(cluster, "copy-me") as database:
        handmade.fill(cluster, database.name)
        yield handmade.dumped(cluster, database.name, tmp_path_factory.mktemp("backups"), "directory, gzip")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An empty second place."""
    folder = tmp_path / "second place"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def place(request: pytest.FixtureRequest, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The option that names the second place in each of the ways."""
    how: str = request.param
    programs = {"rsync": "rsync", "rsync over a shell": "rsync", "rclone": "rclone"}
    if how in programs:
        try:
            folder = debian_programs.program(programs[how]).parent
        except ProgramMissing as reason:
            pytest.skip(str(reason))
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    if how == "rsync over a shell":
        shell = tmp_path / "shell"
        shell.write_text(SHELL, encoding="utf-8")
        shell.chmod(0o755)
        monkeypatch.setenv("RSYNC_RSH", str(shell))
        return {"rsync": f"somewhere:{there}"}
    if how == "rclone":
        config = tmp_path / "rclone.conf"
        config.write_text("[offsite]\ntype = alias\nremote = /\n", encoding="utf-8")
        monkeypatch.setenv("RCLONE_CONFIG", str(config))
        return {"rclone": f"offsite:{there}"}
    return {how: str(there)}


every_way = pytest.mark.parametrize("place", ["path", "rsync", "rsync over a shell", "rclone"], indirect=True)


def copy(backup: Path, *places: Mapping[str, Any], **options: Any) -> list[Copied]:
    """Copy a backup to the places that the option `copies` would name."""
    return copy_out(backup, read_manifest(backup), read_copies(list(places), backup.parent), **options)


def only(backup: Path, place: Mapping[str, Any], **options: Any) -> Copied:
    """Copy a backup to one place."""
    (done,) = copy(backup, place, **options)
    return done


def times(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which files are there, and since when."""
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@every_way
def test_a_copy_is_whole_and_is_made_once(made: Path, there: Path, place: dict[str, Any]) -> None:
    planned = only(made, place, check_mode=True)
    assert (planned.action, list(there.iterdir())) == ("copied", [])
    done = only(made, place)
    assert (done.action, done.message) == ("copied", None)
    assert done.bytes == read_manifest(made)["bytes"]
    assert look(there / made.name).ok
    assert [head.folder for head in read_heads(str(there))[0]] == [made.name]
    assert {oct(path.stat().st_mode & 0o777) for path in there.rglob("*") if path.is_file()} == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in (there / made.name).rglob("*") if path.is_dir()} <= {"0o700"}
    before = times(there)
    assert only(made, place).action == "present"
    assert only(made, place, check_mode=True).action == "present"
    assert times(there) == before


@every_way
def test_half_a_copy_is_no_backup_and_is_finished(made: Path, there: Path, place: dict[str, Any]) -> None:
    assert only(made, place).action == "copied"
    (there / made.name / "manifest.json").unlink()
    if "path" in place:
        # A killed run leaves a hidden folder only.
        (there / made.name).rename(there / f".copy-{made.name}")
    else:
        (there / made.name / "database" / "toc.dat").unlink()
    assert read_heads(str(there)) == ([], [])
    assert only(made, place).action == "copied"
    assert look(there / made.name).ok
    assert [path.name for path in there.iterdir() if path.name != ".lock"] == [made.name]


@every_way
def test_a_second_place_that_fails_is_told(made: Path, there: Path, place: dict[str, Any]) -> None:
    there.rmdir()
    there.write_text("a file", encoding="utf-8")
    done = only(made, place)
    assert done.action == "failed"
    assert str(done.message).startswith("copies[0]: ")
    there.unlink()
    there.mkdir()
    assert only(made, place).action == "copied"


def _break(folder: Path, name: str, script: str) -> None:
    """Put a program in front of the real one."""
    real = shutil.which(name)
    assert real
    wrapper = folder / name
    wrapper.write_text(f"#!/bin/sh\nreal={real}\n{script}", encoding="utf-8")
    wrapper.chmod(0o755)


@pytest.mark.parametrize("place", ["rsync", "rclone"], indirect=True)
def test_what_changes_on_its_way_never_gets_a_manifest(
    made: Path, there: Path, place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit that flips at the second place while the size and the time stay."""
    (kind,) = place
    flip = (
        f'"$real" "$@"; code=$?\nfile="{there}/{made.name}/database/toc.dat"\n'
        'case "$*" in *dry-run*|check\\ *) ;; *) [ -f "$file" ] && touch -r "$file" "$file.time" && '
        'printf X | dd of="$file" bs=1 seek=200 conv=notrunc 2>/dev/null && touch -r "$file.time" "$file"; rm -f "$file.time";; esac\n'
        "exit $code\n"
    )
    (tmp_path / "bin").mkdir()
    _break(tmp_path / "bin", kind, flip)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    done = only(made, place)
    assert done.action == "failed"
    assert "is not what was sent" in str(done.message)
    assert not (there / made.name / "manifest.json").exists()
    (tmp_path / "bin" / kind).unlink()
    assert only(made, place).action == "copied"
    assert look(there / made.name).ok


@pytest.mark.parametrize("place", ["rsync", "rclone"], indirect=True)
def test_a_program_that_is_missing_or_dies_is_named(
    made: Path, there: Path, place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kind,) = place
    (tmp_path / "bin").mkdir()
    _break(tmp_path / "bin", kind, "echo the line is cut >&2; exit 12\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert f"{kind} ended with exit code 12: the line is cut" in str(only(made, place).message)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"Install the package {kind}" in str(only(made, place).message)
    assert list(there.iterdir()) == []


def test_one_place_that_fails_keeps_no_other_from_its_copy(made: Path, there: Path, tmp_path: Path) -> None:
    failed, done = copy(made, {"path": str(tmp_path / "not mounted")}, {"path": str(there)})
    assert (failed.action, done.action) == ("failed", "copied")
    assert "is not there" in str(failed.message)
    assert not (tmp_path / "not mounted").exists()
    assert "same file system" in done.notices[0]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"path": "/nowhere/second"}, "/nowhere/second is not there"),
        ({"rsync": "backup@host:/srv"}, "Install the package rsync"),
        ({"rclone": "offsite:backups"}, "Install the package rclone"),
    ],
)
def test_check_mode_looks_at_the_places_before_there_is_a_backup(
    database: Database, tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch, place: dict[str, Any], words: str
) -> None:
    given = {
        "folder": str(tmp_path / "backups"),
        "bin_dir": backing.bin_dir(),
        "min_free": "1 MB",
        "format": "custom",
        "compression": "none",
        "globals": False,
    }
    options = read_options({**given, "copies": [place, {"path": str(there)}]})
    login = backing.login(database)
    monkeypatch.setenv("PATH", str(tmp_path))
    for check in (True, False):
        with pytest.raises(engine.Unfinished, match="a copy of it") as caught:
            engine.back_up(login, options, check_mode=check)
        (entry,) = caught.value.as_result()["backups"]
        assert entry["action"] == "made"
        assert [copy["action"] for copy in entry["copies"]] == ["failed", "copied"]
        assert words in entry["copies"][0]["msg"]
    assert [path.name for path in there.iterdir() if path.name != ".lock"] == [entry["id"]]


def test_a_copy_that_is_not_right_any_more_is_told_and_left_alone(made: Path, there: Path) -> None:
    assert only(made, {"path": str(there)}).action == "copied"
    toc = there / made.name / "database" / "toc.dat"
    toc.write_bytes(toc.read_bytes()[:-1])
    assert "is not whole any more: database/toc.dat" in str(only(made, {"path": str(there)}).message)
    shutil.copy(made / "database" / "toc.dat", toc)
    handmade.resealed(there / made.name, tables=[])
    before = times(there)
    assert "another backup of the name" in str(only(made, {"path": str(there)}).message)
    assert times(there) == before


@pytest.mark.parametrize("place", ["path", "rsync", "rsync over a shell", "rclone"], indirect=True)
def test_the_backup_of_another_host_with_the_same_name_is_left_alone(
    made: Path, there: Path, place: dict[str, Any], tmp_path: Path
) -> None:
    """Two servers have a database of the same name, and their backups are taken in the same second."""
    assert only(made, place).action == "copied"
    before = times(there)
    others = handmade.resealed(handmade.copied(made, tmp_path / "others"), system_identifier="1")
    for check in (True, False):
        done = only(others, place, check_mode=check)
        assert (done.action, times(there)) == ("failed", before)
        assert f"another backup of the name {made.name}" in str(done.message)


@pytest.mark.parametrize("place", ["path", "rsync", "rclone"], indirect=True)
def test_a_source_that_is_broken_is_not_passed_on(made: Path, there: Path, place: dict[str, Any], tmp_path: Path) -> None:
    backup = handmade.copied(made, tmp_path / "spoilt")
    toc = backup / "database" / "toc.dat"
    content = bytearray(toc.read_bytes())
    content[100] ^= 1
    toc.write_bytes(bytes(content))
    done = only(backup, place)
    assert done.action == "failed"
    assert "is not what was backed up: database/toc.dat" in str(done.message)
    assert [path.name for path in there.iterdir() if path.name != ".lock"] == []


def test_two_runs_that_copy_to_one_place_do_not_meet(made: Path, there: Path) -> None:
    with (there / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is at work" in str(only(made, {"path": str(there)}).message)
    assert only(made, {"path": str(there)}).action == "copied"


def test_a_run_that_is_over_leaves_no_half_copy(made: Path, there: Path) -> None:
    class Over(Exception):
        pass

    def over() -> None:
        raise Over

    with pytest.raises(Over):
        only(made, {"path": str(there)}, tick=over)
    assert [path.name for path in there.iterdir()] == [".lock"]


def test_a_place_has_rules_of_its_own(cluster: Cluster, database: Database, there: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    options = {"path": str(there), "keep": {"count": 2}}
    names = []
    for days in (3, 2, 1):
        backup = handmade.dumped(
            cluster, database.name, tmp_path / "backups", "plain, none", taken_at=NOW - timedelta(days=days), globals_too=False
        )
        names.append(backup.name)
        done = only(backup, options)
    (there / "somebody's").mkdir()
    planned, gone = (purge_copies([done], head_of(backup, read_manifest(backup)), NOW, check_mode=check)[0] for check in (True, False))
    assert list(planned.purged) == list(gone.purged) == names[:1]
    assert only(backup, options).action == "present"
    assert sorted(path.name for path in there.iterdir() if path.name != ".lock") == sorted([*names[1:], "somebody's"])
    assert len(read_heads(str(tmp_path / "backups"))[0]) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "copies[0]: it names no place"),
        ({"path": "/a", "rsync": "b:/c"}, "copies[0]: it names path and rsync"),
        ({"ftp": "x"}, "copies[0]: 'ftp' is not known"),
        ({"path": "here"}, "copies[0].path: 'here' is no absolute path"),
        ({"path": "/backups"}, "is the folder of the backups itself"),
        ({"path": "/backups/second"}, "is the folder of the backups itself"),
        ({"path": "/"}, "is the folder of the backups itself"),
        ({"rsync": "host:/a", "keep": {"count": 3}}, "copies[0].keep: only copies to a path"),
        ({"path": "/second", "keep": {"count": 0}}, "copies[0].keep.count: 0"),
        ({"rsync": "--rsync-path=evil"}, "is no place"),
        ({"rclone": "folder"}, "is no place"),
        ({"rsync": "rsync://me:secret@host/module"}, "it holds a password"),
        ({"rclone": ":s3,secret_access_key=secret:bucket"}, "it holds a password"),
        ({"rclone": "offsite,pass=secret:bucket"}, "it holds a password"),
    ],
)
def test_a_place_that_is_none_is_refused_without_showing_secrets(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_copies([given], Path("/backups"))
    assert words in caught.value.message
    assert "secret" not in str(caught.value.as_result()).replace("what is secret", "")
