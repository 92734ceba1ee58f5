# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watcher sees: the table, how much of it is done, how fast, and for how long it will go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Mapping

# What a server keeps of application_name.
NAME_BYTES = 63
# Less than this of a table's name says nothing any more; then the numbers at the end go.
_LEAST_NAME = 6
_CUT = "~"

Watch = Callable[["ProgressView"], None]


@dataclass(frozen=True)
class ProgressView:
    """How far one table is. `seconds_left` and `rows_per_second` are None while they cannot be told."""

    operation: str
    table: str
    done: int
    total: int
    rows_per_second: float | None = None
    seconds_left: float | None = None

    @classmethod
    def after(cls, operation: str, table: str, done: int, total: int, seconds: float) -> ProgressView:
        """Return the view of a table of whose `total` rows `done` took so many `seconds`, and the rest will be as fast."""
        rate = done / seconds if done > 0 and seconds > 0 else None
        return cls(operation, table, done, total, rate, None if rate is None else max(0, total - done) / rate)

    @classmethod
    def from_mapping(cls, found: Any) -> ProgressView | None:
        """Return the view that `as_mapping` gave, or None if `found` is none; it may come from another host."""
        if not isinstance(found, Mapping):
            return None
        done, total = _number(found.get("done")), _number(found.get("total"))
        if done is None or total is None:
            return None
        words = (str(found.get("operation") or ""), str(found.get("table") or ""))
        return cls(*words, int(done), int(total), _number(found.get("rows_per_second")), _number(found.get("seconds_left")))

    @property
    def percent(self) -> int:
        """Return how much is done, in whole percent; 100 only when everything is."""
        return max(0, min(100, 100 * self.done // max(1, self.total)))

    def as_mapping(self) -> dict[str, Any]:
        """Return the view as it is published."""
        return {
            "operation": self.operation,
            "table": self.table,
            "done": self.done,
            "total": self.total,
            "percent": self.percent,
            "rows_per_second": None if self.rows_per_second is None else round(self.rows_per_second, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
        }

    def line(self, limit_bytes: int) -> str:
        """Return the view in at most so many bytes of UTF-8, such as `custom.denylist 45% 81k/s 0:12 left`.

        What does not fit is left out: first the end of the table's name, then the time, then the speed.
        """
        table = _printable(self.table)
        for shown in (3, 2, 1):
            numbers = " ".join(self._numbers()[:shown])
            room = limit_bytes - len(numbers) - 1
            if room >= min(_LEAST_NAME, len(table.encode())):
                return f"{_shortened(table, room)} {numbers}"
        return f"{self.percent}%"[: max(0, limit_bytes)]

    def _numbers(self) -> list[str]:
        rate = [] if self.rows_per_second is None else [f"{_counted(self.rows_per_second)}/s"]
        left = [] if self.seconds_left is None or not rate else [f"{_clock(self.seconds_left)} left"]
        return [f"{self.percent}%", *rate, *left]


def named(prefix: str, view: ProgressView) -> str:
    """Return `prefix` and the view as an application_name; a server would write other letters than those of ASCII as longer escapes."""
    room = NAME_BYTES - len(prefix.encode()) - 1
    return f"{prefix} {view.line(room)}".rstrip().encode("ascii", "replace").decode("ascii")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return value


def _printable(text: str) -> str:
    """Return `text` without what would move a terminal's cursor."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _shortened(text: str, room: int) -> str:
    if len(text.encode()) <= room:
        return text
    return text.encode()[: room - len(_CUT)].decode("utf-8", "ignore") + _CUT


def _counted(number: float) -> str:
    """Return a number in at most four characters: 0.3, 950, 1.2k, 81k, 3.4M."""
    for unit in ("", "k", "M", "G"):
        if number < 9.95:
            return f"{number:.1f}{unit}"
        if number < 999.5:
            return f"{number:.0f}{unit}"
        number /= 1000
    return "1T+"


def _clock(seconds: float) -> str:
    """Return a span as 0:12, 1:02:12, or in days from 100 hours on."""
    whole = math.ceil(seconds)
    if whole >= 360_000:
        return f"{whole // 86_400} d"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def unwatched(_view: ProgressView) -> None:
    """Watch nothing."""
