# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that another index makes superfluous."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import file_bytes, name_of, scope
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

MEASURED = 50

# All over pg_index at once: two indexes are the same where all that defines them is, as text. The trees of expressions say where in the
# statement each part stood, which is no difference. Needed are those that stand for a constraint, or that a foreign key, the replica
# identity or CLUSTER goes by, and those that belong to the index of a partitioned table, which alone can be dropped.
_DUPLICATES = """
WITH index AS MATERIALIZED (
    SELECT i.indexrelid AS oid, i.indrelid, c.relam, c.relname, c.relnamespace, c.relpages, c.relkind, i.indisunique, i.indnkeyatts,
           i.indnatts, i.indkey, i.indclass, i.indcollation, i.indoption,
           array_to_string((i.indkey::int2[])[0:i.indnkeyatts - 1], ' ') || ' ' AS keys,
           i.indexprs IS NOT NULL AS expressions, coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') AS nulls_equal,
           coalesce(regexp_replace(i.indexprs::text, ':location -?[0-9]+', '', 'g'), '') AS exprs,
           coalesce(regexp_replace(i.indpred::text, ':location -?[0-9]+', '', 'g'), '') AS pred,
           i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered OR c.relispartition
               OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
               OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = i.indexrelid AND d.deptype = 'e') AS needed
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE i.indisvalid AND i.indislive AND c.relpersistence <> 't'
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
), alike AS (
    SELECT oid, needed, first_value(oid) OVER same AS keeper
    FROM index
    WINDOW same AS (PARTITION BY indrelid, relam, keys, indkey::text, indclass::text, indcollation::text, indoption::text, indisunique,
                                 nulls_equal, exprs, pred
                    ORDER BY needed DESC, pg_stat_get_numscans(oid) DESC, oid)
), found AS (
    SELECT oid, keeper, false AS prefix FROM alike WHERE oid <> keeper AND NOT needed
    UNION ALL
    (SELECT DISTINCT ON (a.oid) a.oid, b.oid, true
    FROM index a JOIN index b ON b.indrelid = a.indrelid AND b.relam = a.relam AND b.oid <> a.oid
    WHERE NOT a.indisunique AND NOT a.needed AND NOT a.expressions AND a.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
      AND starts_with(b.keys, a.keys) AND (a.keys <> b.keys OR b.indisunique OR b.indnatts > a.indnatts) AND a.pred = b.pred
      AND (a.indclass::oid[])[0:a.indnkeyatts - 1] = (b.indclass::oid[])[0:a.indnkeyatts - 1]
      AND (a.indcollation::oid[])[0:a.indnkeyatts - 1] = (b.indcollation::oid[])[0:a.indnkeyatts - 1]
      AND (a.indoption::int2[])[0:a.indnkeyatts - 1] = (b.indoption::int2[])[0:a.indnkeyatts - 1]
      AND a.indkey::int2[] <@ b.indkey::int2[]
      AND NOT EXISTS (SELECT FROM alike s WHERE s.oid IN (a.oid, b.oid) AND s.keeper <> s.oid AND NOT s.needed)
    ORDER BY a.oid, b.indnatts, b.oid)
), tree AS (
    SELECT f.oid AS root, f.oid FROM found f
    UNION ALL
    (WITH RECURSIVE below AS (
        SELECT f.oid AS root, h.inhrelid AS oid FROM found f JOIN index i ON i.oid = f.oid AND i.relkind = 'I'
        JOIN pg_inherits h ON h.inhparent = f.oid
        UNION ALL SELECT b.root, h.inhrelid FROM below b JOIN pg_inherits h ON h.inhparent = b.oid
    ) SELECT root, oid FROM below)
)
SELECT i.oid::int8 AS oid, n.nspname, i.relname, i.relkind, f.prefix, tn.nspname AS table_schema, t.relname AS table_name,
       kn.nspname AS keeper_schema, k.relname AS keeper,
       (SELECT sum(c.relpages)::int8 FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE tree.root = i.oid)
           * current_setting('block_size')::int AS bytes
FROM found f JOIN index i ON i.oid = f.oid JOIN pg_namespace n ON n.oid = i.relnamespace
JOIN index k ON k.oid = f.keeper JOIN pg_namespace kn ON kn.oid = k.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
ORDER BY bytes DESC, n.nspname, i.relname
"""


def _duplicates(look: Look, limits: Limits) -> Iterable[Reading]:
    rows = look.rows(_DUPLICATES, scope(look))
    sizes = file_bytes(look, [row["oid"] for row in rows[:MEASURED] if row["relkind"] != "I"])
    readings: List[Reading] = []
    small = 0
    for row in rows:
        size = sizes.get(row["oid"]) or row["bytes"] or 1
        if row["prefix"] and size < (limits.minimum or 0):
            small += 1
        else:
            readings.append(_reading(row, size))
    if small:
        smaller = f"{small} with the first columns of another, each smaller than {format_size(limits.minimum or 0)}"
        readings.append(Reading(f"not judged: {smaller}", status=OK))
    return readings or [Reading("no index makes another superfluous", 0.0)]


def _reading(row: Mapping[str, Any], size: float) -> Reading:
    keeper, name = str(RelationName(row["keeper_schema"], row["keeper"])), quoted(row["nspname"], row["relname"])
    drop = f"As the owner: DROP INDEX {'' if row['relkind'] == 'I' else 'CONCURRENTLY '}{name};"
    if row["prefix"]:
        message = f"{format_size(size)}: its columns are the first ones of {keeper}, which can answer for it"
        action = f"A candidate: {keeper} is wider, and what reads by this one reads more pages by that one. If that is cheap enough: {drop}"
    else:
        message = f"{format_size(size)}: {keeper} is the same in all that defines it"
        action = f"{drop} {keeper} stays."
    return Reading(message, float(size), name_of(row), action=action)


DUPLICATE = Check(
    id="index.duplicate",
    title="Indexes that another one makes superfluous",
    tier="weekly",
    looks_at="pg_index: indexes of one table with the same method, columns, operator classes, collations, order, expressions, predicate "
    "and uniqueness; and, told apart, those whose columns are the first ones of another. What stands for a constraint, a foreign key or "
    "the replica identity is kept. Partitions' indexes are counted with that of the partitioned table.",
    action="Drop the duplicate.",
    needs="nothing",
    run=_duplicates,
    unit="bytes",
    warning=0,
    minimum=10 << 20,
    minimum_of="bytes of an index whose columns are a prefix of another's",
)
