# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes into a program that may take its time: its end and the run's own are noticed meanwhile."""

from __future__ import annotations

import os
import select

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child, input_of
from ansible_collections.pgops.runbook.plugins.module_utils._client.files import Rhythm
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

_EVERY = 1.0  # seconds between two ticks


class Feed:
    """Writes to the standard input of `child`, which was made with a pipe there."""

    def __init__(self, child: Child, tick: Tick | None = None) -> None:
        self._child = child
        self._file = input_of(child)
        self._rhythm = Rhythm(tick, _EVERY)
        self.taken = True
        os.set_blocking(self._file.fileno(), False)

    @property
    def given_up(self) -> bool:
        """Whether the program has failed. One that takes no more for another reason lets the rest be read, so that its end is judged."""
        return not self.taken and self._child.poll() not in (None, 0)

    def take(self, data: bytes) -> bool:
        """Write as `write` does; return whether nothing more is worth reading."""
        self.write(data)
        return self.given_up

    def write(self, data: bytes) -> None:
        """Write all of `data`, as long as the program takes it (`taken`)."""
        if not self.taken:
            return
        view = memoryview(data)
        place = self._file.fileno()
        poll = select.poll()
        poll.register(place, select.POLLOUT)
        try:
            while view:
                if poll.poll(int(1000 * self._rhythm.left())):
                    view = view[os.write(place, view) :]
                self._rhythm.beat()
        except BrokenPipeError:
            self.taken = False

    def close(self) -> None:
        """Say that nothing more comes."""
        try:
            self._file.close()
        except BrokenPipeError:
            self._child.poll()
