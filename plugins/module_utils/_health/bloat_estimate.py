# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many pages rows need, estimated from what ANALYZE knows of the widths of their columns."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Unseen
from ansible_collections.pgops.runbook.plugins.module_utils._health.needs import STATISTIC_COLUMNS
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import name_of, scope

# An estimate of a smaller relation is nothing but rounding.
LEAST_BYTES = 1 << 20
# So many are looked at for their numbers; beyond them all that are as large as the waste that is judged, but no more than MOST.
LARGEST = 200
MOST = 5000
# Of tables of which the server has never counted anything; their files are looked at.
NEVER_COUNTED = 50
GRANTED = ", ".join(STATISTIC_COLUMNS)

_PAGE_HEADER, _LINE_POINTER, _ALIGNMENT = 24, 4, 8
_HEAP_HEADER, _INDEX_HEADER, _INDEX_NULLS, _BTREE_SPECIAL = 23, 8, 16, 16
_HEAP_FILL, _BTREE_FILL, _INNER_FILL = 100.0, 90.0, 0.7
_SHORT_VALUE = 127
_ALIGNMENTS = {"c": 1, "s": 2, "i": 4, "d": 8}

_TABLES = """
WITH relation AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relpages, c.reltuples, c.reloptions,
           c.relpages * current_setting('block_size')::int8 AS bytes,
           CASE WHEN c.relpages = 0 THEN pg_stat_get_live_tuples(c.oid) + pg_stat_get_dead_tuples(c.oid) ELSE 0 END AS uncounted
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
), new AS (
    -- Each of its pages holds a row at least.
    SELECT * FROM relation WHERE uncounted > greatest(1000, %(minimum)s / current_setting('block_size')::int8 - 1)
), chosen AS (
    (SELECT * FROM relation WHERE bytes >= %(least)s ORDER BY bytes DESC, oid
     LIMIT (SELECT least(%(most)s, greatest(%(largest)s, count(*))) FROM relation WHERE bytes >= greatest(%(least)s, %(minimum)s)))
    UNION ALL
    (SELECT * FROM new ORDER BY uncounted DESC, oid LIMIT %(never)s)
)
SELECT c.oid::int8 AS oid, c.nspname, c.relname, c.relpages, c.reltuples::float8 AS rows, current_setting('block_size')::int AS block,
       (SELECT option_value::float8 FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor') AS fillfactor,
       (SELECT count(*) FROM relation WHERE bytes >= %(least)s) AS total,
       (SELECT count(*) FROM relation WHERE bytes >= greatest(%(least)s, %(minimum)s)) + (SELECT count(*) FROM new) AS worth,
       (SELECT jsonb_agg(jsonb_build_object(
                   'name', a.attname, 'bytes', a.attlen, 'align', a.attalign, 'absent', a.attisdropped OR a.attgenerated = 'v',
                   'is_name', a.atttypid = 'name'::regtype, 'nulls', s.stanullfrac, 'width', s.stawidth) ORDER BY a.attnum)
        FROM pg_attribute a LEFT JOIN pg_statistic s ON s.starelid = a.attrelid AND s.staattnum = a.attnum AND NOT s.stainherit
        WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
FROM chosen c ORDER BY c.relpages DESC, c.oid
"""

