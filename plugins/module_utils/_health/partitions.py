# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions that are missing ahead, and rows in default partitions."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    SKIPPED,
    WARNING,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    skipped,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.partition_trees import Divided, Trees, read_trees
from ansible_collections.pgops.runbook.plugins.module_utils._health.ranking import ranked
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import scope
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

DAY = 86400.0
ENDLESS = float("inf")
# Rows of a default partition are counted up to here; so many default partitions are looked at in one statement.
COUNTED = 10000
AT_ONCE = 200


# --- how far partitions reach -------------------------------------------------------------------------------------------


class Reach(NamedTuple):
    """How far the partitions of one table reach: `left` seconds from now, until `until` as the server writes it.

    `left` is infinite where there is no end, and negative where the end has passed. `gap` says that later ones exist.
    """

    table: Divided
    left: float
    until: str | None
    gap: bool


def reach(table: Divided, trees: Trees, now: float) -> Reach | None:
    """Return how far the partitions of `table` reach from `now`, seconds of its own clock; None where no rows of now come to it."""
    begin, end = trees.bounds_above(table)
    if end <= now:
        return None
    at, until, covered = max(now, begin), None, False
    last: float | None = None
    ranges = sorted(trees.ranges(table))
    for low, high, written in ranges:
        if low <= at and (high > at or (covered and high >= at)):
            at, until, covered = max(at, high), written, True
        elif not covered and high <= at:
            last, until = high, written
    if at >= end:
        return None
    gap = any(low > at for low, _high, _written in ranges) if covered else any(high > at for _low, high, _written in ranges)
    if covered:
        return Reach(table, at - now, until, gap)
    left = at - now if at > now else 0.0 if gap or last is None else last - now
    return Reach(table, left, until, gap)


def _coverage(look: Look, limits: Limits) -> Iterable[Reading]:
    trees = look.seen(read_trees)
    if not trees.tables:
        return skipped("no table is partitioned")
    found: Dict[int, List[Reach]] = {}
    timed = [table for table in trees.tables.values() if trees.is_timed(table)]
    for table in timed:
        one = reach(table, trees, trees.now(table))
        if one:
            found.setdefault(trees.root(table).oid, []).append(one)
    other = sum(table.is_numbered and not trees.is_timed(table) for table in trees.tables.values())
    aside = f"; {counted(other, 'table')} by ranges of numbers that no description says are times" if other else ""
    if not timed:
        return skipped(f"no table is partitioned by ranges of time{aside}")
    ending = [(min(each.left for each in group), group) for group in found.values() if min(each.left for each in group) < ENDLESS]
    readings = ranked(COVERAGE, limits, ending, lambda left, group: _reaches(look, trees, limits, left, group))
    return readings or [
        Reading(f"no end to the partitions of {counted(len(timed), 'table')} (MAXVALUE, DEFAULT, or all in the past){aside}")
    ]


def _reaches(look: Look, trees: Trees, limits: Limits, left: float, group: Sequence[Reach]) -> Reading:
    worst = min(group, key=lambda each: each.left)
    table, root = worst.table, trees.root(worst.table)
    default = trees.default_of(table)
    message = f"{_told(worst)}; {'then' if left > 0 else 'so'} "
    message += f"rows go to the default partition {default}" if default else "rows are refused"
    if table.oid != root.oid:
        more = sum(each.left == worst.left for each in group) - 1
        message = f"{table.name}{f' and {more} more' if more else ''}: {message}"
    status = judge(COVERAGE, limits, left)[0]
    # What is still taken in can be moved later.
    capped = WARNING if default and status == CRITICAL else None
    return Reading(message, round(left, 1), str(root.name), status=capped, action=None if limits.action else _action(trees, worst))


def _told(worst: Reach) -> str:
    if worst.until is None:
        return "no partition takes rows of now" if worst.left <= 0 else f"no partition from {_days(worst.left)} on"
    if worst.left > 0:
        return f"partitions reach to {worst.until}, {_days(worst.left)} from now{', where there is a gap' if worst.gap else ''}"
    if worst.gap:
        return f"a gap from {worst.until}: no partition takes rows of now, though later ones exist"
    return f"the last partition ended at {worst.until}, {_days(-worst.left)} ago"


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days" if seconds >= DAY else f"{seconds / 3600:.1f} h"


