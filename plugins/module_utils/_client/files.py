# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the disk: written whole, flushed, hashed; and what is said where that fails."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, TypeVar, Union

from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

AnyPath = Union[str, Path]
Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 1024 * 1024
WORKERS = min(4, os.cpu_count() or 1)  # files that are read at once, where nobody says how many
_HINTS = {
    errno.ENOSPC: "Make room on that file system, or choose another folder.",
    errno.EDQUOT: "The quota of the account or the folder is used up: raise it, or choose another folder.",
    errno.EFBIG: "Look at the limit of file sizes (ulimit -f) and at what that file system allows.",
    errno.EIO: "The disk fails: look in the kernel's log, and do not trust what stands on it.",
    errno.EROFS: "That file system is mounted read-only.",
}


@dataclass(frozen=True)
class Written:
    """How many bytes a file has, and their SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


class Digest:
    """Counts and hashes bytes as they pass."""

    def __init__(self) -> None:
        self._hash, self._size = hashlib.sha256(), 0

    def add(self, data: bytes) -> None:
        """Take the next bytes in."""
        self._hash.update(data)
        self._size += len(data)

    def written(self) -> Written:
        """Return what has passed so far."""
        return Written(self._size, self._hash.hexdigest())


class Rhythm:
    """Calls `tick` each `every` seconds, when asked often enough."""

    def __init__(self, tick: Optional[Tick], every: float) -> None:
        self._tick = tick
        self._every = every
        self._due = time.monotonic() + every

    def left(self) -> float:
        """Return the seconds until the next call is due."""
        return max(0.0, self._due - time.monotonic())

    def beat(self) -> bool:
        """Call `tick` if it is due, and tell whether it was."""
        if time.monotonic() < self._due:
            return False
        if self._tick is not None:
            self._tick()
        self._due = time.monotonic() + self._every
        return True


def storage_error(error: OSError, path: AnyPath) -> RunbookError:
    """Return the error for what the operating system says about a file, with what to do about it."""
    why = error.strerror or str(error)
    return RunbookError(f"{path}: {why}.", object_name=str(path), hint=_HINTS.get(error.errno or 0))


def hash_files(paths: Sequence[AnyPath], *, workers: int = WORKERS, tick: Optional[Tick] = None, flush: bool = False) -> Dict[str, Written]:
    """Return sizes and SHA-256 of files by their paths; with `flush` they are on the disk afterwards.

    Raises RunbookError for the first that cannot be read.
    """

    def hash_one(path: AnyPath, stopped: Event) -> Written:
        return _hash(path, flush, stopped)

    return dict(zip(map(str, paths), at_once(hash_one, paths, tick, workers)))


def at_once(work: Callable[[Item, Event], Result], items: Sequence[Item], tick: Optional[Tick], workers: int = WORKERS) -> List[Result]:
    """Return what `work` makes of each of `items`, of so many at once in threads; the first error ends all.

    `tick` is called about once a second and at the end, and may raise. Threads cannot be ended from outside: `work` leaves off soon once
    its event is set, since nobody wants its result any more.
    """
    stopped = Event()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        tasks = [pool.submit(work, item, stopped) for item in items]
        try:
            _await(tasks, tick, 1.0)
            if tick is not None:
                tick()
            return [task.result() for task in tasks]
        finally:
            stopped.set()
            for task in tasks:
                task.cancel()


def flush_file(place: int, tick: Optional[Tick], every: float) -> None:
    """Have what was written to the open file `place` on the disk, however long that takes. Raises OSError."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        task = pool.submit(os.fsync, place)
        _await([task], tick, every)
        task.result()


def write_all(place: int, data: bytes) -> None:
    """Write all of `data` to the open file `place`. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(place, view) :]


def _hash(path: AnyPath, flush: bool, stopped: Event) -> Written:
    """Return size and SHA-256 of a file, which are of no use any more once `stopped` is set."""
    digest = Digest()
    try:
        with Path(path).open("rb", buffering=0) as file:
            if flush and not stopped.is_set():
                os.fsync(file.fileno())
            while not stopped.is_set():
                data = file.read(CHUNK)
                if not data:
                    break
                digest.add(data)
    except OSError as error:
        raise storage_error(error, path) from None
    return digest.written()


def _await(tasks: Iterable[Future[Any]], tick: Optional[Tick], every: float) -> None:
    """Wait until all `tasks` have ended. What one of them raises is raised at once."""
    rhythm = Rhythm(tick, every)
    waiting: Set[Future[Any]] = set(tasks)
    while waiting:
        done, waiting = wait(waiting, timeout=rhythm.left(), return_when="FIRST_EXCEPTION")
        for task in done:
            task.result()
        rhythm.beat()