# Since PostgreSQL 13, where every operator class of an index has a fourth support function that agrees, equal keys are stored once.
_INDEXES = """
WITH relation AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relpages, c.reltuples, c.reloptions, m.amname, i.indrelid, i.indkey, i.indclass,
           c.relpages * current_setting('block_size')::int8 AS bytes, i.indisunique,
           i.indnatts = i.indnkeyatts AS only_keys, i.indexprs IS NOT NULL AS expressions,
           i.indpred IS NOT NULL AS partial
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am m ON m.oid = c.relam
    WHERE c.relkind = 'i' AND c.relpersistence <> 't' AND c.relpages * current_setting('block_size')::int8 >= %(least)s
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
)
SELECT c.oid::int8 AS oid, c.nspname, c.relname, c.relpages, c.reltuples::float8 AS rows, current_setting('block_size')::int AS block,
       c.amname AS method, c.expressions, c.partial, tn.nspname AS table_schema, t.relname AS table_name,
       (SELECT option_value::float8 FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor') AS fillfactor,
       NOT c.indisunique AND c.only_keys
           AND coalesce((SELECT option_value::bool FROM pg_options_to_table(c.reloptions) WHERE option_name = 'deduplicate_items'), true)
           AND NOT EXISTS (SELECT FROM unnest(c.indclass) AS k JOIN pg_opclass o ON o.oid = k WHERE NOT EXISTS (
               SELECT FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily AND p.amprocnum = 4
                   AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype)) AS deduplicates,
       (SELECT count(*) FROM relation) AS total,
       (SELECT count(*) FROM relation WHERE bytes >= %(minimum)s) AS worth,
       (SELECT jsonb_agg(jsonb_build_object(
                   'name', a.attname, 'bytes', a.attlen, 'align', a.attalign, 'absent', false,
                   'is_name', a.atttypid IN ('name'::regtype, 'cstring'::regtype), 'nulls', s.stanullfrac, 'width', s.stawidth)
               ORDER BY a.attnum)
        FROM pg_attribute a
        LEFT JOIN pg_statistic s ON s.starelid = c.indrelid AND s.staattnum = c.indkey[a.attnum - 1] AND NOT s.stainherit
        WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
FROM (SELECT * FROM relation ORDER BY bytes DESC, oid
      LIMIT (SELECT least(%(most)s, greatest(%(largest)s, count(*))) FROM relation WHERE bytes >= %(minimum)s)) c
JOIN pg_class t ON t.oid = c.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
ORDER BY c.relpages DESC, c.oid
"""


class Estimate(NamedTuple):
    """What is thought of one relation.

    `wasted` is None where nothing can be said: `obstacle` says why, and `unanalysed` that ANALYZE would change it.
    `doubt` is why the number may be off by more than an estimate is anyway.
    """

    name: str
    row: Mapping[str, Any]
    bytes: int
    wasted: int | None = None
    obstacle: str = ""
    unanalysed: bool = False
    doubt: str = ""

    @property
    def percent(self) -> float:
        """The share of the file that its rows would not need."""
        return round(100.0 * (self.wasted or 0) / self.bytes, 1) if self.bytes else 0.0


def tables(look: Look, minimum: float) -> List[Estimate]:
    """Return an estimate of the largest tables and of all of `minimum` bytes, and those that nobody ever counted with nothing known.

    Of each row `worth` is how many there are that the minimum lets waste enough. Raises Unseen without statistics.
    """
    return [_table(row) for row in _rows(look, _TABLES, minimum)]


def indexes(look: Look, minimum: float) -> List[Estimate]:
    """Return an estimate of the largest indexes and of all of `minimum` bytes. Raises Unseen where the role may not read the statistics."""
    return [_index(row) for row in _rows(look, _INDEXES, minimum)]


def _rows(look: Look, statement: str, minimum: float) -> List[Dict[str, Any]]:
    bounds = {"least": LEAST_BYTES, "minimum": math.ceil(minimum), "largest": LARGEST, "most": MOST, "never": NEVER_COUNTED}
    try:
        return look.rows(statement, {**scope(look), **bounds})
    except DatabaseError as error:
        if error.sqlstate != "42501":
            raise
        grant = f"As a superuser: GRANT SELECT ({GRANTED}) ON pg_catalog.pg_statistic TO {quoted(look.role)};"
        message = f"the role {look.role} may not read the widths of columns in pg_statistic"
        raise Unseen(message, hint=f"{grant} No values of rows are in these columns.") from None


def _table(row: Mapping[str, Any]) -> Estimate:
    columns = row["columns"] or []
    found = Estimate(name_of(row), row, row["relpages"] * row["block"])
    if not row["relpages"]:
        return found._replace(obstacle="never counted by VACUUM or ANALYZE", unanalysed=True)
    obstacle, unanalysed = _obstacle(columns, row["rows"])
    if obstacle:
        return found._replace(obstacle=obstacle, unanalysed=unanalysed)
    needed = heap_pages(row["rows"], columns, row["block"], row["fillfactor"] or _HEAP_FILL)
    return found._replace(wasted=max(0, row["relpages"] - needed) * row["block"])


