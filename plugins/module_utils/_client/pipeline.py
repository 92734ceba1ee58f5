# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes through a line of programs into a file, hashed on the way, or out of one; and every program's end judged.

Programs are started by the calling thread, which has to live as long as they do (see `child`); others pump bytes and hash files.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterable, List, Mapping, Optional, Sequence, Union

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.files import (
    AnyPath,
    Digest,
    Rhythm,
    Written,
    flush_file,
    hash_files,
    storage_error,
    write_all,
)
from ansible_collections.pgops.runbook.plugins.module_utils._client.line import Command, Line, Tap
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

__all__ = ["Written", "hash_files", "read_stream", "run_all", "storage_error", "write_stream"]

Sink = Callable[[bytes], Optional[bool]]


def write_stream(
    commands: Sequence[Command],
    target: AnyPath,
    *,
    environment: Optional[Mapping[str, str]] = None,
    tick: Optional[Tick] = None,
    tap: Optional[Tap] = None,
    secrets: Iterable[str] = (),
    every: float = 1.0,
) -> Written:
    """Run `commands`, each reading what the one before wrote, and write what the last one writes to the new file `target`.

    The file has mode 0600 and is flushed to the disk; after an error it is gone. `tap` (stage, command or list of commands in a line) gets
    the output of the command number `stage`, counted from 0, as well. `tick` is called each `every` seconds; its exception ends all.
    Raises ProgramFailed of the program that is to blame, ProgramMissing, and RunbookError where the file cannot be written.
    """
    path, digest = Path(target), Digest()
    try:
        place = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise storage_error(error, path) from None
    try:
        os.fchmod(place, 0o600)
        with Line(environment, secrets, tick, every) as line:
            for data in line.chunks(line.start(commands, tap=tap)):
                digest.add(data)
                _stored(path, lambda data=data: write_all(place, data))  # type: ignore[misc]
            line.settle()
        _stored(path, lambda: flush_file(place, tick, every))
    except BaseException:
        with suppress(FileNotFoundError):
            path.unlink()
        raise
    finally:
        os.close(place)
    return digest.written()


def read_stream(
    path: AnyPath,
    decoders: Sequence[Command],
    sink: Union[Command, Sink],
    *,
    tick: Optional[Tick] = None,
    secrets: Iterable[str] = (),
    whole: bool = True,
) -> None:
    """Send the file `path` through `decoders` into `sink`, a command or a function that is called with bytes.

    Unless `whole`, the sink may leave off before the end, a function by returning True, a command by ending with 0. Raises as
    `write_stream` does.
    """
    with Line(None, secrets, tick, 1.0) as line:
        output = line.feed(Path(path))
        if callable(sink):
            output = line.start(decoders, stdin=output)
            for data in line.chunks(output):
                if sink(data) and not whole:
                    line.leave_off(output)
                    break
        else:
            for _nothing in line.chunks(line.start([*decoders, sink], stdin=output, silent=True)):
                raise AssertionError("a silent line has said something")
        line.settle(whole)


def run_all(
    commands: Sequence[Command],
    *,
    parallel: int,
    environment: Optional[Mapping[str, str]] = None,
    tick: Optional[Tick] = None,
    every: float = 1.0,
) -> None:
    """Run `commands` to their ends, at most `parallel` at once; the first that fails ends the others.

    Raises ProgramFailed, ProgramMissing.
    """
    rhythm, waiting = Rhythm(tick, every), list(commands)
    running: List[Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                running.append(Child(waiting.pop(0), environment=environment))
            for child in [child for child in running if child.poll() is not None]:
                child.check()
                child.end()
                running.remove(child)
            rhythm.beat()
            time.sleep(0.002)
    finally:
        for child in running:
            child.end()


def _stored(path: Path, act: Callable[[], None]) -> None:
    try:
        act()
    except OSError as error:
        raise storage_error(error, path) from None
