# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign keys whose referencing columns no index begins with."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import file_bytes, part_of, scope
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

# Every table that holds rows has a constraint of its own, which says by conparentid that a partitioned table's stands above it.
_UNINDEXED = """
WITH RECURSIVE enforced AS (
    SELECT count(*) > 0 AS exist FROM pg_attribute WHERE attrelid = 'pg_constraint'::regclass AND attname = 'conenforced'
), fk AS (
    SELECT k.oid AS root, k.oid, k.conrelid, k.conkey FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND (NOT (SELECT exist FROM enforced) OR to_jsonb(k) ->> 'conenforced' = 'true')
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
    UNION ALL
    SELECT f.root, k.oid, k.conrelid, k.conkey FROM fk f JOIN pg_constraint k ON k.conparentid = f.oid AND k.contype = 'f'
), leaf AS (
    SELECT DISTINCT f.root, f.conrelid, f.conkey FROM fk f JOIN pg_class t ON t.oid = f.conrelid AND t.relkind = 'r'
    WHERE NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = f.conrelid AND i.indisvalid AND i.indpred IS NULL
          AND cardinality(f.conkey) <= i.indnkeyatts AND f.conkey <@ (i.indkey::int2[])[0:cardinality(f.conkey) - 1])
)
SELECT k.conname, n.nspname, t.relname, t.relkind, rn.nspname AS referenced_schema, r.relname AS referenced,
       (SELECT json_agg(a.attname ORDER BY o.place) FROM unnest(k.conkey) WITH ORDINALITY AS o (attnum, place)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.attnum) AS columns,
       l.conkey::int4[] AS attnums, l.conrelid::int8 AS oid,
       c.relpages::int8 * current_setting('block_size')::int AS bytes, greatest(c.reltuples, 0)::float8 AS rows,
       (SELECT json_agg(i.indpred::text) FROM pg_index i WHERE i.indrelid = l.conrelid AND i.indisvalid AND i.indpred IS NOT NULL
           AND cardinality(l.conkey) <= i.indnkeyatts AND l.conkey <@ (i.indkey::int2[])[0:cardinality(l.conkey) - 1]) AS predicates
FROM leaf l JOIN pg_constraint k ON k.oid = l.root JOIN pg_class c ON c.oid = l.conrelid
JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
ORDER BY n.nspname, t.relname, k.conname
"""
MEASURED = 50
_NOT_NULL = re.compile(r"\{NULLTEST :arg \{VAR :varno 1 :varattno (\d+) [^{}]*\} :nulltesttype 1 [^{}]*\}")


def _unindexed(look: Look, limits: Limits) -> Iterable[Reading]:
    rows = [row for row in look.rows(_UNINDEXED, scope(look)) if not _served(row)]
    # Of a table that was never counted the catalogue knows no size.
    sizes = file_bytes(look, sorted({row["oid"] for row in rows if not row["bytes"]})[:MEASURED])
    found: Dict[Tuple[str, str, str], List[Mapping[str, Any]]] = {}
    for row in rows:
        sized = {**row, "bytes": row["bytes"] or sizes.get(row["oid"]) or 0}
        found.setdefault((row["nspname"], row["relname"], row["conname"]), []).append(sized)
    large = [rows for rows in found.values() if sum(row["bytes"] for row in rows) >= (limits.minimum or 0)]
    small = len(found) - len(large)
    large.sort(key=lambda rows: -sum(row["bytes"] for row in rows))
    said = f"; {small} without an index on tables smaller than {format_size(limits.minimum or 0)}" if small else ""
    return [_reading(rows) for rows in large] or [Reading(f"every foreign key of a large table has an index{said}", 0.0)]


def _served(row: Mapping[str, Any]) -> bool:
    return any(only_leaves_nulls_out(predicate, row["attnums"]) for predicate in row["predicates"] or ())


def only_leaves_nulls_out(predicate: str, attnums: Iterable[int]) -> bool:
    """Return whether an index with this predicate, as the catalogue stores it, still holds every row that refers to another."""
    tested = _NOT_NULL.findall(predicate)
    rest = _NOT_NULL.sub("", predicate)
    nothing_else = rest == "" or bool(re.fullmatch(r"\{BOOLEXPR :boolop and :args \([ ]*\) :location -?\d+\}", rest))
    return bool(tested) and nothing_else and {int(each) for each in tested} <= set(attnums)


def _reading(rows: List[Mapping[str, Any]]) -> Reading:
    first, size, count = rows[0], sum(row["bytes"] for row in rows), sum(row["rows"] for row in rows)
    referenced = str(RelationName(first["referenced_schema"], first["referenced"]))
    columns = ", ".join(quoted(column) for column in first["columns"])
    message = (
        f"no index begins with {columns}: every row deleted from {referenced}, and every key changed there, reads all of "
        f"{RelationName(first['nspname'], first['relname'])}, {format_size(size)} or about {count:.0f} rows, and holds its locks meanwhile"
    )
    table = quoted(first["nspname"], first["relname"])
    action = f"As the owner: CREATE INDEX CONCURRENTLY ON {table} ({columns}); unless nothing is ever deleted from {referenced}."
    if first["relkind"] == "p":
        action = (
            f"As the owner: CREATE INDEX ON ONLY {table} ({columns}); then CREATE INDEX CONCURRENTLY on each partition and ALTER INDEX "
            f"... ATTACH PARTITION; unless nothing is ever deleted from {referenced}."
        )
    metrics = {f"fk.unindexed_bytes[{part_of(first['nspname'], first['relname'], first['conname'])}]": float(size)}
    return Reading(message, 1.0, part_of(first["nspname"], first["relname"], first["conname"]), action=action, metrics=metrics)


UNINDEXED = Check(
    id="fk.unindexed",
    title="Foreign keys without an index",
    tier="weekly",
    looks_at="pg_constraint and pg_index: foreign keys of which no valid index begins with the referencing columns, in any order. An index "
    "that leaves out only nulls of these columns counts. Partitions are added up.",
    action="Create an index on the referencing columns.",
    needs="nothing",
    run=_unindexed,
    unit="count",
    warning=0,
    minimum=10 << 20,
    minimum_of="bytes of the referencing table",
)
