# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a history is kept: nowhere, in a schema of the database, or in a file that somebody else reads and writes for the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.record import RECORDS_READ, Record
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.series import Point, as_read

if TYPE_CHECKING:
    from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look

Opener = Callable[[], Database]


@dataclass(frozen=True)
class Stored:
    """What a store holds of one system: the newest records first, the thinned series, and how many runs are recorded."""

    records: Sequence[Record] = ()
    series: Mapping[str, List[Point]] = field(default_factory=dict)
    snapshots: int = 0
    damaged: int = 0


class Store:
    """No history: nothing is read and nothing recorded. Other stores do more."""

    kept_in = "none"
    place: str | None = None
    # What it asks the server together with the checks.
    facts: Tuple[Fact, ...] = ()

    def read(self, look: Look | None, system: str) -> Stored | None:
        """Return what is stored; None where that cannot be read without the session that is missing. Raises RunbookError."""
        return Stored()

    def record(self, record: Record, look: Look | None, open_writer: Opener | None) -> List[str]:
        """Record a run and return notices. Raises RunbookError where the run is not recorded, with what to do."""
        return []

    @property
    def records_itself(self) -> bool:
        """Whether `record` records; otherwise whoever called hands the snapshot on."""
        return False


class Handed(Store):
    """A history that was read from a file of the control node and handed over; the module pg_health_history records."""

    kept_in = "file"

    def __init__(self, history: Mapping[str, Any]) -> None:
        known = {"place", "records", "series", "snapshots", "damaged"}
        records = history.get("records")
        if not known & set(history) or not isinstance(records, list):
            hint = "Register the result of pgops.runbook.pg_health_history and give its key history."
            raise InvalidValue("history: this is not what pg_health_history returns", object_name="history", hint=hint)
        self.place = str(history.get("place") or "") or None
        self._stored = Stored(
            records[:RECORDS_READ], as_read(history.get("series")), _count(history, "snapshots"), _count(history, "damaged")
        )

    def read(self, look: Look | None, system: str) -> Stored | None:
        """Return what was handed over."""
        return self._stored


class Refused(RunbookError):
    """A run cannot be recorded, or its history not be read."""


def as_handed(place: str, stored: Stored, series: Mapping[str, List[List[float]]]) -> Dict[str, Any]:
    """Return `stored` as it is handed from one module to the other."""
    return {
        "place": place,
        "records": list(stored.records),
        "series": dict(series),
        "snapshots": stored.snapshots,
        "damaged": stored.damaged,
    }


def _count(history: Mapping[str, Any], name: str) -> int:
    value = history.get(name)
    return value if isinstance(value, int) and value >= 0 else 0
