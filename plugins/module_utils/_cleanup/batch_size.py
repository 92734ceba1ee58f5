# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the next batch is."""

from __future__ import annotations

# How many times as long as it is meant to take, and at least how many seconds.
_TOO_LONG, _SHORTEST = 10, 1.0


class BatchSize:
    """How many rows or pages the next batch has, so that it takes about `seconds`; never more than `most`.

    A batch of which nobody has counted the rows is given up when it has taken `too_long` (seconds).
    """

    def __init__(self, seconds: float, first: int, least: int, most: int) -> None:
        self._seconds, self._least, self.most = seconds, min(least, most), most
        self.now = max(1, min(first, most))
        self.too_long = max(_SHORTEST, _TOO_LONG * seconds)

    def took(self, seconds: float) -> None:
        """Take into account how long a batch of this size took; the next one is at most twice and at least half as large."""
        factor = min(2.0, max(0.5, self._seconds / max(seconds, 0.000_001)))
        self.now = max(1, self._least, min(self.most, int(self.now * factor)))

    def was_refused(self) -> None:
        """Halve the next batch: the fewer rows it takes, the less it meets what others hold."""
        self.now = max(1, self.now // 2)

    def was_too_large(self, size: int) -> None:
        """Let no batch be larger than half of `size` any more."""
        self.most = max(1, size // 2)
        self._least, self.now = min(self._least, self.most), min(self.now, self.most)
