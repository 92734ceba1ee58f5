# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes through a line of programs into a file or out of one: hashed on the way, and every program's end judged.

Programs are started by the calling thread, which has to be the main one (see `child`); other threads pump bytes and hash files.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child, Tick
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed, RunbookError

Command = Sequence[str]
Path_ = Union[str, Path]
Tap = Tuple[int, Union[Command, Sequence[Command]]]
Sink = Callable[[bytes], Optional[bool]]

CHUNK = 1024 * 1024
GRACE = 1.0  # seconds in which programs end by themselves after one of them has failed
_SET_PIPE_SIZE = 1031
_BROKEN_PIPE = -13
_HINTS = {
    errno.ENOSPC: "Make room on that file system, or choose another folder.",
    errno.EDQUOT: "The quota of the account or folder is used up: raise it, or choose another folder.",
    errno.EFBIG: "Look at the limit of file sizes (ulimit -f) and at what that file system allows.",
    errno.EIO: "The disk fails: look in the kernel's log, and do not trust what stands on it.",
    errno.EROFS: "That file system is mounted read-only.",
}


@dataclass(frozen=True)
class Written:
    """How many bytes a file has, and their SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def write_stream(
    commands: Sequence[Command],
    target: Path_,
    *,
    environment: Optional[Mapping[str, str]] = None,
    tick: Optional[Tick] = None,
    tap: Optional[Tap] = None,
    secrets: Iterable[str] = (),
    every: float = 1.0,
) -> Written:
    """Run `commands`, each reading what the one before wrote, and write what the last one writes to the new file `target`.

    The file has mode 0600 and is flushed to the disk; by an error it is removed. `tap` (stage, command or list of commands in a line) gets the
    output of the command number `stage`, counted from 0, as well. `tick` is called each `every` seconds; its exception ends everything.
    Raises ProgramFailed for the program that is to blame, ProgramMissing, and RunbookError where the file cannot be written.
    """
    path = Path(target)
    with _Line(environment, secrets) as line:
        try:
            place = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise storage_error(error, path) from None
        try:
            with os.fdopen(place, "wb", buffering=0) as file:
                os.fchmod(place, 0o600)
                output = line.start(commands, tap=tap)
                digest, size = hashlib.sha256(), 0
                for data in line.chunks(output, tick, every):
                    digest.update(data)
                    size += len(data)
                    _write_all(place, data, path)
                line.settle(tick, every)
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    raise storage_error(error, path) from None
        except BaseException:
            with suppress(FileNotFoundError):
                path.unlink()
            raise
    return Written(size, digest.hexdigest())


def read_stream(
    path: Path_,
    decoders: Sequence[Command],
    sink: Union[Command, Sink],
    *,
    environment: Optional[Mapping[str, str]] = None,
    tick: Optional[Tick] = None,
    secrets: Iterable[str] = (),
    every: float = 1.0,
    whole: bool = True,
) -> Written:
    """Send the file `path` through `decoders` into `sink`, a command or a function that is called with bytes, and return what was read of it.

    Unless `whole`, the sink may leave off before the end (a function by returning True, a command by ending with 0), and the result covers only
    what was read till then. Raises as `write_stream`.
    """
    source = Path(path)
    with _Line(environment, secrets) as line:
        feeder = _Feeder(source, whole)
        line.helpers.append(feeder)
        commands = list(decoders) if callable(sink) else [*decoders, sink]
        if callable(sink):
            output = line.start(commands, stdin=feeder.output()) if commands else feeder.output()
        else:
            output = line.start(commands, stdin=feeder.output(), to_nowhere=True)
        feeder.start()
        for data in line.chunks(output, tick, every):
            if callable(sink) and sink(data) and not whole:
                line.left_off = True
                break
        line.settle(tick, every, whole=whole)
        feeder.finish()
    if feeder.error is not None:
        raise storage_error(feeder.error, source)
    return feeder.written()


def hash_file(path: Path_, *, flush: bool = False) -> Written:
    """Return size and SHA-256 of a file; with `flush` it is on the disk afterwards. Raises RunbookError."""
    digest, size = hashlib.sha256(), 0
    try:
        with open(str(path), "rb", buffering=0) as file:
            if flush:
                os.fsync(file.fileno())
            while True:
                data = file.read(CHUNK)
                if not data:
                    return Written(size, digest.hexdigest())
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise storage_error(error, path) from None


def hash_files(
    paths: Sequence[Path_], *, workers: int = 4, tick: Optional[Tick] = None, every: float = 1.0, flush: bool = False
) -> Dict[str, Written]:
    """Return `hash_file` of many files by their paths, several at once. Raises RunbookError for the first that cannot be read."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        tasks = {str(path): pool.submit(hash_file, path, flush=flush) for path in paths}
        try:
            while wait(tasks.values(), timeout=every).not_done:
                if tick is not None:
                    tick()
            return {path: task.result() for path, task in tasks.items()}
        except BaseException:
            for task in tasks.values():
                task.cancel()
            raise


