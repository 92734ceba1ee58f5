# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: how much there is.

Rows are estimated from pg_class.reltuples: what the last VACUUM or ANALYZE counted. It survives a crash and is there on a standby,
which the counters of pg_stat_user_tables (n_live_tup) do not and are not.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import catalogue, quoted, readable
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    LOCK_NOT_AVAILABLE,
    Check,
    Limits,
    Reading,
    Unseen,
    per_object,
    skipped,
)
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation, require

# A table never counted by the server is counted here where its file is small: autovacuum leaves tables of a few rows alone for ever.
COUNTED_BYTES = 8 << 20

# Before PostgreSQL 14, 0 stands for "never counted" as well; a time of the last count tells them apart.
_COUNTED = """
SELECT c.oid::int8 AS relation,
       CASE WHEN c.reltuples > 0 OR c.relpages > 0 AND c.reltuples = 0 THEN c.reltuples::float8
            WHEN c.reltuples = 0 AND (current_setting('server_version_num')::int >= 140000 OR coalesce(
                pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid),
                pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NOT NULL) THEN 0
       END AS rows
FROM pg_class c WHERE c.oid = ANY (%(relations)s::oid[])
"""
# Opens each relation with its indexes and TOAST table, and so waits behind an exclusive lock on any of these until lock_timeout: once that
# has happened, what is locked is left out. A lock of a prepared transaction has no process.
_MEASURED = """
WITH locked AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks
    WHERE %(careful)s AND locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
), free AS MATERIALIZED (
    SELECT o FROM unnest(%(relations)s::oid[]) AS o LEFT JOIN pg_class c ON c.oid = o
    WHERE NOT EXISTS (SELECT FROM locked WHERE relation IN (o, c.reltoastrelid))
      AND NOT EXISTS (SELECT FROM pg_index i JOIN locked l ON l.relation = i.indexrelid WHERE i.indrelid IN (o, c.reltoastrelid))
)
SELECT o::int8 AS relation, pg_relation_size(o) AS heap, pg_total_relation_size(o) AS bytes FROM free
"""


class Measure(NamedTuple):
    """The bytes of one relation that holds rows: its file alone, and with indexes and TOAST. None for one that is locked or gone."""

    heap: int | None
    bytes: int | None


def counted(look: Look) -> Dict[int, float | None]:
    """Return the rows that the server has counted last, by the oid of every relation that holds rows."""
    return {row["relation"]: row["rows"] for row in look.rows(_COUNTED, {"relations": _oids(look)})}


def measured(look: Look) -> Dict[int, Measure]:
    """Return the bytes by oid; what is locked is left out. Raises DatabaseError where a lock is taken in that very moment."""
    oids = _oids(look)
    try:
        return _measure(look, oids, careful=False)
    except DatabaseError as error:
        if error.sqlstate != LOCK_NOT_AVAILABLE:
            raise
    # Of thousands of partitions that are locked each would take lock_timeout.
    return _measure(look, oids, careful=True)


def _measure(look: Look, oids: Sequence[int], *, careful: bool) -> Dict[int, Measure]:
    rows = look.rows(_MEASURED, {"relations": list(oids), "careful": careful})
    return {row["relation"]: Measure(row["heap"], row["bytes"]) for row in rows}


def _oids(look: Look) -> List[int]:
    return sorted({leaf.oid for relation in look.seen(catalogue).values() for leaf in _holders(relation)})


def _holders(relation: Relation) -> Sequence[Leaf]:
    """Return the relations whose rows add up to those of `relation`: its partitions or children, and itself if it holds rows."""
    return relation.leaves or ((relation.itself,) if relation.itself and relation.kind == "m" else ())


