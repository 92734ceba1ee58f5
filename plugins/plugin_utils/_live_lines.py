# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines at the end of a terminal's output that are rewritten in place."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Callable, ContextManager, Sequence

_ERASE, _UP = "\r\x1b[2K", "\x1b[1A"


class LiveLines:
    """Keeps some lines below everything that is written to the terminal: they are erased before other output and drawn again later.

    Ansible's own callback is told of a result before any other plugin, so that it is too late to erase them when this one is told.
    So every write to the terminal has to pass here first. `lock` is the one that Ansible holds while it writes and while it forks.
    """

    def __init__(self, lock: ContextManager[Any]) -> None:
        self._lock = lock
        self._drawn: list[str] = []
        self._line_begins = True
        self._streams: list[tuple[Any, Callable[[str], int]]] = []

    def open(self) -> None:
        """Let everything that is written pass here."""
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                self._streams.append((stream, stream.write))
                stream.write = self._passing(stream.write)  # type: ignore[method-assign]

    def close(self) -> None:
        """Erase the lines and step aside."""
        self.erase()
        for stream, write in self._streams:
            stream.write = write
        self._streams = []

    def draw(self, lines: Sequence[str]) -> None:
        """Show `lines` instead of those that are there. Raises OSError where the terminal has gone."""
        with self._lock:
            # Behind a question that waits for its answer they would stand in the way.
            if self._streams and list(lines) != self._drawn and (self._line_begins or not lines):
                # The line under them holds what was typed meanwhile.
                erasing = _ERASE + (_UP + _ERASE) * len(self._drawn) if self._drawn else ""
                text = erasing + "".join(f"{line}\n" for line in lines)
                self._drawn = list(lines)
                stream, write = self._streams[0]
                write(text)
                stream.flush()

    def erase(self) -> None:
        """Leave nothing of them behind; where the terminal has gone there is nothing to leave."""
        with contextlib.suppress(OSError, ValueError):
            self.draw(())

    def _passing(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def passed(text: str) -> int:
            with self._lock:
                self.erase()
                if text:
                    self._line_begins = text.endswith("\n")
                return write(text)

        return passed


def size() -> tuple[int, int]:
    """Return the terminal's columns and rows; 80 by 24 where it does not know."""
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns or 80, found.lines or 24