def run_all(
    commands: Sequence[Command],
    *,
    parallel: int,
    environment: Optional[Mapping[str, str]] = None,
    tick: Optional[Tick] = None,
    secrets: Iterable[str] = (),
    every: float = 1.0,
) -> None:
    """Run `commands`, at most `parallel` at once, to their ends. The first that fails ends the others. Raises ProgramFailed, ProgramMissing."""
    waiting, running = list(commands), []  # type: Tuple[List[Command], List[Child]]
    due = time.monotonic() + every
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                running.append(Child(waiting.pop(0), environment=environment, secrets=secrets))
            for child in [child for child in running if child.poll() is not None]:
                child.check()
                child.end()
                running.remove(child)
            if tick is not None and time.monotonic() >= due:
                tick()
                due = time.monotonic() + every
            time.sleep(0.002 if running else 0)
    finally:
        for child in running:
            child.end()


def storage_error(error: OSError, path: Path_) -> RunbookError:
    """Return the error for what the operating system says about a file, with what to do about it."""
    why = error.strerror or str(error)
    return RunbookError(f"{path}: {why}.", object_name=str(path), hint=_HINTS.get(error.errno or 0))


class _Line:
    """Programs in a line, with their pumps; leaving the block ends what still runs."""

    def __init__(self, environment: Optional[Mapping[str, str]], secrets: Iterable[str]) -> None:
        self._environment = environment
        self._secrets = list(secrets)
        self._stages: List[Child] = []
        self._taps: List[Child] = []
        self._open: List[int] = []
        self._stopped: List[Child] = []
        self.helpers: List[Union[_Pump, _Feeder]] = []
        self.left_off = False

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_exception: object) -> None:
        for helper in self.helpers:
            helper.stop()
        for child in (*self._stages, *self._taps):
            child.end()
        for place in self._open:
            _close(place)
        for helper in self.helpers:
            helper.join()

    def start(
        self, commands: Sequence[Command], *, stdin: Optional[int] = None, tap: Optional[Tap] = None, to_nowhere: bool = False
    ) -> int:
        """Start everything and return the descriptor from which the last one's output is read; with `to_nowhere` that is only its end."""
        before = stdin
        for number, command in enumerate(commands):
            output, inside = self._pipe()
            nowhere = to_nowhere and number == len(commands) - 1
            self._stages.append(self._child(command, before, None if nowhere else inside))
            self._done_with(inside, before)
            before = output
            if tap is not None and tap[0] == number:
                before = self._tapped(before, tap[1])
        for helper in self.helpers:
            if isinstance(helper, _Pump):
                helper.start()
        assert before is not None
        return before

    def chunks(self, place: int, tick: Optional[Tick], every: float) -> Iterator[bytes]:
        """Yield what comes out at the end of the line until its end, or until something that was tapped has failed."""
        due = time.monotonic() + every
        poll = select.poll()
        poll.register(place, select.POLLIN)
        while True:
            if poll.poll(max(0, int(1000 * (due - time.monotonic())))):
                data = os.read(place, CHUNK)
                if not data:
                    return
                yield data
            if time.monotonic() >= due:
                if tick is not None:
                    tick()
                due = time.monotonic() + every
                if any(child.poll() for child in self._taps):
                    return

    def settle(self, tick: Optional[Tick], every: float, whole: bool = True) -> None:
        """Wait for the end of all. Raises ProgramFailed of the one that is to blame."""
        children = [*self._stages, *self._taps]
        due, failed_at = time.monotonic() + every, None
        while any(child.poll() is None for child in children):
            now = time.monotonic()
            if failed_at is None and (self.left_off or any(child.poll() for child in children)):
                failed_at = now
            if failed_at is not None and now > failed_at + (0 if self.left_off else GRACE):
                self._stopped = [child for child in children if child.poll() is None]
                for child in self._stopped:
                    child.end()
                break
            if tick is not None and now >= due:
                tick()
                due = now + every
            time.sleep(0.002)
        blamed = self._blamed(whole)
        if blamed is not None:
            raise blamed

    def _blamed(self, whole: bool) -> Optional[ProgramFailed]:
        """Return the error of the program to blame, or None.

        What stands before a program that fails breaks its pipe, what stands behind one gets too little: so it is the first in the line that
        does not complain of a broken pipe and was not ended from here.
        """
        failed = [child for child in (*self._stages, *self._taps) if child.poll() and child not in self._stopped]
        causes = [child for child in failed if not _pipe_broke(child)]
        if causes:
            return causes[0].failure()
        if not failed or (not whole and (self.left_off or self._stages[-1].poll() == 0)):
            return None
        return failed[-1].failure()

    def _tapped(self, source: int, commands: Union[Command, Sequence[Command]]) -> int:
        """Start `commands` beside the line and return the descriptor where the line goes on."""
        tapped: Sequence[Command] = [commands] if isinstance(commands[0], str) else commands  # type: ignore[assignment,list-item]
        before, into_tap = self._pipe()
        for number, command in enumerate(tapped):
            last = number == len(tapped) - 1
            output, inside = (None, None) if last else self._pipe()
            self._taps.append(self._child(command, before, inside))
            self._done_with(before, inside)
            before = output if output is not None else -1
        output, inside = self._pipe()
        for place in (source, into_tap, inside):
            self._open.remove(place)
        self.helpers.append(_Pump(source, inside, into_tap))
        return output

    def _child(self, command: Command, stdin: Optional[int], stdout: Optional[int]) -> Child:
        return Child(command, environment=self._environment, stdin=stdin, stdout=stdout, secrets=self._secrets)

    def _pipe(self) -> Tuple[int, int]:
        output, inside = os.pipe()
        with suppress(OSError):  # a matter of speed: the account may have used up what it may have of pipes
            fcntl.fcntl(output, _SET_PIPE_SIZE, CHUNK)
        self._open += [output, inside]
        return output, inside

    def _done_with(self, *places: Optional[int]) -> None:
        for place in places:
            if place is not None:
                if place in self._open:
                    self._open.remove(place)
                _close(place)


