# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs checks against a database: each by itself, none able to take another with it, all judged alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, Database
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration, parse_duration, time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health import availability
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.chronicle import Chronicle
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.schema_store import SchemaStore
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.store import Handed, Opener, Store
from ansible_collections.pgops.runbook.plugins.module_utils._health.limits import declared, known, merge
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Expected, Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import UNKNOWN, Check, Limits, Reading, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import ALWAYS, CHECKS, TIERS, not_looked_at, select, stand_ins
from ansible_collections.pgops.runbook.plugins.module_utils._health.report import Result, Run, report
from ansible_collections.pgops.runbook.plugins.module_utils._health.suppressions import Suppressions
from ansible_collections.pgops.runbook.plugins.module_utils._health.suppressions import read as read_suppressions
from ansible_collections.pgops.runbook.plugins.module_utils._system import load

# A check asks for a lock for so long and no longer: whoever queues behind it would wait as well.
LOCK_TIMEOUT = "100 ms"
CHECK_TIMEOUT = "10 s"
MAX_RUNTIME = "5 min"
HISTORY_KEEP = "400 days"
# A run waits so long for a lock on its own history, and one statement on that runs so long.
HISTORY_LOCK_TIMEOUT, HISTORY_TIMEOUT = "5 s", "10 s"
_REPORT = "Report this to the makers of the collection."
FAIL_ON_DEFAULT = "critical"
# From strict to lenient: each fails on what stands before it, too.
FAIL_ON = {"critical": ("critical",), "warning": ("critical", "warning"), "unknown": ("critical", "warning", "unknown"), "never": ()}


@dataclass(frozen=True)
class Request:
    """What to look at: the checks in order, the limits of each by id, and the normalised system description (None: the server alone).

    `max_runtime` (seconds) is when no further check begins; `store` where earlier runs are kept.
    """

    checks: Sequence[Check]
    limits: Mapping[str, Limits]
    system: Mapping[str, Any] | None
    tier: str | None = None
    expected: Expected = field(default_factory=Expected)
    suppressions: Suppressions = field(default_factory=Suppressions)
    max_runtime: float = parse_duration(MAX_RUNTIME)
    store: Store = field(default_factory=Store)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Request:
        """Return the request in a module's `params`. Raises DescriptionError and InvalidValue; nothing has been connected to yet."""
        system = load(params["system"]) if params.get("system") else None
        called = params.get("thresholds") or {}
        for check_id in called:
            known(check_id, CHECKS, "thresholds")
        written = (system or {}).get("thresholds") or {}
        absent = stand_ins(written)
        tier = params.get("tier") or None
        checks = select(params.get("checks") or (), tier, absent)
        merged = {check.id: merge(check, written.get(check.id), called.get(check.id)) for check in CHECKS.values()}
        merged.update({check.id: declared(written[check.id]) for check in absent})
        return cls(
            checks=checks,
            limits=merged,
            system=system,
            tier=tier or (None if params.get("checks") else TIERS[0]),
            expected=_expected(params),
            suppressions=read_suppressions(system, params.get("suppressions")),
            max_runtime=time_to_wait(params.get("max_runtime") or MAX_RUNTIME, "max_runtime"),
            store=_store(params),
        )


def _expected(params: Mapping[str, Any]) -> Expected:
    return Expected(
        role=params.get("expected_role") or None,
        standbys=[name for name in params.get("expected_standbys") or () if name.strip()],
        backups=params.get("backup_folder") or None,
        caches=params.get("cache_connection") or {},
        exact_counts=bool(params.get("exact_counts")),
    )


def _store(params: Mapping[str, Any]) -> Store:
    keep = time_to_wait(params.get("history_keep") or HISTORY_KEEP, "history_keep")
    schema, handed = params.get("history_schema") or None, params.get("history") or None
    if schema and handed:
        raise InvalidValue("history and history_schema: give one, a history is kept in one place", object_name="history")
    return SchemaStore(schema, keep) if schema else Handed(handed) if handed else Store()


def writer_options(options: ConnectionOptions) -> ConnectionOptions:
    """Return the options of the session that records the run: it may wait a moment for another run, and for nothing else."""
    return replace(options, lock_timeout=HISTORY_LOCK_TIMEOUT, statement_timeout=HISTORY_TIMEOUT)


def session_options(options: ConnectionOptions, check_timeout: str | None) -> ConnectionOptions:
    """Return the options of a session in which no check runs or waits for long; an empty `check_timeout` counts as not given.

    Raises InvalidValue for a wrong one.
    """
    bounded = replace(options, lock_timeout=LOCK_TIMEOUT, statement_timeout=check_timeout or CHECK_TIMEOUT)
    try:
        bounded.milliseconds()
    except InvalidValue as error:
        raise InvalidValue(error.message.replace("statement_timeout", "check_timeout"), object_name="check_timeout") from None
    return bounded


