"""Folders of throwaway servers: where the server's account reaches them, and swept up when their owner was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .account import server_account

PREFIX = "pgops-ground."
# Room for "/.s.PGSQL.65535.lock" in the 107 bytes that a socket's address may have.
LONGEST_SOCKET_FOLDER = 80
# A folder younger than this may be about to be locked by its owner.
FRESH_SECONDS = 60.0
# Servers that come and go write thousands of files: in memory that takes a third of the time, where this much of it is free.
MEMORY = Path("/dev/shm")
ROOM = 8 << 30

_owned: dict[Path, IO[str]] = {}
_places: list[Path] = []


def prefer_memory() -> None:
    """Make folders in memory from now on, unless TMPDIR says where temporary folders belong; each where there is room for it then."""
    if not os.environ.get("TMPDIR") and MEMORY not in _places:
        _places.append(MEMORY)


def claim(folder: Path | None, *, detached: bool = False) -> Path:
    """Return an empty or existing folder for a server: `folder` where its account can reach it, else a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if server_account().can_read(folder) and server_account().can_read(folder.parent):
            folder.chmod(0o700)
            server_account().own(folder)
            return folder
    _sweep()
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=None if detached else _roomy()))
    if not detached:
        _owned[made] = _hold(made)
    server_account().own(made)
    return made


@contextmanager
def reachable() -> Iterator[Path]:
    """Yield a folder that the account of servers can enter, as those of pytest cannot be when root runs it."""
    place = Path(tempfile.mkdtemp(prefix=PREFIX))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def socket_folder(folder: Path) -> Path:
    """Return a folder for the server's socket with a path short enough."""
    if len(str(folder)) <= LONGEST_SOCKET_FOLDER:
        return folder
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    _owned[made] = _hold(made)
    server_account().own(made)
    return made


def release(*places: Path) -> None:
    """Remove folders and give up the claim on them."""
    for place in set(places):
        shutil.rmtree(place, ignore_errors=True)
        held = _owned.pop(place, None)
        if held is not None:
            held.close()


def _roomy() -> Path | None:
    """Return a place in memory if it was asked for and is large enough; a folder there must not be what the machine runs out of."""
    for place in _places:
        if os.access(place, os.W_OK | os.X_OK):
            seen = os.statvfs(place)
            if min(seen.f_bavail * seen.f_frsize, _free_memory()) >= ROOM:
                return place
    return None


def _free_memory() -> int:
    """Return how many bytes of memory the machine has left, or the container that this runs in."""
    try:
        said = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(said["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return 0
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free  # no such limit here


def _hold(folder: Path) -> IO[str]:
    file = (folder / "owner.lock").open("w", encoding="ascii")  # held open as long as the folder is in use
    os.set_inheritable(file.fileno(), False)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _sweep() -> None:
    """Remove folders of this user whose owner is gone: it was killed and could not."""
    for folder in (found for top in (Path(tempfile.gettempdir()), MEMORY) for found in top.glob(f"{PREFIX}*")):
        lock = folder / "owner.lock"
        try:
            if time.time() - lock.stat().st_mtime < FRESH_SECONDS:
                continue
            with lock.open("r+", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Somebody else's, in use, or not yet locked: left alone.
            continue
