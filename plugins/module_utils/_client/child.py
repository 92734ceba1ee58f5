# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that is started, watched and ended, together with everything that it has started itself.

Only for Linux. Children are started by the main thread, or by one that lives longer than they do: the signal that ends them with their
parent is sent when the *thread* that started them ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Callable, Deque, Dict, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed, ProgramMissing, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

OnLine = Callable[[str], None]

PIPE = subprocess.PIPE
PATIENCE = 5.0  # seconds between TERM and KILL
MASK = "********"

_SET_DEATH_SIGNAL = 1
_FIRST_LINES, _LAST_LINES, _LONGEST_LINE = 10, 30, 2000
_LONGEST_PAUSE = 0.05
_LATE_WORDS = 2.0  # seconds that a program's last messages may take after its end
_LARGEST_OUTPUT = 64 * 1024 * 1024
# What the programs of other packages are called in Debian, where it is not the program's own name.
_PACKAGES = {"gpg": "gnupg"}

_libc = ctypes.PyDLL(None)  # loaded before any fork, and called there without letting go of the interpreter's lock


class Child:
    """A running program in a session and process group of its own, with umask 077 and nothing of this process' open files.

    Use it as a context manager: its end is the end of the program and of whatever that has started. `stdin` and `stdout` are a file
    descriptor, PIPE (then `.stdin`, `.stdout` are binary files), or None for nothing. What it says on stderr is collected (`said`), its
    beginning and its end, without `secrets`; `on_line` gets every line, in another thread. Without `environment` it gets this process'
    own but PGPASSWORD. Raises ProgramMissing.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Optional[Mapping[str, str]] = None,
        stdin: Optional[int] = None,
        stdout: Optional[int] = None,
        secrets: Iterable[str] = (),
        on_line: Optional[OnLine] = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.program = Path(self.command[0]).name
        self._messages = _Messages(secrets, on_line)
        self._over = False
        hear_of_ends()
        try:
            self._popen = subprocess.Popen(
                self.command,
                env=own_environment() if environment is None else dict(environment),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.DEVNULL if stdout is None else stdout,
                stderr=PIPE,
                bufsize=0,
                start_new_session=True,
                preexec_fn=_prepared(os.getpid()),  # noqa: PLW1509  (it takes no lock and imports nothing)
            )
        except OSError as error:
            raise _not_started(self.command[0], error) from None
        self.pid = self._popen.pid
        self.stdin: Optional[IO[bytes]] = self._popen.stdin
        self.stdout: Optional[IO[bytes]] = self._popen.stdout
        self._reader = threading.Thread(target=self._messages.read, args=(self._popen.stderr,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def poll(self) -> Optional[int]:
        """Return the exit code (negative: the signal's number), None while it runs. Nothing of its group is left after its end."""
        if self._popen.returncode is None and self._has_ended():
            # Before it is reaped, so that its number cannot be another's yet.
            self.signal(signal.SIGKILL)
            self._popen.wait()
            self._reader.join(_LATE_WORDS)
        return self._popen.returncode

    def wait(self, tick: Optional[Tick] = None, every: float = 1.0) -> int:
        """Wait for its end and return the exit code; call `tick` each `every` seconds, whose exception passes through."""
        due = time.monotonic() + every
        pause = 0.001
        while True:
            code = self.poll()
            if code is not None:
                return code
            if tick is not None and time.monotonic() >= due:
                tick()
                due = time.monotonic() + every
            if self._reader.is_alive():
                self._reader.join(_LONGEST_PAUSE)  # which is at once when the program closes its stderr by ending
            else:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def check(self, tick: Optional[Tick] = None, every: float = 1.0) -> None:
        """Wait as `wait` does. Raises ProgramFailed unless the exit code is 0."""
        if self.wait(tick, every):
            raise self.failure()

    def failure(self) -> ProgramFailed:
        """Return the error of an ended child that says how it ended."""
        code = self._popen.returncode
        said = self.said()
        how = f"was ended by signal {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return ProgramFailed(
            f"{self.program} {how}{': ' + said if said else ' and said nothing'}",
            program=self.program,
            code=code,
            said=said,
            hint=_hint(code, said),
        )

    def said(self) -> str:
        """Return what it has said on stderr so far: the first lines and the last."""
        return self._messages.text()

    def signal(self, number: int) -> None:
        """Send a signal to it and its group, unless it has ended."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def end(self, patience: float = PATIENCE) -> None:
        """End it and its group if it still runs: TERM, and KILL after `patience` seconds; more than once does no harm.

        pg_dump's answer to TERM is to end its workers and to cancel their queries, so that it comes first.
        """
        if self._over:
            return
        try:
            if self.poll() is None:
                self.signal(signal.SIGTERM)
                self.signal(signal.SIGCONT)  # a stopped program does not see TERM
                self._expect_end(patience)
            if self.poll() is None:
                self.signal(signal.SIGKILL)
                self._popen.wait()
                self._reader.join(_LATE_WORDS)
            self._await_empty_group()
        finally:
            for file in (self.stdin, self.stdout):
                _close(file)
        self._over = True

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _expect_end(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.005)

    def _await_empty_group(self) -> None:
        until = time.monotonic() + PATIENCE
        while _lives(self.pid) and time.monotonic() < until:
            time.sleep(0.005)


class _Messages:
    """The beginning and the end of what a program says, whole lines, without secrets."""

    def __init__(self, secrets: Iterable[str], on_line: Optional[OnLine]) -> None:
        self._secrets = sorted((text for text in secrets if text), key=len, reverse=True)
        self._on_line = on_line
        self._first: List[str] = []
        self._last: Deque[str] = deque(maxlen=_LAST_LINES)
        self._left_out = 0
        self._lock = threading.Lock()

    def read(self, file: Any) -> None:
        rest = b""
        with file:
            while True:
                data = os.read(file.fileno(), 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                if self._on_line is None and len(lines) > _FIRST_LINES + _LAST_LINES:
                    # A flood: those between would be decoded only to be left out.
                    self._left_out += len(lines) - _FIRST_LINES - _LAST_LINES
                    lines = lines[:_FIRST_LINES] + lines[-_LAST_LINES:]
                for line in lines:
                    self._add(line)
                rest = rest[:65536]
        if rest:
            self._add(rest)

    def _add(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        text = text[:_LONGEST_LINE]
        if self._on_line is not None:
            self._on_line(text)
        with self._lock:
            if len(self._first) < _FIRST_LINES:
                self._first.append(text)
            else:
                self._left_out += len(self._last) == _LAST_LINES
                self._last.append(text)

    def text(self) -> str:
        with self._lock:
            between = [f"[{self._left_out} lines left out]"] if self._left_out else []
            return "\n".join([*self._first, *between, *self._last]).strip()


def run(
    command: Sequence[str],
    *,
    environment: Optional[Mapping[str, str]] = None,
    tick: Optional[Tick] = None,
    secrets: Iterable[str] = (),
) -> str:
    """Run a program to its end and return what it wrote, of which the first 64 MB count. Raises ProgramFailed, ProgramMissing."""
    with Child(command, environment=environment, stdout=PIPE, secrets=secrets) as child:
        parts: List[bytes] = []
        reader = threading.Thread(target=_collect, args=(child.stdout, parts), daemon=True)
        reader.start()
        try:
            child.check(tick)
        finally:
            # Its end is the end of what is read: nothing may still be reading from a file that is being closed.
            child.signal(signal.SIGKILL)
            reader.join(_LATE_WORDS)
        return b"".join(parts).decode("utf-8", "replace")


def hear_of_ends() -> None:
    """Have the system say how children end, which a parent may have left it to forget: every end would count as a success.

    Only the main thread can; whoever starts children in another one calls this before. There it does nothing.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def input_of(child: Child) -> IO[bytes]:
    """Return the file into which the input of a child that was started with PIPE there can be written."""
    if child.stdin is None:
        raise ValueError(f"{child.program} was started without a pipe for its input")
    return child.stdin


