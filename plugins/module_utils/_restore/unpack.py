# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private folder in which files that a program compressed stand as pg_restore reads them, for as long as it needs them.

Nothing that is encrypted is ever unpacked here. The folder is locked as long as the run lives, so that the next one removes what a run
that was killed has left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import decoders
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

PREFIX = ".pgops-restore-"
_PACKED = (".zst", ".lz4")
_GUESSED_RATIO = 6  # where a packed file does not say how large it was
_RESERVE = 64 * 1024 * 1024
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@contextmanager
def scratch_folder(parent: Path | None, backup: Path) -> Iterator[Path]:
    """Yield a folder that only this account can look into, in `parent`, else beside the backup, else where temporary files go."""
    place = _place(parent, backup)
    clear_leftovers(place)
    folder, handle = _locked(place)
    try:
        yield folder
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
        os.close(handle)


def _locked(place: Path) -> Tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=str(place)))
        handle = _opened(folder)
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists() and folder.stat().st_ino == os.fstat(handle).st_ino:
                return folder, handle
            # Another run has cleared it in the moment before the lock was taken.
            os.close(handle)


def _opened(folder: Path) -> int | None:
    try:
        return os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def _place(parent: Path | None, backup: Path) -> Path:
    if parent is not None:
        if not parent.is_dir() or not os.access(str(parent), os.W_OK | os.X_OK):
            raise Refused(f"scratch_folder: {parent} is not a folder that this account can write in", object_name="scratch_folder")
        return parent
    beside = backup.parent
    return beside if os.access(str(beside), os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def clear_leftovers(place: Path) -> List[str]:
    """Remove the folders of runs that are dead from `place` and return their names."""
    gone = []
    for folder in sorted(place.glob(PREFIX + "*")):
        handle = _opened(folder)
        if handle is None:
            continue  # somebody else's
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_uid == os.geteuid():
                shutil.rmtree(str(folder), ignore_errors=True)
                gone.append(folder.name)
        except BlockingIOError:
            continue  # a run that lives
        finally:
            os.close(handle)
    return gone


def is_packed(name: str) -> bool:
    """Say whether a program other than pg_dump compressed the file."""
    return name.endswith(_PACKED)


def unpack(files: Sequence[Tuple[Path, Path]], parallel: int, tick: Tick | None = None) -> None:
    """Decompress each first file into the second, which is made, `parallel` at a time. Raises Refused where there is no room for them."""
    if not files:
        return
    _require_room(files[0][1].parent, sum(map(unpacked_size, (source for source, _target in files))))
    waiting = sorted(files, key=lambda pair: pair[0].stat().st_size)
    running: List[Tuple[Child, Path]] = []
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                source, target = waiting.pop()
                running.append((_started(source, target), source))
            child, source = running.pop(0)
            with child:
                if child.wait(tick):
                    raise RunbookError(
                        f"{source} could not be unpacked: {child.failure().message}", object_name=str(source), hint=child.failure().hint
                    )
    finally:
        for child, _source in running:
            child.end()


def _started(source: Path, target: Path) -> Child:
    inside = os.open(str(source), os.O_RDONLY)
    outside = os.open(str(target), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        return Child(decoders(source.name)[0], stdin=inside, stdout=outside)
    finally:
        os.close(inside)
        os.close(outside)


def _require_room(place: Path, needed: int) -> None:
    about = os.statvfs(str(place))
    free = about.f_bavail * about.f_frsize
    if free < needed + _RESERVE:
        raise Refused(
            f"{place} has {format_size(free)} left, and unpacking the backup takes about {format_size(needed)}",
            object_name=str(place),
            hint="Make room there, or name another folder by scratch_folder.",
        )


def unpacked_size(path: Path) -> int:
    """Return how large a packed file was: what its head says, or a guess on the safe side."""
    size = path.stat().st_size
    with path.open("rb") as file:
        said = zstd_content_size(file.read(18))
    return _GUESSED_RATIO * size if said is None else max(said, size)


def zstd_content_size(head: bytes) -> int | None:
    """Return the size that the head of the first frame of a file of zstd says, None where it says none or the file is another's."""
    if len(head) < 6 or not head.startswith(_ZSTD_MAGIC):
        return None
    descriptor = head[4]
    flag, single = descriptor >> 6, bool(descriptor & 0x20)
    width = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[flag]
    start = 5 + (0 if single else 1) + {0: 0, 1: 1, 2: 2, 3: 4}[descriptor & 3]
    if not width or len(head) < start + width:
        return None
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)


def lay_out(folder: Path, members: Mapping[str, Path], parallel: int, tick: Tick | None = None) -> Dict[str, Path]:
    """Make `folder` hold every member under its unpacked name: a link to one that is as it should be, an unpacked copy of the others."""
    laid: Dict[str, Path] = {}
    packed = []
    for name, source in members.items():
        plain = Path(name).stem if is_packed(name) else name
        laid[plain] = folder / plain
        if is_packed(name):
            packed.append((source, folder / plain))
        else:
            (folder / plain).symlink_to(source)
    unpack(packed, parallel, tick)
    return laid
