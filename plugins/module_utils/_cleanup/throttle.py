# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the server breathe: between batches, a run pauses while others suffer from it or would have to wait behind it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from typing import Any, Callable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_archive import Archive
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_replicas import Receivers
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_sessions import BlockedSessions, OldestTransaction
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_watch import Measured, Unseen, Watch
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration, parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, shown, unknown_key

PATH = "throttle"
LOOK_EVERY = 0.25  # seconds from one look to the next while all is well
ASK_AGAIN = 1.0  # and while it is not
_STEP = 0.1  # how soon a pause notices that it has to end
_OFF = ("off", "no", "never", "none", "false")
# Errors of these classes will come again: what is asked for is not there, not supported, or not for this role.
_LASTING = ("42", "0A")
_WATCHES = (Receivers, OldestTransaction, Archive, BlockedSessions)


@dataclass(frozen=True)
class Limits:
    """What is still well, in seconds or as a count; None where it does not matter. `max_pause` is the longest pause, None for no end."""

    replica_lag: float | None = 30.0
    oldest_transaction: float | None = 3600.0
    archive_backlog: int | None = 64
    blocked_sessions: int | None = 5
    max_pause: float | None = 300.0


_COUNTS = ("archive_backlog", "blocked_sessions")


def read_limits(written: Any, faults: Faults, path: str = PATH) -> Limits:
    """Return the limits that `written` gives; what is wrong with it goes to `faults`.

    A key that is left out or empty has its default; null, false and `off` switch a limit off. YAML reads a bare off as false.
    """
    if not isinstance(written, Mapping):
        faults.add(path, f"{shown(written)} is not a mapping with {', '.join(each.name for each in fields(Limits))}")
        return Limits()
    names = [each.name for each in fields(Limits)]
    for key in written:
        if key not in names:
            faults.add(join(path, key), unknown_key(key, names))
    given = {name: written[name] for name in names if name in written and written[name] != ""}
    return Limits(**{name: _limit(name, value, join(path, name), faults) for name, value in given.items()})


def _limit(name: str, value: Any, path: str, faults: Faults) -> Any:
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in _OFF):
        return None
    if name in _COUNTS:
        number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
            return number
        faults.add(path, f"{shown(value)} is not a whole number from 0 up; off switches it off")
        return None
    try:
        return parse_duration(value)
    except InvalidValue as error:
        faults.add(path, f"{error.message}; off switches it off")
        return None


@dataclass
class _Reason:
    """One cause of pauses: the worst that was measured, and for how many seconds of them it lasted."""

    limit: float
    unit: str
    measured: float = 0.0
    who: str | None = None
    pauses: int = 0
    seconds: float = 0.0


