# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a scratch server: private, gone after the run, and cleared by the next run where this one was killed.

    <scratch_folder>/pgops-drill-<8 hex>/     of the account that runs the module; locked (flock) as long as the run lives
        server/                               of the account that runs the server: its data, its socket and its log

The lock is on the folder itself, so that there is no moment in which a folder of a living run could be taken for a leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Iterator, List

from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import Account
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

PREFIX = "pgops-drill-"
# A path of a socket has 107 bytes at most; behind the folder come the parts that are written here.
_LONGEST = 107 - len(f"/{PREFIX}01234567/server/.s.PGSQL.5432")
_SECONDS_TO_END = 10.0
_REMOVERS = 4


class ScratchFolder:
    """A folder that this run has made and holds."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.server = path / "server"
        self._handle = handle

    @classmethod
    def make(cls, parent: str, account: Account) -> ScratchFolder:
        """Make a folder below `parent` whose inner part belongs to `account`. Raises InvalidValue where that cannot be."""
        place = Path(parent)
        if len(os.fsencode(str(place))) > _LONGEST:
            message = f"scratch_folder: {place} is too long for the path of a socket in it; {_LONGEST} bytes are the most"
            raise InvalidValue(message, object_name="scratch_folder")
        try:
            made = cls._locked(place, 0o711 if account.switch else 0o700)
        except OSError as error:
            raise InvalidValue(
                f"scratch_folder: no folder can be made in {place}: {error.strerror}",
                object_name="scratch_folder",
                hint="Name a folder on a local disk that the account which runs the module can write to.",
            ) from None
        try:
            made.server.mkdir(mode=0o700)
            account.own(made.server)
        except BaseException:
            made.remove()
            raise
        return made

    @classmethod
    def _locked(cls, parent: Path, mode: int) -> ScratchFolder:
        while True:
            path = parent / f"{PREFIX}{secrets.token_hex(4)}"
            path.mkdir(mode=0o700)
            try:
                path.chmod(mode)
                handle = _open(path)
            except FileNotFoundError:
                # Another run has cleared it in the moment before the lock could be taken.
                continue
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(path, handle):
                return cls(path, handle)
            os.close(handle)  # cleared as well

    def remove(self) -> None:
        """Remove the folder and whatever is in it, and give the lock back."""
        try:
            _remove(self.path)
        finally:
            os.close(self._handle)


def clear_leftovers(parent: str) -> List[str]:
    """Remove the folders below `parent` that killed runs of this account have left, end servers in them, and return their paths."""
    cleared = []
    for path in sorted(Path(parent).glob(f"{PREFIX}*")):
        try:
            handle = _open(path)
        except OSError:
            # It is no folder, or somebody else's, or its run has just ended.
            continue
        if _is_left(path, handle):
            ScratchFolder(path, handle).remove()
            cleared.append(str(path))
        else:
            os.close(handle)
    return cleared


def _is_left(path: Path, handle: int) -> bool:
    """Take the lock of the folder that is open, and tell whether a run of this account that was killed has left it at `path`."""
    if os.fstat(handle).st_uid != os.geteuid():
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its run is alive
    return _is_at(path, handle)


def _is_at(path: Path, handle: int) -> bool:
    """Say whether the folder that is open still stands at `path`. Whoever has its lock may rely on that."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    return os.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove(path: Path) -> None:
    """Remove a folder that processes of a server may still write to: they are ended first."""
    end = time.monotonic() + _SECONDS_TO_END
    while True:
        for process in _at_work_in(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        try:
            _empty(path)
            shutil.rmtree(str(path))
            return
        except FileNotFoundError:
            if not path.exists():
                return
        except OSError as error:
            if time.monotonic() > end:
                raise InvalidValue(
                    f"the folder {path} of a scratch server cannot be removed: {error.strerror}", object_name=str(path)
                ) from None
        time.sleep(0.02)


def _empty(path: Path) -> None:
    """Remove the files, several at a time, which frees gigabytes sooner. Raises OSError.

    Relative to folders that are open, as shutil.rmtree does it: what the server's account may have put there leads nowhere else.
    """
    with ThreadPoolExecutor(_REMOVERS) as pool:
        for _place, _folders, files, folder in os.fwalk(str(path), follow_symlinks=False):
            list(pool.map(partial(os.unlink, dir_fd=folder), files))


def _at_work_in(path: Path) -> Iterator[int]:
    """Yield the processes whose working folder is in `path`, as that of every process of a server is its data folder."""
    inside = f"{path.resolve()}/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            where = os.readlink(str(entry / "cwd"))
        except OSError:
            # It has ended, or is somebody else's.
            continue
        if f"{where}/".startswith(inside) and int(entry.name) != os.getpid():
            yield int(entry.name)