def _index(row: Mapping[str, Any]) -> Estimate:
    columns = row["columns"] or []
    found = Estimate(name_of(row), row, row["relpages"] * row["block"])
    if row["method"] != "btree":
        return found._replace(obstacle=f"an index of the method {row['method']}")
    if row["expressions"]:
        return found._replace(obstacle="an index on an expression")
    obstacle, unanalysed = _obstacle(columns, row["rows"])
    if obstacle:
        return found._replace(obstacle=obstacle, unanalysed=unanalysed)
    if row["partial"]:
        # Its rows may be just those without a null.
        columns = [{**column, "nulls": 0.0} for column in columns]
    needed = btree_pages(row["rows"], columns, row["block"], row["fillfactor"] or _BTREE_FILL)
    doubts = ["it may store equal keys once, and waste more than this"] if row["deduplicates"] else []
    doubts += ["the widths are those of all rows, and it is partial"] if row["partial"] else []
    return found._replace(wasted=max(0, row["relpages"] - needed) * row["block"], doubt="; ".join(doubts))


def _obstacle(columns: Sequence[Mapping[str, Any]], rows: float) -> tuple[str, bool]:
    """Return why rows of these columns cannot be estimated, if so, and whether ANALYZE would change that."""
    if rows < 0:
        return "never counted by VACUUM or ANALYZE", True
    there = [column for column in columns if not column["absent"]]
    named = [column["name"] for column in there if column["is_name"]]
    if named:
        return f"its column {named[0]} is of the type name", False
    missing = [column["name"] for column in there if column["width"] is None]
    return (f"ANALYZE has never seen its column {missing[0]}", True) if missing and rows > 0 else ("", False)


def heap_pages(rows: float, columns: Sequence[Mapping[str, Any]], block: int, fillfactor: float) -> int:
    """Return how many pages a table of so many rows needs."""
    bitmap = _aligned(_HEAP_HEADER + (len(columns) + 7) // 8) - _aligned(_HEAP_HEADER)
    size = _row_bytes(_aligned(_HEAP_HEADER), bitmap, columns) + _LINE_POINTER
    usable = block - _PAGE_HEADER - block * (100 - fillfactor) / 100
    return math.ceil(rows / max(1, int(usable / size)))


def btree_pages(rows: float, columns: Sequence[Mapping[str, Any]], block: int, fillfactor: float) -> int:
    """Return how many pages a btree of so many entries needs, inner pages included."""
    size = _row_bytes(_INDEX_HEADER, _INDEX_NULLS - _INDEX_HEADER, columns) + _LINE_POINTER
    usable = block - _PAGE_HEADER - _BTREE_SPECIAL
    leaves = math.ceil(rows / max(1, int((usable - block * (100 - fillfactor) / 100) / size)))
    return 1 + leaves + math.ceil(leaves / max(2, int(usable * _INNER_FILL / size)))


def _aligned(size: float) -> int:
    return math.ceil(size / _ALIGNMENT) * _ALIGNMENT


def _row_bytes(header: int, bitmap: int, columns: Sequence[Mapping[str, Any]]) -> float:
    """Return the bytes of an average row with its padding.

    Where a value begins is known modulo `modulus`: behind a value of varying length or one that may be null it could begin anywhere.
    """
    size, residue, modulus, filled = 0.0, 0, _ALIGNMENT, 1.0
    for column in columns:
        present = 0.0 if column["absent"] or column["width"] is None else 1.0 - column["nulls"]
        filled *= present
        if not present:
            continue
        varying = column["bytes"] < 0
        align = 1 if varying and column["width"] < _SHORT_VALUE else _ALIGNMENTS[column["align"]]
        starts = range(residue, max(align, modulus), modulus)
        padding = sum(-start % align for start in starts) / len(starts)
        size += present * (padding + column["width"])
        if varying or present < 1:
            residue, modulus = 0, 1
        else:
            modulus = max(modulus, align)
            residue = (residue + round(padding) + column["width"]) % modulus if len(starts) == 1 else column["width"] % modulus
    whole = _aligned(size) if modulus == _ALIGNMENT else size + (_ALIGNMENT - 1) / 2
    return header + bitmap * (1 - filled) + whole
