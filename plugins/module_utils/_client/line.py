# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs in a line, each reading what the one before it writes: started together, judged together, ended together."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.files import (
    CHUNK,
    Rhythm,
    storage_error,
    write_all,
)
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

Command = Sequence[str]
Tap = Tuple[int, Union[Command, Sequence[Command]]]

GRACE = 0.5  # seconds in which programs end by themselves after one of them has failed
_SET_PIPE_SIZE = 1031
_JOIN_SECONDS = 5.0
_LONGEST_PAUSE = 0.05


class Line:
    """Programs in a line, with their pumps; leaving the block ends what still runs."""

    def __init__(self, environment: Optional[Mapping[str, str]], secrets: Iterable[str], tick: Optional[Tick], every: float) -> None:
        self._environment = environment
        self._secrets = list(secrets)
        self._tick, self._every = tick, every
        self._stages: List[Child] = []
        self._taps: List[Child] = []
        self._open: List[int] = []
        self._stopped: List[Child] = []
        self._pumps: List[_Pump] = []
        self._left_off = False
        self.feeder: Optional[Feeder] = None

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.feeder is not None:
            self.feeder.stop()
        self._end([*self._stages, *self._taps])
        self._done_with(*self._open)
        for pump in self._pumps:
            pump.join()
        if self.feeder is not None:
            self.feeder.join()

    def feed(self, path: Path) -> int:
        """Return the descriptor from which the bytes of the file `path` can be read."""
        output, inside = self._pipe()
        self._open.remove(inside)
        self.feeder = Feeder(path, inside)
        self.feeder.start()
        return output

    def start(self, commands: Sequence[Command], *, stdin: Optional[int] = None, tap: Optional[Tap] = None, silent: bool = False) -> int:
        """Start everything and return the descriptor with the last one's output, which is only its end where that is to be `silent`."""
        before = -1 if stdin is None else stdin
        for number, command in enumerate(commands):
            output, inside = self._pipe()
            last = number == len(commands) - 1
            self._stages.append(self._child(command, before, -1 if silent and last else inside))
            self._done_with(inside, before)
            before = output
            if tap is not None and tap[0] == number:
                before = self._tapped(before, tap[1])
        for pump in self._pumps:
            pump.start()
        return before

    def chunks(self, place: int) -> Iterator[bytes]:
        """Yield what comes out at the end of the line until its end, or until something that was tapped has failed."""
        rhythm = Rhythm(self._tick, self._every)
        poll = select.poll()
        poll.register(place, select.POLLIN)
        while True:
            if poll.poll(int(1000 * rhythm.left()) + 1):
                data = os.read(place, CHUNK)
                if not data:
                    return
                yield data
            if rhythm.beat() and any(child.poll() for child in self._taps):
                return

    def leave_off(self, place: int) -> None:
        """Read no more from `place`, without blaming anybody for it."""
        self._left_off = True
        self._done_with(place)

    def settle(self, whole: bool = True) -> None:
        """Wait for the end of all. Raises ProgramFailed of the one that is to blame, or RunbookError where it is the file."""
        children = [*self._stages, *self._taps]
        rhythm = Rhythm(self._tick, self._every)
        patience, pause = None, 0.001
        while any(child.poll() is None for child in children):
            if patience is None and (self._left_off or any(self._failed(child, whole) for child in children)):
                patience = time.monotonic() + (0 if self._left_off else GRACE)
                pause = 0.001
            if patience is not None and time.monotonic() >= patience:
                self._stopped = [child for child in children if child.poll() is None]
                self._end(self._stopped)
                break
            rhythm.beat()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        blamed = self._blamed(whole)
        while blamed is None and self.feeder is not None and not self.feeder.ended(rhythm.left()):
            rhythm.beat()
        if self.feeder is not None and self.feeder.error is not None:
            raise storage_error(self.feeder.error, self.feeder.path)
        if blamed is not None:
            raise blamed

    def _blamed(self, whole: bool) -> Optional[ProgramFailed]:
        """Return the error of the program to blame, or None.

        Who writes to a program that fails has a broken pipe, who reads from one gets too little: so it is the first in the line that
        failed of itself. Where there is none, somebody left off reading and had to be stopped: nobody knows whether it had everything.
        """
        failed = [child for child in (*self._stages, *self._taps) if child.poll() and child not in self._stopped]
        broken = [child for child in failed if _pipe_broke(child)]
        causes = [child for child in failed if child not in broken or not self._reader_failed(child)] or broken
        if not whole and (self._left_off or not self._stages or self._stages[-1].poll() == 0):
            causes = [child for child in causes if child not in broken]
        return causes[0].failure() if causes else None

    @staticmethod
    def _failed(child: Child, whole: bool) -> bool:
        """Tell whether it has failed; where the last one may leave off, a broken pipe says only that somebody is about to end."""
        return bool(child.poll()) and (whole or not _pipe_broke(child))

    def _reader_failed(self, child: Child) -> bool:
        line = self._stages if child in self._stages else self._taps
        return any(reader.poll() for reader in line[line.index(child) + 1 :][:1])

    @staticmethod
    def _end(children: Sequence[Child]) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        for child in children:
            child.end()

    def _tapped(self, source: int, commands: Union[Command, Sequence[Command]]) -> int:
        """Start `commands` beside the line and return the descriptor where the line goes on."""
        tapped: Sequence[Command] = [commands] if isinstance(commands[0], str) else commands  # type: ignore[list-item]
        before, into_tap = self._pipe()
        for command in tapped:
            output, inside = self._pipe()
            self._taps.append(self._child(command, before, -1 if command is tapped[-1] else inside))
            self._done_with(before, inside)
            before = output
        self._done_with(before)
        output, inside = self._pipe()
        for place in (source, into_tap, inside):
            self._open.remove(place)
        self._pumps.append(_Pump(source, inside, into_tap))
        return output

    def _child(self, command: Command, stdin: int, stdout: int) -> Child:
        places = {name: place for name, place in (("stdin", stdin), ("stdout", stdout)) if place >= 0}
        return Child(command, environment=self._environment, secrets=self._secrets, **places)  # type: ignore[arg-type]

    def _pipe(self) -> Tuple[int, int]:
        output, inside = os.pipe()
        with suppress(OSError):  # a matter of speed: the account may have used up what it may have of pipes
            fcntl.fcntl(output, _SET_PIPE_SIZE, CHUNK)
        self._open += [output, inside]
        return output, inside

    def _done_with(self, *places: int) -> None:
        for place in places:
            if place in self._open:
                self._open.remove(place)
                os.close(place)


