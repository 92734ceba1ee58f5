# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status file of an asynchronous task, whose content every poll returns.

Ansible's async_wrapper writes it twice, before the module starts and with the module's result, both times as a new file that it
renames into place. The module may only ever change the first of the two. So this opens that file once, by its name, and from then on
writes through the open handle: from the moment in which the result is there, the handle leads to a file without a name. No order of
events lets it touch the result, also not when the task is killed because its time is over.

A poll that reads while it is written to finds an old view, a new one or a mixture; async_status takes what is no JSON for a task that
still runs. Every view has the same length, so that nothing of a longer one is left over.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Mapping

KEY = "progress"
_LENGTH = 1024
_JOB = re.compile(rb"j\d{1,12}")


class JobStatus:
    """The status file of the task that this process runs, as long as it says that the task runs."""

    def __init__(self, handle: int, status: dict[str, Any], content: bytes) -> None:
        self._handle = handle
        self._status = status
        self._content = content

    @classmethod
    def find(cls, environment: Mapping[str, str], processes: Path = Path("/proc")) -> JobStatus | None:
        """Return the file, or None where this is no asynchronous task or there is no telling which."""
        folder = environment.get("ANSIBLE_ASYNC_DIR")
        job = _job_of_parent(processes) if folder else None
        if not folder or not job:
            return None
        pattern = re.compile(re.escape(job) + r"\.\d+")
        try:
            # The number that follows is that of a process which has ended, and so cannot be asked for.
            named = [path for path in Path(folder).expanduser().iterdir() if pattern.fullmatch(path.name)]
            return cls._open(named[0]) if len(named) == 1 else None
        except (OSError, RuntimeError, ValueError):
            return None

    @classmethod
    def _open(cls, path: Path) -> JobStatus | None:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            content = os.pread(handle, _LENGTH + 1, 0)
            status = json.loads(content.decode("utf-8"))
            # Anything but this is a result already.
            runs = isinstance(status, dict) and status.get("started") and not status.get("finished", True)
            if runs and status.get("ansible_job_id") == path.name:
                return cls(handle, status, content)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None

    def show(self, view: Mapping[str, Any]) -> None:
        """Put the view beside what the file says. Raises OSError and ValueError."""
        content = json.dumps({**self._status, KEY: view}).encode("utf-8")
        if len(content) > _LENGTH:
            raise ValueError("the view is longer than a status file may become")
        # Only if a release of Ansible wrote the result into the same file would this not hold.
        if os.fstat(self._handle).st_nlink == 0 or os.pread(self._handle, _LENGTH + 1, 0) != self._content:
            raise OSError("the status file has been replaced")
        content = content.ljust(_LENGTH)
        os.pwrite(self._handle, content, 0)
        self._content = content

    def close(self) -> None:
        """Leave the file to async_wrapper, which writes the result next. Raises OSError."""
        os.close(self._handle)


def _job_of_parent(processes: Path) -> str | None:
    """Return the name of the task from the command line of async_wrapper, which started this process."""
    try:
        words = (processes / str(os.getppid()) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    wrapper = next((number for number, word in enumerate(words) if b"async_wrapper" in word), None)
    job = words[wrapper + 1] if wrapper is not None and wrapper + 1 < len(words) else b""
    return job.decode() if _JOB.fullmatch(job) else None
