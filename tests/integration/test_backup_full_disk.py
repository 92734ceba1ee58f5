"""A disk that is full, at once or with only the last block missing, fails the backup and leaves those that are there as they are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import preflight
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.backing import back_up, left_over
from tests.integration.small_disks import small_disk

pytestmark = pytest.mark.any_driver
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_full_disk") as database:
        yield database


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that returns a file system of so many bytes."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(small_disk(tmp_path / "disk", size))


def fill_up(folder: Path, leave: int) -> None:
    """Leave only so many bytes of a file system."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with (folder / "ballast").open("wb") as file:
        file.truncate(0)
        file.write(b"\0" * (free - leave))


def used_at_most(database: Database, folder: Path, options: dict[str, Any]) -> int:
    """Return the bytes that a backup takes on its disk when it is done."""
    before = os.statvfs(folder).f_bavail
    backup = backing.made(database, folder, min_free="0", **options)
    used = (before - os.statvfs(folder).f_bavail) * os.statvfs(folder).f_frsize
    subprocess.run(["rm", "-r", str(backup)], check=True)
    return used


def test_a_full_disk_is_refused_before_anything_begins(tim: Database, disk: Callable[[int], Path]) -> None:
    folder = disk(1 << 20)
    fill_up(folder, 16 * PAGE)
    with pytest.raises(Unfinished, match=r"free; the backup needs about"):
        back_up(tim, folder, min_free="0")
    assert left_over(folder) == ["ballast"]


@pytest.mark.parametrize(
    "options",
    [
        {"format": "directory", "compression": "gzip"},
        {"format": "custom", "compression": "zstd"},
        {"format": "plain", "compression": "none"},
    ],
    ids=lambda options: options["format"],
)
def test_every_block_that_can_be_missing(
    tim: Database, disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    folder = disk(8 << 20)
    good = backing.made(tim, folder, min_free="0", name="good", **options)
    before = {path: path.read_bytes() for path in good.rglob("*") if path.is_file()}
    used = used_at_most(tim, folder, options)
    # The disk of a backup may fill up after it has begun.
    monkeypatch.setattr(preflight, "require_room", lambda *_arguments: None)
    blocks = used // PAGE
    said = []
    for missing in sorted({1, 2, 3, blocks // 2, blocks - 2}):
        fill_up(folder, used - missing * PAGE)
        try:
            done = back_up(tim, folder, min_free="0", **options)
        except Unfinished as failure:
            said.append(failure.message)
        else:
            # A little less than before was enough: then it is whole.
            assert backing.row_counts(Path(done["backups"][0]["path"])) == backing.ROWS
            subprocess.run(["rm", "-r", done["backups"][0]["path"]], check=True)
        assert left_over(folder) == ["ballast"]
        (folder / "ballast").unlink()
    assert len(said) >= 3
    assert [message for message in said if "No space left on device" not in message] == []
    assert {path: path.read_bytes() for path in good.rglob("*") if path.is_file()} == before
    assert back_up(tim, folder, min_free="0", **options)["changed"]
