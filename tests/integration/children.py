"""What can be seen of processes from outside: arguments, environments, groups, and whether any of them is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    parent: int
    group: int
    state: str

    @property
    def arguments(self) -> bytes:
        """Its arguments, each ended by a NUL."""
        return _content(self.pid, "cmdline")

    @property
    def environment(self) -> bytes:
        """Its environment at its start."""
        return _content(self.pid, "environ")

    @property
    def folder(self) -> str:
        """The folder that it works in; nothing where it is over, or somebody else's."""
        try:
            return os.readlink(f"/proc/{self.pid}/cwd")
        except OSError:
            return ""

    @property
    def files(self) -> list[str]:
        """What its open files are; what it closes while it is looked at is none."""
        found = []
        for place in _listed(self.pid, "fd"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found.append(os.readlink(place))
        return found


def processes() -> Iterator[Process]:
    """Yield all processes but the dead that nobody has asked for yet."""
    for place in Path("/proc").glob("[0-9]*"):
        # The name stands in brackets and may hold anything.
        fields = _content(int(place.name), "stat").decode("utf-8", "replace").rpartition(")")[2].split()
        if fields and fields[0] != "Z":
            yield Process(int(place.name), int(fields[1]), int(fields[2]), fields[0])


def children(parent: int | None = None) -> list[Process]:
    """Return the running children of a process, of this one unless said."""
    return [process for process in processes() if process.parent == (parent or os.getpid())]


def child(name: str, parent: int | None = None) -> Process | None:
    """Return the running child whose program is called `name`."""
    return next((one for one in children(parent) if Path(os.fsdecode(one.arguments.split(b"\0")[0])).name == name), None)


def working_in(folder: Path) -> list[Process]:
    """Return the running processes that work in a folder below `folder`."""
    return [process for process in processes() if process.folder.startswith(f"{folder}/")]


def group(number: int) -> list[Process]:
    """Return the running processes of a process group."""
    return [process for process in processes() if process.group == number]


@contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes until the end of the block; those that are over by now do not matter."""
    stopped = [pid for pid in pids if told(pid, signal.SIGSTOP)]
    try:
        yield
    finally:
        for pid in stopped:
            told(pid, signal.SIGCONT)


def until(look: Callable[[], Found], seconds: float = 60.0) -> Found:
    """Look until there is something to see, and return it."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not seen within {seconds} s"
        time.sleep(0.01)


def told(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process, and tell whether it was still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _listed(pid: int, name: str) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/{name}").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _content(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
