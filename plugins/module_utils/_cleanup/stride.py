# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far further on in a table the rows of the next batch end, where rows lie in the order of their time."""

from __future__ import annotations

_SOMEWHAT_FEWER, _FAR_FEWER = 0.8, 0.1
_MISSES = 2  # near the end of the rows that go, one guess is bound to lead past it


class Stride:
    """A guess, from a table that has `pages` for its `rows`; backwards where their order is the reverse one. It may be given up."""

    def __init__(self, pages: int, rows: int, *, backwards: bool) -> None:
        self._pages, self._each = pages, pages / max(1, rows)
        self._direction = -1 if backwards else 1
        self._missed = 0

    def to(self, rows: int) -> int:
        """Return how many pages further on somewhat fewer than `rows` rows end: negative ones are backwards, 0 is no guess."""
        return self._direction * min(self._pages, round(_SOMEWHAT_FEWER * rows * self._each))

    def led(self, *, somewhere: bool) -> None:
        """Note whether a guess led to rows that go; where several in a row did not, all that follow would only cost their look."""
        self._missed = 0 if somewhere else self._missed + 1
        if self._missed >= _MISSES:
            self.give_up()

    def took(self, done: int, rows: int) -> None:
        """Note that a guess at `rows` rows came to as many as were `done`."""
        if done < _FAR_FEWER * rows:
            self.give_up()

    def give_up(self) -> None:
        """Guess no more."""
        self._each = 0.0