def own_environment() -> Dict[str, str]:
    """Return this process' environment without its password, with messages in English."""
    return {**{name: text for name, text in os.environ.items() if name not in ("PGPASSWORD", "LANGUAGE")}, "LC_ALL": "C"}


def missing(program: str, why: Optional[str] = None) -> ProgramMissing:
    """Return the error that `program` cannot be started on this host."""
    name = Path(program).name
    package = _PACKAGES.get(name, name)
    reason = f" ({why})" if why and why != os.strerror(errno.ENOENT) else ""
    return ProgramMissing(f"the program {program} is not on this host{reason}.", object_name=name, hint=f"Install the package {package}.")


def _not_started(program: str, error: OSError) -> RunbookError:
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC):
        return missing(program, error.strerror)
    return RunbookError(f"{program} cannot be started: {error.strerror}.", object_name=Path(program).name)


def _prepared(parent: int) -> Callable[[], None]:
    """Return what a child does between its start and its program: it ends with its parent, and its files are its owner's alone."""
    prctl = _libc.prctl
    term = int(signal.SIGTERM)

    def in_child() -> None:
        os.umask(0o077)
        prctl(_SET_DEATH_SIGNAL, term, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent was gone before the signal was ordered

    return in_child


def _lives(group: int) -> bool:
    """Tell whether a process group has members; the dead that their new parent has not asked for yet are none."""
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            # Before the state stands the name, in brackets, which may hold anything.
            state, _parent, its_group = place.read_bytes().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state not in (b"Z", b"X"):
                return True
    return False


def _collect(file: Any, parts: List[bytes]) -> None:
    kept = 0
    while True:
        data = os.read(file.fileno(), 65536)
        if not data:
            return
        if kept < _LARGEST_OUTPUT:
            parts.append(data)
            kept += len(data)


def _close(file: Optional[IO[bytes]]) -> None:
    if file is not None:
        with suppress(OSError):  # bytes that nobody reads any more
            file.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _hint(code: int, said: str) -> Optional[str]:
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return "Make room on the disk, or choose another folder."
    if code == -signal.SIGKILL:
        return "Look in the kernel's log whether it ran out of memory."
    return None
