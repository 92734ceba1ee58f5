"""A step: one command with its judge, which says how many checks it stood for and how many of them failed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from xml.etree import ElementTree

from tests.runner.environment import tool_environment
from tests.runner.tree import CACHE, COPY


@dataclass(frozen=True)
class Count:
    """Checks by result."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code (None when it was stopped or could not start) and all that it wrote."""

    code: int | None
    output: str


Judge = Callable[[Ended], Count]


def by_exit_code(ended: Ended) -> Count:
    """One check, passed when the command ended with 0."""
    return Count(passed=1) if ended.code == 0 else Count(failed=1)


def by_junit(files: Callable[[], Iterable[Path]]) -> Judge:
    """One check for each test case in the JUnit `files`; one more, failed, where the exit code knows of a failure that they do not."""

    def judge(ended: Ended) -> Count:
        count = Count()
        for path in files():
            for case in ElementTree.parse(path).getroot().iter("testcase"):
                kinds = {child.tag for child in case}
                count += Count(failed=1) if kinds & {"failure", "error"} else Count(skipped=1) if "skipped" in kinds else Count(passed=1)
        if (ended.code != 0 and not count.failed) or not (count.passed + count.failed):
            count += Count(failed=1)
        return count

    return judge


@dataclass
class Step:
    """One command. `cores` of the machine are taken while it runs; `before` prepares it in this process and may raise."""

    name: str
    command: Sequence[str | Path]
    cores: int = 1
    folder: Path = COPY
    environment: dict[str, str] = field(default_factory=dict)
    judge: Judge = by_exit_code
    before: Callable[[], None] | None = None
    seconds: float = 1200.0
    show: Callable[[str], str] | None = None  # what of the output is worth a look although nothing failed
    explain: Callable[[str], str] = str.rstrip  # what of the output tells why something failed


class Processes:
    """The process groups that are alive, so that an interrupted run ends every one of them."""

    def __init__(self) -> None:
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()
        self._closed = False
        # What a shell starts in the background ignores it, and so would every command.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(self, step: Step) -> Ended:
        """Run the step's command to its end or its time limit. Its output also stands in .cache/log."""
        log = CACHE / "log" / (step.name.replace(" ", "-").replace("/", "-") + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            if step.before:
                step.before()
            with log.open("wb") as output:
                process = self._start(step, output)
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            return Ended(None, f"could not be started: {error}\n")
        try:
            code: int | None = process.wait(step.seconds)
            note = ""
        except subprocess.TimeoutExpired:
            code = None
            note = f"\nstopped: not done after {step.seconds:g} s\n"
        finally:
            self._end(process)
        return Ended(code, log.read_text(encoding="utf-8", errors="replace") + note)

    def _start(self, step: Step, output: BinaryIO) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise RuntimeError("interrupted")
            process = subprocess.Popen(
                list(map(str, step.command)),
                cwd=step.folder,
                env=tool_environment(**step.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._alive.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End what is left of the group: first politely, so that tests can stop their servers and say which of them failed."""
        with self._lock:
            self._alive.discard(process)
        for number, seconds in ((signal.SIGINT, 30.0), (signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            end = time.monotonic() + (seconds if process.poll() is None else 0.2)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)

    def close(self) -> None:
        """End all commands and start no more."""
        with self._lock:
            self._closed = True
            alive = list(self._alive)
        for process in alive:
            self._end(process)