def _rows(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.system:
        return skipped("no system description was given")
    # The catalogue also holds a schema's stand-in, which has no name.
    relations = [(str(name), relation) for name, relation in look.seen(catalogue).items() if name.name and relation.kind != "v"]
    return per_object(relations, lambda name, relation: _read(look, name, require(relation)))


def _read(look: Look, name: str, relation: Relation) -> Reading:
    holders = _holders(relation)
    measures = look.seen(measured)
    sizes = [measures.get(leaf.oid, Measure(None, None)) for leaf in holders]
    size = _sum([measure.bytes for measure in sizes])
    entry: Dict[str, Any] = {"table": name, "rows": None, "rows_is_estimate": None, "bytes": size}
    look.tables.append(entry)
    estimates = [look.seen(counted).get(leaf.oid) for leaf in holders]
    heap = _sum([measure.heap for measure in sizes])
    never = sum(rows is None for rows in estimates)
    small = heap is not None and heap <= COUNTED_BYTES
    if look.expected.exact_counts or (never and small):
        # Any column will do for a count; the first that may be read needs the least privilege.
        columns = [column.name for column in (relation.columns or {}).values() if column.readable] or list(relation.columns or {})
        readable(look, name, columns[:1])
        count = look.row(look.sql.SQL("SELECT count(*) AS rows FROM {}").format(relation.name.identifier(look.sql)))["rows"]
        entry.update(rows=count, rows_is_estimate=False)
        message = f"{count} rows"
    elif never:
        which = "the table has" if len(holders) == 1 else f"{never} of {len(holders)} partitions have"
        hint = f"As the owner: ANALYZE {quoted(*relation.name)}; or ask for exact_counts."
        raise Unseen(f"{which} never been counted by VACUUM or ANALYZE", object_name=name, hint=hint)
    else:
        count = round(_sum(estimates) or 0)
        entry.update(rows=count, rows_is_estimate=True)
        message = f"about {count} rows"
    shown = "size not known: the table is locked" if size is None else format_size(size)
    metrics = {f"size.rows[{name}]": float(count), f"size.bytes[{name}]": size}
    return Reading(f"{message}, {shown}", float(count), name, metrics=metrics)


def _sum(numbers: Sequence[Any]) -> Any:
    return None if any(number is None for number in numbers) else sum(numbers)


def database_size(look: Look) -> float:
    """Return the bytes of the database."""
    return float(look.row("SELECT pg_database_size(current_database()) AS bytes")["bytes"])


def _database(look: Look, limits: Limits) -> Iterable[Reading]:
    size = look.seen(database_size)
    return [Reading(f"the database holds {format_size(size)}", size)]


def _growth(look: Look, limits: Limits) -> Iterable[Reading]:
    metric = "size.database"
    points = look.history.points(metric)
    if not points:
        return skipped(look.history.absence)
    size = look.seen(database_size)
    found = look.history.forecast(metric, size, None)
    if found is None:
        since = datetime.fromtimestamp(points[0][0], timezone.utc).strftime("%Y-%m-%d")
        return skipped(f"the history is too short: it takes three days, and this one begins on {since}")
    percent = round(100.0 * found.per_day / size, 3) if size else 0.0
    since = datetime.fromtimestamp(found.since, timezone.utc).strftime("%Y-%m-%d")
    word = "grows" if found.per_day >= 0 else "shrinks"
    message = f"the database {word} by {format_size(abs(found.per_day))} a day, from {found.points} days since {since}"
    return [Reading(message, percent, metrics={"size.growth_bytes": round(found.per_day)})]


CHECKS: List[Check] = [
    Check(
        id="size.rows",
        title="Rows of the system's tables",
        tier="daily",
        looks_at="pg_class.reltuples of every table of the system, partitions added up: an estimate, what the last VACUUM or ANALYZE "
        "counted. A table never "
        "counted is counted exactly if its file is at most 8 MB and is unknown otherwise. exact_counts counts all.",
        action="Run ANALYZE on the table, or look who holds the lock on it.",
        needs="nothing for estimates; SELECT on one column for exact counts",
        run=_rows,
    ),
    Check(
        id="size.database",
        title="Size of the database",
        tier="daily",
        looks_at="pg_database_size. It has thresholds where the system gives them.",
        action="Archive or remove old data.",
        needs="CONNECT on the database",
        run=_database,
        unit="bytes",
    ),
    Check(
        id="size.growth",
        title="Growth of the database",
        tier="daily",
        looks_at="The sizes that earlier runs measured: the change a day over the last 30 days, less one clean-up or import, as a share of "
        "the size now. It has thresholds where the system gives them. Skipped without a history of three days.",
        action="Find the table that grows.",
        needs="a history",
        run=_growth,
        unit="percent",
    ),
]
