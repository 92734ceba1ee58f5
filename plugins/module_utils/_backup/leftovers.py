# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was killed has left: its folder, and perhaps programs that still write into it.

Every program that a run starts has the run's id in its environment, and so have the programs that those start. So what belongs to a dead
run is told from what does not, however often the system has given a process number away since.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Dict, List

from ansible_collections.pgops.runbook.plugins.module_utils._backup.lock import whoami
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import write_document
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import DELETED, PARTIAL, hidden

VARIABLE = "PGOPS_RUNBOOK_RUN"
RUN = "run.json"
_SECONDS_TO_END = 10.0


def new_run() -> str:
    """Return the id of a run, which no other has."""
    return secrets.token_hex(8)


def partial_folder(folder: Path, run: str, number: int) -> Path:
    """Return the hidden folder in which backup `number` of a run grows."""
    return folder / f"{PARTIAL}{run}-{number}"


def begin_partial(partial: Path, run: str, operation: str) -> None:
    """Make such a folder, and say in it whose it is. Raises OSError."""
    partial.mkdir(mode=0o700)
    write_document(partial / RUN, {**whoami(operation), "run": run})


def clear_leftovers(folder: Path) -> List[str]:
    """Remove what dead runs left in `folder`, whose lock the caller holds; return the names that are gone. Raises OSError.

    Their programs end before, so that none writes into a folder that is being removed.
    """
    left = sorted(path for path in folder.iterdir() if hidden(path.name) in (PARTIAL, DELETED) and path.is_dir() and not path.is_symlink())
    for path in left:
        if hidden(path.name) == PARTIAL:
            end_programs(path.name[len(PARTIAL) :].partition("-")[0])
        shutil.rmtree(str(path))
    return [path.name for path in left]


def end_programs(run: str, processes: Path = Path("/proc")) -> int:
    """End every process that run `run` started and that is still there, and return how many; where there is no /proc, none is found."""
    found = _programs(run, processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in found:
            _send(pid, number)
        end = time.monotonic() + _SECONDS_TO_END
        while _programs(run, processes) and time.monotonic() < end:
            time.sleep(0.05)
        if not _programs(run, processes):
            break
    return len(found)


def _programs(run: str, processes: Path) -> List[int]:
    mark = f"{VARIABLE}={run}".encode()
    pids = [int(path.name) for path in _listed(processes) if path.name.isdigit() and int(path.name) != os.getpid()]
    return [pid for pid in pids if mark in _environment(processes / str(pid) / "environ")]


def _listed(folder: Path) -> List[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _environment(path: Path) -> List[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        # It has ended, or belongs to somebody else.
        return []


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def run_environment(run: str) -> Dict[str, str]:
    """Return what the environment of every program of `run` holds."""
    return {VARIABLE: run}