def run(open_database: Callable[[], Database], request: Request, open_writer: Opener | None = None) -> Dict[str, Any]:
    """Return the result of the checks. `open_database` opens a read-only session; that it cannot is a finding like any other.

    `open_writer` opens one that may write, for a history in the database; without it nothing is recorded.

    Raises DriverMissing and InvalidValue from `open_database`: they say nothing about the database.
    """
    clock = _Clock()
    run = Run(request.system, request.tier, request.limits, request.suppressions, datetime.now(timezone.utc), clock.marks)
    chronicle = Chronicle(request.store, (request.system or {}).get("name") or "")
    try:
        database = open_database()
    except ConnectError as error:
        clock.mark(ALWAYS)
        chronicle.begin(None, run.time)
        return _ended(chronicle, run, _refused(request, availability.refused(error)))
    with database:
        opened = database.round_trips
        try:
            look = Look(database, request.system, request.expected)
            look.facts.gather([*(fact for check in request.checks for fact in check.facts), *chronicle.facts])
        except RunbookError as error:
            clock.mark(ALWAYS)
            lost = {ALWAYS: availability.lost("the session answers nothing", error)}
            chronicle.begin(None, run.time)
            return _ended(chronicle, replace(run, round_trips=database.round_trips - opened), _refused(request, lost))
        clock.mark(ALWAYS)
        look.history = chronicle.begin(look, look.now)
        clock.mark("history")
        results, reason = [], None
        for check in request.checks:
            readings = _readings(check, look, request.limits[check.id]) if clock.passed <= request.max_runtime else [_late(request)]
            results.append((check, readings))
            clock.mark(check.id)
            if database.closed:
                reason = reason or next((reading.error for reading in readings if _is_the_end(reading.error)), None)
        if database.closed:
            lost_now = availability.lost("the connection was lost while the checks ran", reason)
            results = [(check, [lost_now] if check.id == ALWAYS else readings) for check, readings in results]
        trips = database.round_trips - opened
        seen = replace(run, time=look.now, server=look.server, round_trips=trips, tables=look.tables, details=look.details)
        return _ended(chronicle, seen, results, look, open_writer)


def fails(status: str, fail_on: str | None) -> bool:
    """Return whether a result of this status fails the task; an empty `fail_on` counts as not given."""
    return status in FAIL_ON[fail_on or FAIL_ON_DEFAULT]


def _ended(
    chronicle: Chronicle, run: Run, results: Sequence[Result], look: Look | None = None, open_writer: Opener | None = None
) -> Dict[str, Any]:
    """Return the result of a run, compared with those before it and recorded."""
    return chronicle.end(report(run, results), results, look, open_writer)


def _is_the_end(error: RunbookError | None) -> bool:
    """Return whether it is the error by which a session ended, rather than a refusal of one statement."""
    state = error.sqlstate if isinstance(error, DatabaseError) else "none"
    return state is None or state[:2] == "08" or state[:3] == "57P"


def _readings(check: Check, look: Look, limits: Limits) -> List[Reading]:
    try:
        return list(check.run(look, limits)) or [unknown(InvalidValue("the check said nothing", hint=_REPORT))]
    except RunbookError as error:
        return [unknown(error)]
    except Exception as error:  # noqa: BLE001  (a fault of one check must not hide what the others found; it is reported)
        return [unknown(InvalidValue(f"the check itself failed: {type(error).__name__}: {error}", hint=_REPORT))]


def _late(request: Request) -> Reading:
    limit = format_duration(request.max_runtime)
    return unknown(InvalidValue(f"not looked at: max_runtime ({limit}) was over", hint="Give the run more time, or choose fewer checks."))


def _refused(request: Request, said: Mapping[str, Reading]) -> List[Result]:
    """Return the results without a session: what the refusal means, and for all other checks that nothing was seen."""
    blind = Reading("not looked at: there is no connection", status=UNKNOWN, told=True)
    checks = list(request.checks) + [CHECKS[check_id] for check_id in said if CHECKS[check_id] not in request.checks]
    return [(check, [said.get(check.id, blind)] if check.exists else not_looked_at()) for check in checks]


class _Clock:
    """Milliseconds by the id of the check that took them."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self.marks: Dict[str, float] = {}

    @property
    def passed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def mark(self, check_id: str) -> None:
        now = time.monotonic()
        self.marks[check_id] = self.marks.get(check_id, 0.0) + (now - self._last) * 1000
        self._last = now