class _Pump:
    """A thread that gives the bytes of one pipe to two."""

    def __init__(self, source: int, first: int, second: int) -> None:
        self._places = (source, first, second)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = False

    def start(self) -> None:
        self._started = True
        self._thread.start()

    def stop(self) -> None:
        if not self._started:
            for place in self._places:
                _close(place)

    def join(self) -> None:
        if self._started:
            self._thread.join()

    def _run(self) -> None:
        source, first, second = self._places
        tapped = True
        try:
            while True:
                data = os.read(source, CHUNK)
                if not data or not _sent(first, data):
                    return
                # What the line is for goes on; why the tap has left is judged at the end.
                tapped = tapped and _sent(second, data)
        finally:
            for place in self._places:
                _close(place)


class _Feeder:
    """A thread that reads a file, hashes it and writes it into a pipe."""

    def __init__(self, path: Path, whole: bool) -> None:
        self._path = path
        self._whole = whole
        self._digest, self._size = hashlib.sha256(), 0
        self._stop = threading.Event()
        self._output, self._inside = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = False
        self.error: Optional[OSError] = None

    def output(self) -> int:
        return self._output

    def start(self) -> None:
        self._started = True
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if not self._started:
            _close(self._inside)

    def finish(self) -> None:
        self._thread.join()

    def join(self) -> None:
        if self._started:
            self._thread.join()

    def written(self) -> Written:
        return Written(self._size, self._digest.hexdigest())

    def _run(self) -> None:
        wanted = True
        try:
            with open(str(self._path), "rb", buffering=0) as file:
                while not self._stop.is_set():
                    data = file.read(CHUNK)
                    if not data:
                        return
                    self._digest.update(data)
                    self._size += len(data)
                    wanted = wanted and _sent(self._inside, data)
                    if not wanted and not self._whole:
                        return
        except OSError as error:
            self.error = error
        finally:
            _close(self._inside)


def _write_all(place: int, data: bytes, path: Path) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(place, view) :]
    except OSError as error:
        raise storage_error(error, path) from None


def _sent(place: int, data: bytes) -> bool:
    """Write all of `data` into a pipe; False where nobody reads it any more."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(place, view) :]
    except BrokenPipeError:
        return False
    return True


def _pipe_broke(child: Child) -> bool:
    return child.poll() == _BROKEN_PIPE or "Broken pipe" in child.said() or "broken pipe" in child.said()


def _close(place: int) -> None:
    with suppress(OSError):
        os.close(place)