def _action(trees: Trees, worst: Reach) -> str | None:
    following = trees.following(worst.table)
    if following is None or worst.gap:
        return None
    label, low, high = following
    table = worst.table
    name = quoted(table.schema, f"{table.table}_{label}")
    values = f"FROM ({low}) TO ({high})"
    default = trees.default_of(table)
    first = f" Move the rows of that time out of {default} first." if default else ""
    return f"As the owner: CREATE TABLE {name} PARTITION OF {quoted(*table.name)} FOR VALUES {values}; and so on.{first}"


# --- rows in default partitions -----------------------------------------------------------------------------------------

_SIZE = "(SELECT coalesce(sum(pg_relation_size(t.relid)), 0)::int8 FROM pg_partition_tree({oid}::oid::regclass) AS t)"


class Default(NamedTuple):
    """A default partition: `estimate` rows by the server's own counts; `readable` whether the role may count all of them itself."""

    oid: int
    schema: str
    table: str
    kind: str
    parent: Sequence[str]
    estimate: int
    readable: bool
    column: str | None

    @property
    def name(self) -> RelationName:
        """Its name."""
        return RelationName(self.schema, self.table)


# pg_partition_tree would wait for a lock on a partition of any of them.
_DEFAULTS = """
SELECT coalesce(json_agg(json_build_array(
    c.oid::int8, n.nspname, c.relname, c.relkind, json_build_array(s.nspname, p.relname),
    (WITH RECURSIVE tree (oid) AS (SELECT c.oid UNION ALL SELECT h.inhrelid FROM tree t JOIN pg_inherits h ON h.inhparent = t.oid)
     SELECT coalesce(sum(greatest(l.reltuples::int8, pg_stat_get_live_tuples(l.oid), 0)), 0)::int8
     FROM tree t JOIN pg_class l ON l.oid = t.oid),
    has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid),
    (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum LIMIT 1)
)), '[]') AS defaults
FROM pg_partitioned_table d
JOIN pg_class p ON p.oid = d.partrelid
JOIN pg_namespace s ON s.oid = p.relnamespace
JOIN pg_class c ON c.oid = d.partdefid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.partdefid <> 0 AND p.relpersistence <> 't'
  AND CASE WHEN %(all)s THEN s.nspname !~ '^pg_' AND s.nspname <> 'information_schema' ELSE s.nspname = ANY (%(schemas)s::text[]) END
"""


def _default_rows(look: Look, limits: Limits) -> Iterable[Reading]:
    rows = look.row(_DEFAULTS, scope(look))["defaults"]
    found = sorted((Default(*row) for row in rows), key=lambda each: each.name)
    if not found:
        return skipped("there is no default partition")
    foreign = [each for each in found if each.kind == "f"]
    here = [each for each in found if each.kind != "f"]
    numbers: Dict[int, int | DatabaseError] = {}
    for begin in range(0, len(here), AT_ONCE):
        numbers.update(_ask(look, here[begin : begin + AT_ONCE]))
    amounts: List[Tuple[float, Tuple[Default, bool]]] = []
    unseen: List[Reading] = []
    for each in here:
        number = numbers[each.oid]
        if isinstance(number, DatabaseError):
            unseen.append(unknown(number, str(each.name)))
        elif each.readable:
            amounts.append((float(max(number, each.estimate) if number > COUNTED else number), (each, True)))
        elif number and not each.estimate:
            unseen.append(_unreadable(look, each))
        else:
            amounts.append((float(each.estimate if number else 0), (each, not number)))
    readings = ranked(DEFAULT_ROWS, limits, amounts, lambda rows, pair: _strays(rows, *pair, limits))
    elsewhere = [Reading("a foreign table: its rows are elsewhere", object_name=str(each.name), status=SKIPPED) for each in foreign]
    return readings + unseen + elsewhere


