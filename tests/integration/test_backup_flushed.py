"""What a backup consists of survives a crash of the machine: every file, every folder and every name is flushed, and in that order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import made

pytestmark = pytest.mark.any_driver

FORMS: dict[str, dict[str, Any]] = {
    "directory, members compressed after pg_dump": {"format": "directory", "compression": "zstd"},
    "directory, as pg_dump writes it": {"format": "directory", "compression": "gzip"},
    "custom": {"format": "custom", "compression": "gzip"},
    "plain": {"format": "plain", "compression": "zstd"},
}


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_flushed") as database:
        yield database


@dataclass
class Disk:
    """What this process has flushed: by inode, when for the last time and with which size; and when what was renamed to what."""

    flushed: dict[int, tuple[int, int]] = field(default_factory=dict)
    renamed: dict[str, tuple[int, str]] = field(default_factory=dict)
    steps: int = 0

    def fsync(self, place: int) -> None:
        """Note the end of a flush: what comes before it has to be done by then."""
        REAL_FSYNC(place)
        about = os.fstat(place)
        self.steps += 1
        self.flushed[about.st_ino] = (self.steps, about.st_size if stat.S_ISREG(about.st_mode) else 0)

    def rename(self, source: Any, target: Any, **_more: Any) -> None:
        """Note a new name."""
        REAL_RENAME(source, target)
        self.steps += 1
        self.renamed[os.fspath(target)] = (self.steps, os.fspath(source))

    def step(self, path: Path) -> int:
        """Return when what stands at `path` was flushed for the last time, 0 where it never was."""
        return self.flushed.get(path.lstat().st_ino, (0, 0))[0]

    def faults(self, path: Path, *, after: int = 0, before: int | None = None) -> list[str]:
        """Return why what stands at `path` was not flushed as it is now, within these steps."""
        about = path.lstat()
        step, size = self.flushed.get(about.st_ino, (0, 0))
        if not step:
            return [f"{path} was never flushed"]
        if not after < step < (before or step + 1):
            return [f"{path} was flushed at step {step}, not between {after} and {before}"]
        return [] if stat.S_ISDIR(about.st_mode) or size == about.st_size else [f"{path} was written to after it was flushed"]


REAL_FSYNC, REAL_RENAME = os.fsync, os.rename


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """What is flushed during the test."""
    noted = Disk()
    monkeypatch.setattr(os, "fsync", noted.fsync)
    monkeypatch.setattr(os, "rename", noted.rename)
    return noted


def unflushed(disk: Disk, backup: Path, hidden: str) -> list[str]:
    """Return what was not flushed of a backup before it got its name, from a folder whose name begins with `hidden`, and after that."""
    step, source = disk.renamed[str(backup)]
    assert Path(source).name.startswith(hidden)
    found = [backup, *backup.rglob("*")]
    assert {path.name for path in found} >= {"manifest.json", "objects.json", "SHA256SUMS"}
    faults: list[str] = []
    for path in found:
        # A folder holds the names of what is in it, and so comes after that.
        inside = [disk.step(one) for one in found if one.parent == path]
        faults += disk.faults(path, before=step, after=max(inside, default=0))
    return faults + disk.faults(backup.parent, after=step)


@pytest.mark.parametrize("form", FORMS)
def test_everything_is_flushed_before_it_gets_its_name_and_the_name_after_it(tim: Database, tmp_path: Path, disk: Disk, form: str) -> None:
    second = tmp_path / "second"
    second.mkdir()
    backup = made(tim, tmp_path / "new" / "backups", copies=[{"path": str(second)}], **FORMS[form])
    assert unflushed(disk, backup, ".partial-") == []
    assert unflushed(disk, second / backup.name, ".copy-") == []
    # The folder of the backups was made by this run, and so was the one around it.
    around = (backup.parent.parent, tmp_path)
    assert [fault for folder in around for fault in disk.faults(folder, before=disk.renamed[str(backup)][0])] == []


def test_what_later_verifications_found_is_flushed_too(tim: Database, tmp_path: Path, disk: Disk) -> None:
    backup = made(tim, tmp_path, verify="checksum", compression="none")
    made_at = disk.steps
    assert backing.back_up(tim, tmp_path)["backups"][0]["action"] == "verified"
    assert disk.faults(backup / "verified.json", after=made_at) == []
    assert disk.faults(backup, after=disk.step(backup / "verified.json")) == []
