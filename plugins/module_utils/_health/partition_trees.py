# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitioned tables, what divides them, and their bounds as moments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import scope
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation

UTC = "UTC"
UNITS = {"s": 1, "ms": 1000}
ENDLESS = float("inf")
# The first key column's type is that of its operator class: it may be an expression. A bound holds no column, so that pg_get_expr
# needs no relation, and waits for no lock on one.
_TREES = """
WITH divided AS MATERIALIZED (
    SELECT d.partrelid AS oid, n.nspname, c.relname, d.partstrat, d.partnatts, d.partattrs[0] AS place, d.partdefid,
           CASE WHEN o.opcnamespace = 'pg_catalog'::regnamespace THEN k.typname END AS kind, c.relispartition, c.relpartbound,
           CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                ELSE n.nspname = ANY (%(schemas)s::text[]) END AS chosen
    FROM pg_partitioned_table d
    JOIN pg_class c ON c.oid = d.partrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_opclass o ON o.oid = d.partclass[0]
    JOIN pg_type k ON k.oid = o.opcintype
    WHERE c.relpersistence <> 't'
)
SELECT (SELECT coalesce(json_agg(json_build_array(
            d.oid::int8, d.nspname, d.relname, d.chosen, d.partstrat, d.partnatts, a.attname, d.kind, i.inhparent::int8,
            CASE WHEN d.relispartition THEN pg_get_expr(d.relpartbound, 0) END,
            CASE WHEN f.oid IS NOT NULL THEN json_build_array(m.nspname, f.relname) END)), '[]')
        FROM divided d
        LEFT JOIN pg_inherits i ON i.inhrelid = d.oid AND d.relispartition
        LEFT JOIN pg_attribute a ON a.attrelid = d.oid AND a.attnum = d.place AND d.place > 0
        LEFT JOIN pg_class f ON f.oid = d.partdefid
        LEFT JOIN pg_namespace m ON m.oid = f.relnamespace) AS tables,
       (SELECT coalesce(json_agg(json_build_array(i.inhparent::int8, pg_get_expr(c.relpartbound, 0))), '[]')
        FROM divided d JOIN pg_inherits i ON i.inhparent = d.oid JOIN pg_class c ON c.oid = i.inhrelid
        WHERE d.partstrat = 'r' AND d.kind IN ('date', 'timestamp', 'timestamptz', 'int4', 'int8')
          AND NOT coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false)) AS bounds,
       (SELECT coalesce(json_object_agg(z, extract(epoch FROM clock_timestamp() AT TIME ZONE z)), '{}')
        FROM unnest(%(zones)s::text[]) AS z) AS clocks
"""
_ITEM = r"(?:'(?:[^']|'')*'|[^\s(),']+)"
_RANGE = re.compile(rf"FOR VALUES FROM \(({_ITEM})(?:, {_ITEM})*\) TO \(({_ITEM})(?:, {_ITEM})*\)")

Range = Tuple[float, float, str]


class Divided(NamedTuple):
    """A partitioned table: `column` is the first of its key (None for an expression), `kind` that column's type.

    `bound` is its own where it is a partition itself, `default` the schema and name of its default partition.
    """

    oid: int
    schema: str
    table: str
    chosen: bool
    strategy: str
    keys: int
    column: str | None
    kind: str | None
    parent: int | None
    bound: str | None
    default: Sequence[str] | None

    @property
    def name(self) -> RelationName:
        """Its name."""
        return RelationName(self.schema, self.table)

    @property
    def is_numbered(self) -> bool:
        """Whether ranges of an integer divide it."""
        return self.strategy == "r" and self.kind in ("int4", "int8")


