# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slowest statements, and statistics about statements that are thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, Unseen, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.statement_text import shown
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, moment

EXTENSION = "pg_stat_statements"
NOT_LOADED = "55000"
# Of so many statements the counters are kept for the next run, those with the most time first.
KEPT = 500
REPORTED = 20
SLOWEST = 10

# An extension's version can lag behind its server's, so its columns are looked up; it may live in any schema.
_WHERE = """
SELECT n.nspname AS schema, a.names,
       (SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'pg_stat_statements_info') AS info
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
     CROSS JOIN LATERAL (SELECT array_agg(attname::text) AS names FROM pg_class AS c JOIN pg_attribute AS t ON t.attrelid = c.oid
                         WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements' AND t.attnum > 0) AS a
WHERE e.extname = 'pg_stat_statements'
"""
# Without texts: they stand in a file that may be very large, and are read of the few that are reported.
_NUMBERS = """
SELECT queryid::text AS id, sum(calls)::float8 AS calls, sum({time})::float8 AS ms, sum(rows)::float8 AS rows
FROM {function}(false) WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY queryid ORDER BY 3 DESC
"""
_TEXTS = """
SELECT DISTINCT ON (queryid) queryid::text AS id, left(query, 4000) AS text
FROM {function}(true) WHERE queryid::text = ANY (%(ids)s::text[])
"""
_INFO = "SELECT dealloc, stats_reset::text AS since FROM {function}()"


@dataclass(frozen=True)
class Statement:
    """What one statement did in a time: how often it ran, for how many milliseconds, and how many rows it returned or touched."""

    id: str
    calls: float
    ms: float
    rows: float

    @property
    def mean(self) -> float:
        """Milliseconds a call."""
        return self.ms / self.calls


@dataclass(frozen=True)
class Work:
    """What the statements of this database did since `since`: the run before (`by_history`), or the last reset of the counters."""

    statements: List[Statement]
    since: str | None
    by_history: bool
    hidden: bool


def _where(look: Look) -> Dict[str, Any]:
    """Return where the extension is. Raises Unseen where the system declares it and it is not there."""
    found = look.rows(_WHERE)
    if found:
        return found[0]
    if EXTENSION in (look.system.get("extensions") or ()):
        hint = f"As a superuser: CREATE EXTENSION {EXTENSION}; with {EXTENSION} in shared_preload_libraries, which takes a restart."
        raise Unseen("pg_stat_statements is declared in the system and not installed in this database", hint=hint)
    return {}


def _work(look: Look) -> Work:
    where = look.seen(_where)
    sql = look.sql
    function = sql.Identifier(where["schema"], EXTENSION)
    time = sql.Identifier("total_exec_time" if "total_exec_time" in where["names"] else "total_time")
    try:
        rows = look.rows(sql.SQL(_NUMBERS).format(time=time, function=function))
        info = look.seen(_info)
    except DatabaseError as error:
        if error.sqlstate == NOT_LOADED:
            hint = f"Put {EXTENSION} into shared_preload_libraries and restart the server."
            raise Unseen("pg_stat_statements is installed and the server has not loaded it", hint=hint) from None
        raise
    now = {row["id"]: Statement(row["id"], row["calls"], row["ms"], row["rows"] or 0.0) for row in rows if row["id"] is not None}
    hidden = len(now) < len(rows)
    reset = info["since"] if info else None
    previous = look.history.previous
    before = previous.kept.get("statements") if previous else None
    look.kept["statements"] = {
        "reset": reset,
        "time": look.now.isoformat(),
        "rows": {each.id: [each.calls, round(each.ms, 3), each.rows] for each in list(now.values())[:KEPT]},
    }
    if before and before.get("reset") == reset:
        return Work(_since(now, before["rows"]), before["time"], True, hidden)
    return Work([each for each in now.values() if each.calls], reset, False, hidden)


def _since(now: Mapping[str, Statement], before: Mapping[str, Tuple[float, float, float]]) -> List[Statement]:
    """Return what has been done since the counters were `before`. What was thrown away and came again counts from nothing."""
    done = []
    for each in now.values():
        calls, ms, rows = before.get(each.id, (0.0, 0.0, 0.0))
        # Times are kept rounded.
        if calls > each.calls or ms > each.ms + 1:
            calls, ms, rows = 0.0, 0.0, 0.0
        elif each.id not in before and len(before) >= KEPT:
            # It may have been among those that were not kept: what it did when is not known.
            continue
        if each.calls > calls:
            done.append(Statement(each.id, each.calls - calls, max(0.0, each.ms - ms), max(0.0, each.rows - rows)))
    return done


def _info(look: Look) -> Dict[str, Any]:
    """Return how often statistics were thrown away, and since when they are counted; nothing before version 1.9 of the extension."""
    where = look.seen(_where)
    if not where.get("info"):
        return {}
    return look.row(look.sql.SQL(_INFO).format(function=look.sql.Identifier(where["schema"], "pg_stat_statements_info")))