class Throttle:
    """Pauses a run while any of the limits is exceeded; one for a whole run.

    `tell` is called with what is waited for, each time that it is looked at during a pause.
    `paused_seconds` is the sum of all pauses.
    """

    def __init__(self, limits: Limits, tell: Callable[[str], None] | None = None) -> None:
        self.limits = limits
        self.paused_seconds = 0.0
        self._tell = tell
        self._unseen = Unseen()
        self._watches: list[Watch] = [each(self._unseen) for each in _WATCHES if getattr(limits, each.name) is not None]
        self._reasons: dict[str, _Reason] = {}
        self._well_at = -math.inf

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """Return the causes of all pauses so far: {what, measured (the worst), limit, unit, who, pauses, seconds}."""
        return [
            {
                "what": what,
                "measured": _plain(each.measured),
                "limit": _plain(each.limit),
                "unit": each.unit,
                "who": each.who,
                "pauses": each.pauses,
                "seconds": round(each.seconds, 3),
            }
            for what, each in self._reasons.items()
        ]

    @property
    def unknown(self) -> list[dict[str, Any]]:
        """Return what could not be seen, each once: {what, reason, hint}."""
        return self._unseen.as_result()

    def wait(self, database: Any, late: Callable[[], bool]) -> bool:
        """Return True once all is well, at once where it is; False where it was not for `max_pause`, or `late` became true meanwhile.

        Looks at the server at most every 250 ms. Raises DatabaseError inside a transaction, which would stand in others' way.
        """
        if database.in_transaction:
            raise DatabaseError("a pause between batches is outside a transaction: commit first")
        if not self._watches or time.monotonic() - self._well_at < LOOK_EVERY:
            return True
        exceeded = self._look(database)
        return self._pause(database, late, exceeded) if exceeded else True

    def _pause(self, database: Any, late: Callable[[], bool], exceeded: dict[str, Measured]) -> bool:
        began = time.monotonic()
        end = math.inf if self.limits.max_pause is None else began + self.limits.max_pause
        causes: set[str] = set()
        try:
            while exceeded:
                self._note(exceeded, causes)
                asleep = time.monotonic()
                if asleep >= end or late():
                    return False
                _sleep(min(ASK_AGAIN, end - asleep), late)
                for what in exceeded:
                    self._reasons[what].seconds += time.monotonic() - asleep
                exceeded = self._look(database)
            return True
        finally:
            self.paused_seconds += time.monotonic() - began

    def _note(self, exceeded: Mapping[str, Measured], causes: set[str]) -> None:
        """Note what is exceeded, once a pause in `pauses`, and tell it."""
        for watch in self._watches:
            found = exceeded.get(watch.name)
            if found is None:
                continue
            reason = self._reasons.setdefault(watch.name, _Reason(getattr(self.limits, watch.name), watch.unit))
            reason.pauses += watch.name not in causes
            causes.add(watch.name)
            if found.value > reason.measured:
                reason.measured, reason.who = found.value, found.who
        if self._tell is not None:
            self._tell(", ".join(f"{what} {_said(found.value, self._reasons[what].unit)}" for what, found in exceeded.items()))

    def _look(self, database: Any) -> dict[str, Measured]:
        """Return what is beyond its limit now, in the order of the limits."""
        now = time.monotonic()
        queries = {watch: query for watch, query in ((each, each.query(database, now)) for each in self._watches) if query is not None}
        facts = self._asked(database, queries)
        exceeded: dict[str, Measured] = {}
        for watch in self._watches:
            found = watch.measured(database, facts.get(watch.name, []), now)
            if found is not None and found.value > getattr(self.limits, watch.name):
                exceeded[watch.name] = found
        if not exceeded:
            self._well_at = now
        return exceeded

    def _asked(self, database: Any, queries: Mapping[Watch, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the facts of every watch, by one query; without those that this server refuses, which are not asked again."""
        if not queries:
            return {}
        try:
            rows = database.rows(database.sql.SQL(" UNION ALL ").join(list(queries.values())))
        except DatabaseError as error:
            if database.closed or (error.sqlstate or "")[:2] not in _LASTING:
                raise
            answered = {watch: query for watch, query in queries.items() if self._answered(database, watch, query)}
            if len(answered) == len(queries):
                raise
            self._watches = [watch for watch in self._watches if watch in answered or watch not in queries]
            return self._asked(database, answered)
        facts: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            facts.setdefault(row["what"], []).append(row["facts"])
        return facts

    def _answered(self, database: Any, watch: Watch, query: Any) -> bool:
        """Tell whether the server answers a part alone; note what it says where it does not."""
        try:
            database.rows(query)
        except DatabaseError as error:
            if database.closed or (error.sqlstate or "")[:2] not in _LASTING:
                raise
            self._unseen.note(watch.name, f"the server does not show it: {error.message}", error.hint)
            return False
        return True


def _sleep(seconds: float, late: Callable[[], bool]) -> None:
    """Sleep, but no longer than until `late` is true."""
    end = time.monotonic() + seconds
    while not late():
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(_STEP, left))


def _plain(number: float) -> float:
    """Return a count as a whole number, and seconds to the millisecond."""
    return number if isinstance(number, int) else round(number, 3)


def _said(value: float, unit: str) -> str:
    return format_duration(round(value)) if unit == "s" else f"{value} {unit}"
