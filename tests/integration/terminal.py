"""A terminal for programs that behave otherwise on one, and what a person sees on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[(\d*)(?:;\d+)*([A-Za-z])")
_UNFINISHED = re.compile(r"\x1b(\[[\d;]*)?$")


@dataclass
class Screen:
    """The lines on a terminal, after the control sequences that Ansible and this collection use; any other is an error."""

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0

    def write(self, text: str) -> None:
        while text:
            control = _CONTROL.match(text)
            if control:
                self._obey(control[2], int(control[1] or 1))
                text = text[control.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _obey(self, letter: str, number: int) -> None:
        if letter == "A":
            assert number <= self.row, "the cursor left the top"
            self.row -= number
        elif letter == "K":
            assert number == 2
            self.lines[self.row] = ""
        else:
            assert letter == "m", letter

    def _put(self, character: str) -> None:
        assert character != "\x1b", "a control sequence that no test knows"
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            self.lines += [""] * (self.row == len(self.lines))
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def text(self) -> list[str]:
        """Return the lines down to the last that is not empty."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n").split("\n")


@dataclass(frozen=True)
class Seen:
    """The end of a program, everything it wrote, and what stood on the screen after each piece of it."""

    rc: int
    raw: str
    screens: list[list[str]]

    @property
    def last(self) -> list[str]:
        return self.screens[-1]


def on_terminal(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    columns: int = 100,
    interrupt: Callable[[list[str]], bool] = lambda _screen: False,
    look: Callable[[list[str]], object] = lambda _screen: None,
    seconds: float = 120,
) -> Seen:
    """Run `command` on a terminal of its own, whose screen `look` gets; ctrl-C is pressed once when `interrupt` says so of it."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        # Here, so that it has its size when the program begins.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.execvpe(command[0], list(command), dict(environment))
    screen, raw, screens, pressed = Screen(), "", [[""]], False
    pending = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end was closed
            break
        if not data:
            break
        pending += data
        text = pending.decode("utf-8", "ignore")
        if text.encode() != pending or _UNFINISHED.search(text):
            continue
        pending = b""
        raw += text
        screen.write(text)
        screens.append(screen.text())
        look(screens[-1])
        if not pressed and interrupt(screens[-1]):
            pressed = True
            os.write(terminal, b"\x03")
    else:
        os.kill(child, 9)
    status = os.waitpid(child, 0)[1]
    os.close(terminal)
    return Seen(os.waitstatus_to_exitcode(status), raw, screens)