def _texts(look: Look, ids: Iterable[str]) -> Dict[str, str | None]:
    """Return the texts as they may be shown. A text that cannot be read is None: the numbers stand without it."""
    where = look.seen(_where)
    statement = look.sql.SQL(_TEXTS).format(function=look.sql.Identifier(where["schema"], EXTENSION))
    try:
        return {row["id"]: shown(row["text"]) for row in look.rows(statement, {"ids": sorted(set(ids))})}
    except DatabaseError:
        if look.database.closed:
            raise
        return {}


def _slow(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.seen(_where):
        return skipped("pg_stat_statements is not installed in this database")
    work = look.seen(_work)
    judged = [each for each in work.statements if each.calls >= (limits.minimum or 1)]
    by_time = sorted(work.statements, key=lambda each: -each.ms)[:REPORTED]
    # A list of the day leaves out nothing that ran but once; what is judged has run more often.
    slowest = sorted(work.statements, key=lambda each: -each.mean)[: _asked_for(look)]
    bounds = [bound for bound in (limits.warning, limits.critical) if bound is not None]
    over = [each for each in judged if bounds and each.mean / 1000 > min(bounds)]
    texts = _texts(look, [each.id for each in (*by_time, *slowest, *over[:REPORTED])])
    total = sum(each.ms for each in work.statements)
    look.details["statements"] = [_row(each, texts, total, work.since) for each in by_time]
    look.details["slowest"] = [_row(each, texts, total, work.since) for each in slowest]
    since = _since_words(work)
    readings = [
        Reading(
            f"{each.mean / 1000:.3g} s on average over {counted(int(each.calls), 'call')}{since}: {texts.get(each.id) or 'text not known'}",
            round(each.mean / 1000, 6),
            each.id,
        )
        for each in over
    ]
    if work.hidden:
        hint = f"As a superuser: GRANT pg_read_all_stats TO {quoted(look.role)};"
        error = Unseen(f"the role {look.role} may not see the statements of others", hint=hint)
        readings.append(unknown(error, "statements not seen" if readings else ""))
    if readings:
        return readings
    if not judged:
        return [Reading(f"no statement has run {limits.minimum or 1:g} times{since}", 0.0)]
    worst = max(judged, key=lambda each: each.mean)
    return [
        Reading(f"the slowest of {len(judged)} statements takes {worst.mean / 1000:.3g} s on average{since}", round(worst.mean / 1000, 6))
    ]


def _asked_for(look: Look) -> int:
    """Return how many statements the system's reports list at most."""
    return max([report["slow_statements"] for report in look.system.get("reports") or ()] + [SLOWEST])


def _since_words(work: Work) -> str:
    if work.since is None:
        return " since the counters began"
    if work.by_history:
        return f" since {datetime.fromisoformat(work.since).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    return f" since {moment(work.since)}"


def _row(each: Statement, texts: Mapping[str, str | None], total: float, since: str | None) -> Dict[str, Any]:
    return {
        "queryid": each.id,
        "text": texts.get(each.id),
        "calls": int(each.calls),
        "total_ms": round(each.ms, 3),
        "mean_ms": round(each.mean, 3),
        "share_pct": round(100.0 * each.ms / total, 1) if total else 0.0,
        "rows": int(each.rows),
        "since": since,
    }


def _evictions(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.seen(_where):
        return skipped("pg_stat_statements is not installed in this database")
    look.seen(_work)
    info = look.seen(_info)
    if not info:
        return skipped("this version of pg_stat_statements does not count them")
    total = float(info["dealloc"])
    metrics = {"stat.evictions_total": total}
    rate = look.history.rate("stat.evictions_total", total, look.now)
    if rate is None:
        said = f"{total:g} since {moment(info['since'])}; {look.history.absence}"
        return [Reading(said, 0.0 if not total else None, metrics=metrics)]
    times = round(rate[0] * rate[1])
    return [Reading(f"thrown away {counted(times, 'time')} since the run before", float(times), metrics=metrics)]


CHECKS: List[Check] = [
    Check(
        id="stat.slow",
        title="Slow statements",
        tier="daily",
        looks_at="pg_stat_statements of this database: the mean time of each statement since the run before where a history is kept, since "
        "the last reset of the counters otherwise. It has thresholds where the system gives them. Texts are shown without constants and "
        "comments, and of utility statements the first two words.",
        action="EXPLAIN (ANALYZE, BUFFERS) the statement, and look for a missing index.",
        needs="pg_read_all_stats; the extension pg_stat_statements",
        run=_slow,
        unit="seconds",
        minimum=5,
        minimum_of="calls",
    ),
    Check(
        id="stat.evictions",
        title="Statistics about statements thrown away",
        tier="daily",
        looks_at="pg_stat_statements_info.dealloc (PostgreSQL 14 and later) since the run before. It has thresholds where the system gives "
        "them.",
        action="Raise pg_stat_statements.max, or find the application that builds a new text for every statement.",
        needs="the extension pg_stat_statements",
        run=_evictions,
        unit="count",
    ),
]