def _ask(look: Look, defaults: Sequence[Default]) -> Dict[int, int | DatabaseError]:
    """Return the rows of those that the role may read, counted so far, and the bytes of the others: at once if no lock is in the way."""
    sql = look.sql
    parts: Dict[int, Any] = {}
    for each in defaults:
        if each.readable:
            rows = sql.SQL("(SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS counted)")
            parts[each.oid] = rows.format(each.name.identifier(sql), sql.Literal(COUNTED + 1))
        else:
            parts[each.oid] = sql.SQL(_SIZE).format(oid=sql.Literal(each.oid))

    def ask(oids: Sequence[int]) -> Dict[int, int]:
        numbers = look.row(sql.SQL("SELECT json_build_array({}) AS numbers").format(sql.SQL(", ").join(parts[oid] for oid in oids)))
        return dict(zip(oids, numbers["numbers"]))

    return _one_by_one(look, list(parts), ask)


def _one_by_one(look: Look, oids: Sequence[int], ask: Callable[[Sequence[int]], Dict[int, int]]) -> Dict[int, int | DatabaseError]:
    try:
        return dict(ask(oids))
    except DatabaseError as error:
        if look.database.closed:
            raise
        if len(oids) == 1:
            return {oids[0]: error}
    found: Dict[int, int | DatabaseError] = {}
    for oid in oids:
        found.update(_one_by_one(look, [oid], ask))
    return found


def _strays(rows: float, default: Default, sure: bool, limits: Limits) -> Reading:
    many = counted(int(rows), "row")
    of = f"of {RelationName(*default.parent)}"
    if not sure:
        message = f"about {many} {of} by the server's own estimate: the role may not count them"
    else:
        message = f"{f'more than {COUNTED:,} rows, about {int(rows):,}' if rows > COUNTED else many} {of}"
    return Reading(message, rows, str(default.name), action=None if limits.action else _move(default))


def _move(default: Default) -> str:
    parent, name = quoted(*default.parent), quoted(*default.name)
    return (
        f"Move them to partitions of their own, in one transaction: ALTER TABLE {parent} DETACH PARTITION {name}; create their "
        f"partitions; insert the rows of {name} into {parent}; empty it, and attach it again AS DEFAULT."
    )


def _unreadable(look: Look, default: Default) -> Reading:
    role, column, table = quoted(look.role), quoted(default.column or ""), quoted(*default.name)
    hint = f"As the owner: GRANT USAGE ON SCHEMA {quoted(default.schema)} TO {role}; GRANT SELECT ({column}) ON {table} TO {role};"
    message = "it holds bytes, nobody has counted its rows, and the role may not"
    return unknown(Unseen(message, object_name=str(default.name), hint=hint), str(default.name))


COVERAGE = Check(
    id="partition.coverage",
    title="Partitions ahead",
    tier="daily",
    looks_at="How far from now the partitions of every table reach without a gap that is partitioned by ranges of a date or timestamp, or "
    "of an integer that the system declares as a time; in the zone that the system declares, else UTC. Sub-partitions count up to the "
    "end of their own partition, and stand under their root. Without an end (MAXVALUE) there is nothing to run out.",
    action="Create the next partitions, or see why what creates them (pg_partman's maintenance, a job) has not.",
    needs="nothing",
    run=_coverage,
    unit="seconds",
    worse="below",
    warning=7 * DAY,
    critical=2 * DAY,
    decides={"warning": "at most this where a default partition takes the rows"},
)
DEFAULT_ROWS = Check(
    id="partition.default_rows",
    title="Rows in default partitions",
    tier="daily",
    looks_at="The rows of every default partition, counted up to 10,000; by the server's estimate where the role may not read it.",
    action="Make partitions for these rows and move them: each new partition has to prove that none of its rows is here.",
    needs="SELECT on one column of each default partition, for more than an estimate",
    run=_default_rows,
    unit="count",
    warning=0,
)
CHECKS: List[Check] = [COVERAGE, DEFAULT_ROWS]
