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
# statement each part stood, which is no difference. What costs more to read is read of those alone that are alike so far. Needed are those
# that stand for a constraint, or that a foreign key, the replica identity or CLUSTER goes by, and those that belong to the index of a
# partitioned table, which alone can be dropped.
_DUPLICATES = """
WITH RECURSIVE index AS MATERIALIZED (
    SELECT i.indexrelid AS oid, i.indrelid, c.relam, i.indisunique, i.indnkeyatts, i.indnatts, i.indkey, i.indclass, i.indcollation,
           i.indoption, i.indexprs IS NOT NULL AS expressions,
           array_to_string((i.indkey::int2[])[0:i.indnkeyatts - 1], ' ') || ' ' AS keys,
           coalesce(regexp_replace(i.indexprs::text, ':location -?[0-9]+', '', 'g'), '') AS exprs,
           coalesce(regexp_replace(i.indpred::text, ':location -?[0-9]+', '', 'g'), '') AS pred
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE i.indisvalid AND i.indislive AND c.relpersistence <> 't'
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
), alike AS MATERIALIZED (
    SELECT row_number() OVER () AS number, array_agg(oid) AS oids FROM index
    GROUP BY indrelid, relam, indkey::text, indclass::text, indcollation::text, indoption::text, indnkeyatts, indisunique, exprs, pred
    HAVING count(*) > 1
), covered AS MATERIALIZED (
    SELECT a.oid, b.oid AS keeper, b.indnatts
    FROM index a JOIN index b ON b.indrelid = a.indrelid AND b.relam = a.relam AND b.oid <> a.oid AND b.pred = a.pred
    WHERE NOT a.indisunique AND NOT a.expressions AND a.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
      AND starts_with(b.keys, a.keys) AND (a.keys <> b.keys OR b.indisunique OR b.indnatts > a.indnatts)
      AND (a.indclass::oid[])[0:a.indnkeyatts - 1] = (b.indclass::oid[])[0:a.indnkeyatts - 1]
      AND (a.indcollation::oid[])[0:a.indnkeyatts - 1] = (b.indcollation::oid[])[0:a.indnkeyatts - 1]
      AND (a.indoption::int2[])[0:a.indnkeyatts - 1] = (b.indoption::int2[])[0:a.indnkeyatts - 1]
      AND a.indkey::int2[] <@ b.indkey::int2[]
), suspect AS MATERIALIZED (
    SELECT s.oid, i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered OR c.relispartition OR EXISTS (
               SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('e', 'i'))
               OR s.oid IN (SELECT k.conindid FROM pg_constraint k) AS needed
    FROM (SELECT unnest(oids) AS oid FROM alike UNION SELECT oid FROM covered) s
    JOIN pg_index i ON i.indexrelid = s.oid JOIN pg_class c ON c.oid = s.oid
), same AS MATERIALIZED (
    SELECT m.oid, s.needed, first_value(m.oid) OVER (
               PARTITION BY a.number, to_jsonb(i) ->> 'indnullsnotdistinct' ORDER BY s.needed DESC, pg_stat_get_numscans(m.oid) DESC, m.oid
           ) AS keeper
    FROM alike a CROSS JOIN unnest(a.oids) AS m (oid) JOIN suspect s ON s.oid = m.oid JOIN pg_index i ON i.indexrelid = m.oid
), twice AS MATERIALIZED (
    SELECT oid, keeper FROM same WHERE oid <> keeper AND NOT needed
), found AS MATERIALIZED (
    SELECT oid, keeper, false AS prefix FROM twice
    UNION ALL
    (SELECT DISTINCT ON (v.oid) v.oid, v.keeper, true FROM covered v JOIN suspect s ON s.oid = v.oid AND NOT s.needed
     WHERE v.oid NOT IN (SELECT oid FROM twice) AND v.keeper NOT IN (SELECT oid FROM twice)
     ORDER BY v.oid, v.indnatts, v.keeper)
), tree AS (
    SELECT oid AS root, oid FROM found
    UNION ALL
    SELECT t.root, h.inhrelid FROM tree t JOIN pg_inherits h ON h.inhparent = t.oid
)
SELECT c.oid::int8 AS oid, n.nspname, c.relname, c.relkind, f.prefix, kn.nspname AS keeper_schema, k.relname AS keeper,
       z.pages * current_setting('block_size')::int AS bytes
FROM found f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class k ON k.oid = f.keeper JOIN pg_namespace kn ON kn.oid = k.relnamespace
JOIN (SELECT t.root, sum(p.relpages)::int8 AS pages FROM tree t JOIN pg_class p ON p.oid = t.oid GROUP BY 1) z ON z.root = f.oid
ORDER BY bytes DESC, n.nspname, c.relname
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