class _Pump:
    """A thread that gives the bytes of one pipe to two."""

    def __init__(self, source: int, first: int, second: int) -> None:
        self._places = (source, first, second)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = False

    def start(self) -> None:
        """Begin, once everybody who reads is there."""
        self._started = True
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, which comes with that of those who read and write."""
        if self._started:
            self._thread.join(_JOIN_SECONDS)
        else:
            self._close()

    def _run(self) -> None:
        source, first, second = self._places
        tapped = True
        try:
            while True:
                data = os.read(source, CHUNK)
                if not data or not _sent(first, data):
                    return
                # The line goes on without the tap; why that has left is judged at the end.
                tapped = tapped and _sent(second, data)
        finally:
            self._close()

    def _close(self) -> None:
        for place in self._places:
            os.close(place)


class Feeder:
    """A thread that reads a file and writes it into a pipe while somebody reads."""

    def __init__(self, path: Path, inside: int) -> None:
        self.path = path
        self._inside = inside
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: Optional[OSError] = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Leave off at the next occasion."""
        self._stopped.set()

    def join(self) -> None:
        """Wait for the end after `stop`."""
        self._thread.join(_JOIN_SECONDS)

    def ended(self, seconds: float) -> bool:
        """Wait for the end for at most so many `seconds` and tell whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self.path.open("rb", buffering=0) as file:
                while not self._stopped.is_set():
                    data = file.read(CHUNK)
                    if not data or not _sent(self._inside, data):
                        return
        except OSError as error:
            self.error = error
        finally:
            os.close(self._inside)


def _sent(place: int, data: bytes) -> bool:
    """Write all of `data` into a pipe; False where nobody reads it any more."""
    try:
        write_all(place, data)
    except BrokenPipeError:
        return False
    return True


def _pipe_broke(child: Child) -> bool:
    return child.poll() == -signal.SIGPIPE or "broken pipe" in child.said().lower()
