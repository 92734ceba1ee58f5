# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time works in a folder of backups.

The lock is the kernel's, on a file that is never removed: whatever ends a process also gives its lock back, and two processes never
hold locks on two files of the same name. What stands in the file only says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import LOCK
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, InvalidValue

_MOMENT = 0.1  # seconds


@contextmanager
def folder_lock(folder: Path, operation: str) -> Iterator[None]:
    """Hold the lock of `folder` for the block. Raises Busy where another run has it, and InvalidValue where it cannot be made."""
    handle = _opened(folder / LOCK)
    try:
        if not _taken(handle, folder):
            # Whoever asks whether a run is at work (`locked`) holds it for a moment.
            time.sleep(_MOMENT)
            if not _taken(handle, folder):
                raise Busy(f"another run is at work in {folder}: {_holder(handle)}.", object_name=str(folder), hint="Wait for it to end.")
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(whoami(operation)).encode("utf-8"), 0)
        yield
    finally:
        os.close(handle)


def locked(folder: Path) -> bool:
    """Return whether a run is at work in `folder`; one that may not be looked at counts as not."""
    try:
        handle = os.open(str(folder / LOCK), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _taken(handle: int, folder: Path) -> bool:
    """Take the lock, and tell whether it was free. Raises InvalidValue."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InvalidValue(
            f"{folder / LOCK} cannot be locked: {error.strerror}",
            object_name=str(folder),
            hint="Two runs at once would disturb each other: use a file system that knows flock.",
        ) from None
    return True


def whoami(operation: str) -> Dict[str, Any]:
    """Return what others may read about this run."""
    return {
        "operation": operation,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _opened(path: Path) -> int:
    try:
        return os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidValue(
            f"{path} cannot be opened: {error.strerror}",
            object_name=str(path.parent),
            hint="Let the account that runs the module write in that folder.",
        ) from None


def _holder(handle: int) -> str:
    try:
        said = json.loads(os.pread(handle, 4096, 0).decode("utf-8"))
        return f"{said['operation']}, process {said['pid']} on {said['host']}, since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say who it is"