@dataclass(frozen=True)
class Trees:
    """Every partitioned table by oid, the bounds of its partitions, and what the system declares of the times that divide them.

    `clocks` is now by zone, in seconds since 1970 on a wall clock there.
    """

    tables: Mapping[int, Divided]
    written: Mapping[int, Sequence[str]]
    declared: Mapping[Tuple[RelationName, str], Mapping[str, Any]]
    zone: str
    clocks: Mapping[str, float]
    instant: float

    def root(self, table: Divided) -> Divided:
        """Return the table at the top of its tree."""
        while table.parent is not None:
            table = self.tables[table.parent]
        return table

    def is_timed(self, table: Divided) -> bool:
        """Whether ranges of time divide it, in a tree of the chosen schemas."""
        if not (table.chosen or self.root(table).chosen) or table.strategy != "r":
            return False
        return table.kind in ("date", "timestamp", "timestamptz") or (table.is_numbered and self._unit(table) is not None)

    def now(self, table: Divided) -> float:
        """Return now in seconds on the clock of what divides it."""
        if table.kind in ("date", "timestamp"):
            return self.clocks[self._time(table).get("time_zone") or self.zone]
        return self.instant

    def default_of(self, table: Divided) -> RelationName | None:
        """Return the name of its default partition."""
        return RelationName(*table.default) if table.default else None

    def ranges(self, table: Divided) -> List[Range]:
        """Return from when and until when each of its partitions takes rows, and that end as people read it."""
        found = (_split(bound) for bound in self.written.get(table.oid, ()))
        return [(self._moment(table, low), self._moment(table, high), self._read(table, high)) for low, high in found if low and high]

    def bounds_above(self, table: Divided) -> Tuple[float, float]:
        """Return from when and until when rows come to it at all, by the nearest table above that the same column divides."""
        below = table
        while below.parent is not None:
            above = self.tables[below.parent]
            if above.column == table.column and above.kind == table.kind and table.column and above.strategy == "r":
                low, high = _split(below.bound or "")
                return (self._moment(table, low), self._moment(table, high)) if low and high else (-ENDLESS, ENDLESS)
            below = above
        return -ENDLESS, ENDLESS

    def following(self, table: Divided) -> Tuple[str, str, str] | None:
        """Return a label and the bounds, as SQL has them, of a partition that follows the last one and is as wide; None if unclear."""
        bounds = [(self._moment(table, high), low, high) for low, high in map(_split, self.written.get(table.oid, ())) if low and high]
        if table.keys != 1 or not bounds:
            return None
        _last, low, high = max(bounds)
        if table.is_numbered:
            if not (_is_number(low) and _is_number(high)):
                return None
            begin, end = int(_plain(low)), int(_plain(high))
            day = datetime.fromtimestamp(begin + (end - begin), timezone.utc) if self._unit(table) == 1 else None
            return (f"{day:%Y%m%d}" if day else str(end)), str(end), str(2 * end - begin)
        first, second = _parsed(low), _parsed(high)
        then = _next(first, second) if first and second else None
        if second is None or then is None:
            return None
        form = "%Y-%m-%d" if table.kind == "date" else "%Y-%m-%d %H:%M:%S" + ("+00" if table.kind == "timestamptz" else "")
        return f"{second:%Y%m%d}", high, f"'{then:{form}}'"

    def _time(self, table: Divided) -> Mapping[str, Any]:
        """Return what the system declares of its key, or of that of a table above, which has the same columns."""
        while table.column:
            found = self.declared.get((table.name, table.column))
            if found:
                return found
            if table.parent is None:
                break
            table = self.tables[table.parent]._replace(column=table.column)
        return {}

    def _unit(self, table: Divided) -> int | None:
        return UNITS.get(self._time(table).get("unit") or "")

    def _moment(self, table: Divided, written: str) -> float:
        if written in ("MINVALUE", "MAXVALUE"):
            return -ENDLESS if written == "MINVALUE" else ENDLESS
        text = _plain(written)
        if table.is_numbered:
            return int(text) / (self._unit(table) or 1)
        if text.endswith("infinity"):
            return -ENDLESS if text.startswith("-") else ENDLESS
        moment = _parsed(written)
        if moment is None:
            # Before the first year or after 9999.
            return -ENDLESS if text.endswith("BC") else ENDLESS
        return (moment - datetime(1970, 1, 1)).total_seconds()

    def _read(self, table: Divided, written: str) -> str:
        text = _plain(written)
        if table.is_numbered and _is_number(written):
            seconds = int(text) / (self._unit(table) or 1)
            return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC" if 0 <= seconds < 2e11 else text
        return text[:-3] + " UTC" if text.endswith("+00") else text


def read_trees(look: Look) -> Trees:
    """Return the partitioned tables of the database; for `Look.seen`."""
    declared = dict(_declared(look.system))
    zone = look.system.get("time_zone") or UTC
    zones = sorted({zone, *(time["time_zone"] for time in declared.values() if time.get("time_zone"))})
    found = look.row(_TREES, {**scope(look), "zones": zones})
    tables = {row[0]: Divided(*row) for row in found["tables"]}
    written: Dict[int, List[str]] = {}
    for parent, bound in found["bounds"]:
        written.setdefault(parent, []).append(bound)
    # A partition of a table that is just being dropped is left without one above.
    whole = {oid: each if each.parent in tables else each._replace(parent=None) for oid, each in tables.items()}
    return Trees(whole, written, declared, zone, found["clocks"], look.now.timestamp())


def _declared(system: Mapping[str, Any]) -> Iterable[Tuple[Tuple[RelationName, str], Mapping[str, Any]]]:
    """Yield every time column that the system names."""
    for store in system.get("token_stores") or ():
        for part in (store["tokens"], store["revoke"]):
            for time in part.values():
                if isinstance(time, Mapping) and "column" in time and part.get("table"):
                    yield (parse_relation(part["table"]), time["column"]), time
    for flow in system.get("login_flows") or ():
        yield (parse_relation(flow["table"]), flow["created_at"]["column"]), flow["created_at"]
    for rule in (rule for rules in (system.get("retention") or {}).values() for rule in rules or ()):
        time = rule["column"]
        if isinstance(time, Mapping):
            yield (parse_relation(rule["table"]), time["column"]), time


def _split(bound: str) -> Tuple[str, str]:
    """Return the first values of a range's bound as the server writes them; empty ones for what is no range."""
    match = _RANGE.fullmatch(bound)
    return (match.group(1), match.group(2)) if match else ("", "")


def _plain(written: str) -> str:
    return written[1:-1].replace("''", "'") if written.startswith("'") else written


def _is_number(written: str) -> bool:
    return re.fullmatch(r"-?\d+", _plain(written)) is not None


def _parsed(written: str) -> datetime | None:
    """Return a date or timestamp of a session in UTC, to the second."""
    match = re.match(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?(?=$|\.|\+00$)", _plain(written))
    return datetime.fromisoformat(match.group()) if match else None


def _next(first: datetime, second: datetime) -> datetime | None:
    """Return the end of what follows from `second`, as wide as from `first`: so many months, or so much time."""
    months = (second.year - first.year) * 12 + second.month - first.month
    if first.day == second.day == 1 and first.time() == second.time() and months > 0:
        month = second.month - 1 + months
        return second.replace(year=second.year + month // 12, month=month % 12 + 1)
    width = second - first
    # Months of another zone are of uneven width.
    return second + width if timedelta(0) < width <= timedelta(days=7) else None
