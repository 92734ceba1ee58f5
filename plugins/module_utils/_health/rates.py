# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened since the run before: transactions, rollbacks, deadlocks, temporary files.

The counters of pg_stat_database say nothing by themselves: a ratio over their whole life never moves. They are compared with what the
run before kept of them, and with nothing where they have been set back since.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import SKIPPED, Check, Limits, Reading, Unseen
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

# With all columns that this version has: one that is missing takes no more with it than what counts by it. A standby counts for itself.
COUNTERS = Fact("database_counters", "SELECT to_json(d) FROM pg_stat_database AS d WHERE datname = current_database()")


class Counts(Dict[str, float]):
    """The counters of a database by column."""

    def __missing__(self, column: str) -> float:
        """Say that this server has no such counter."""
        raise MissingObject(f"this server has no pg_stat_database.{column}", object_name=f"pg_stat_database.{column}")


class Since(NamedTuple):
    """How much some counters have grown, by their column, in the `seconds` since `began`."""

    grown: Mapping[str, float]
    seconds: float
    began: str


def read(look: Look) -> Counts:
    """Return the counters of the database. Raises Unseen where the server does not count."""
    facts = look.fact(COUNTERS)
    if not facts:
        raise Unseen("the server has counted nothing of this database yet", hint="Run again in a minute.")
    return Counts({column: float(value) for column, value in facts.items() if isinstance(value, (int, float))})


def metrics(values: Mapping[str, float], *columns: str) -> Dict[str, float | None]:
    """Return counters as metrics: under these names the next run finds them."""
    return {_metric(column): values[column] for column in columns}


def since(look: Look, values: Mapping[str, float], *columns: str) -> Since | None:
    """Return what was counted since a run read these counters; None where there was none, or they were set back since."""
    grown: Dict[str, float] = {}
    seconds = 0.0
    for column in columns:
        rate = look.history.rate(_metric(column), values[column])
        if rate is None:
            return None
        seconds = rate[1]
        grown[column] = rate[0] * seconds
    return Since(grown, seconds, datetime.fromtimestamp(look.now.timestamp() - seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))


def absence(look: Look, column: str) -> str:
    """Return why `since` knows nothing, in words."""
    if _metric(column) not in look.history.counters:
        return look.history.absence
    return "the server's counters may have begun anew since the run before: it was restarted, has crashed, was reset, or is another one"


def _metric(column: str) -> str:
    return f"db.{column}_total"


def _nothing(look: Look, values: Mapping[str, float], *columns: str) -> List[Reading]:
    return [Reading(absence(look, columns[0]), status=SKIPPED, metrics=metrics(values, *columns))]


def _transactions(look: Look, limits: Limits) -> Iterable[Reading]:
    columns = ("xact_commit", "xact_rollback")
    values = read(look)
    found = since(look, values, *columns)
    if found is None:
        return _nothing(look, values, *columns)
    total = sum(found.grown.values())
    rate = round(total / found.seconds, 3)
    return [Reading(f"{rate:g} transactions a second since {found.began}", rate, metrics=metrics(values, *columns))]


def _rollbacks(look: Look, limits: Limits) -> Iterable[Reading]:
    columns = ("xact_commit", "xact_rollback")
    values = read(look)
    found = since(look, values, *columns)
    if found is None:
        return _nothing(look, values, *columns)
    total, rolled_back = round(sum(found.grown.values())), round(found.grown["xact_rollback"])
    if total < (limits.minimum or 1):
        message = f"insufficient sample: {counted(total, 'transaction')} since {found.began}, fewer than {limits.minimum or 1:g}"
        return [Reading(message, status=SKIPPED, metrics=metrics(values, *columns))]
    percent = round(100.0 * rolled_back / total, 2)
    message = f"{rolled_back} of {total} transactions were rolled back since {found.began}"
    return [Reading(message, percent, metrics=metrics(values, *columns))]


def _grown(look: Look, column: str) -> Tuple[List[Reading], Since | None, Dict[str, float | None]]:
    values = read(look)
    found = since(look, values, column)
    return (_nothing(look, values, column) if found is None else []), found, metrics(values, column)


def _deadlocks(look: Look, limits: Limits) -> Iterable[Reading]:
    nothing, found, known = _grown(look, "deadlocks")
    if found is None:
        return nothing
    count = round(found.grown["deadlocks"])
    return [Reading(f"{counted(count, 'deadlock')} since {found.began}", float(count), metrics=known)]


def _temporary(look: Look, limits: Limits) -> Iterable[Reading]:
    nothing, found, known = _grown(look, "temp_bytes")
    if found is None:
        return nothing
    size: Any = round(found.grown["temp_bytes"])
    return [Reading(f"{format_size(size)} of temporary files since {found.began}", float(size), metrics=known)]


CHECKS: List[Check] = [
    Check(
        id="db.transaction_rate",
        title="Transactions a second",
        tier="daily",
        looks_at="xact_commit and xact_rollback of pg_stat_database, since a run read them last. It has thresholds where the system gives "
        "them. Skipped without a history, and where the counters have been set back since.",
        action="Look which application sends more, or less, than it used to.",
        needs="a history",
        run=_transactions,
        facts=(COUNTERS,),
        unit="count",
    ),
    Check(
        id="db.rollback_pct",
        title="Transactions rolled back",
        tier="daily",
        looks_at="xact_rollback of pg_stat_database as a share of all transactions, since a run read them last. It has thresholds where "
        "the system gives them. Skipped without a history, on a small sample, and where the counters have been set back since.",
        action="Look in the server's log for the errors that end the transactions.",
        needs="a history",
        run=_rollbacks,
        facts=(COUNTERS,),
        unit="percent",
        minimum=1000,
        minimum_of="transactions",
    ),
    Check(
        id="db.deadlocks",
        title="Deadlocks",
        tier="daily",
        looks_at="deadlocks of pg_stat_database, since a run read them last. Skipped without a history, and where the counters have been "
        "set back since.",
        action="Look in the server's log for the two statements, and have the application take its locks in one order.",
        needs="a history",
        run=_deadlocks,
        facts=(COUNTERS,),
        unit="count",
        warning=0,
    ),
    Check(
        id="db.temp_bytes",
        title="Temporary files",
        tier="daily",
        looks_at="temp_bytes of pg_stat_database, since a run read them last. It has thresholds where the system gives them. Skipped "
        "without a history, and where the counters have been set back since.",
        action="Find the statements by log_temp_files; give them an index or, for their role, more work_mem.",
        needs="a history",
        run=_temporary,
        facts=(COUNTERS,),
        unit="bytes",
    ),
]
