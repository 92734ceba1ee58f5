# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that cost every write and serve no query, because building them failed."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, Unseen, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import counted_indexes, name_of, scope

# A build of another session has an index_relid; REINDEX CONCURRENTLY makes the new indexes of a whole table before it fills the first.
# Who may not see other sessions sees that one builds something, and not what.
_INVALID = """
WITH builds AS (
    SELECT p.relid, p.index_relid, p.command LIKE '%%CONCURRENTLY' AS concurrent, p.command LIKE 'REINDEX%%' AS again
    FROM pg_stat_progress_create_index p WHERE p.datname = current_database()
)
SELECT i.indexrelid::int8 AS oid, n.nspname, c.relname, t.relname AS table_name, c.relkind, i.indisunique, i.indisexclusion, i.indislive,
       c.relpages::int8 * current_setting('block_size')::int AS bytes,
       (SELECT k.contype FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') LIMIT 1) AS constraint_type,
       (SELECT quote_ident(vn.nspname) || '.' || quote_ident(vc.relname)
        FROM pg_index v JOIN pg_class vc ON vc.oid = v.indexrelid JOIN pg_namespace vn ON vn.oid = vc.relnamespace
        WHERE v.indrelid = i.indrelid AND v.indexrelid <> i.indexrelid AND v.indisvalid AND v.indisready AND v.indislive
          AND vc.relam = c.relam AND v.indisunique >= i.indisunique AND v.indnkeyatts = i.indnkeyatts
          AND v.indkey::text = i.indkey::text AND v.indclass::text = i.indclass::text AND v.indcollation::text = i.indcollation::text
          AND v.indoption::text = i.indoption::text
          AND regexp_replace(v.indexprs::text, ':location -?[0-9]+', '', 'g')
              IS NOT DISTINCT FROM regexp_replace(i.indexprs::text, ':location -?[0-9]+', '', 'g')
          AND regexp_replace(v.indpred::text, ':location -?[0-9]+', '', 'g')
              IS NOT DISTINCT FROM regexp_replace(i.indpred::text, ':location -?[0-9]+', '', 'g')
        ORDER BY vc.oid LIMIT 1) AS twin,
       EXISTS (SELECT FROM builds b WHERE b.index_relid = i.indexrelid
               OR b.relid = i.indrelid AND b.concurrent AND (b.again OR b.index_relid = 0)) AS in_progress,
       EXISTS (SELECT FROM builds b WHERE b.relid IS NULL) AS hidden_builds,
       (SELECT count(*) FROM pg_inherits h WHERE h.inhparent = i.indrelid) AS partitions,
       (SELECT count(*) FROM pg_inherits h JOIN pg_index p ON p.indexrelid = h.inhrelid
        WHERE h.inhparent = i.indexrelid AND p.indisvalid) AS attached,
       (SELECT json_build_array(pn.nspname, pc.relname)
        FROM pg_inherits h JOIN pg_class pc ON pc.oid = h.inhrelid JOIN pg_namespace pn ON pn.oid = pc.relnamespace
        WHERE h.inhparent = i.indexrelid ORDER BY pc.oid LIMIT 1) AS child
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relpersistence <> 't'
  AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
ORDER BY c.relpages DESC, n.nspname, c.relname
"""

# Waits behind an exclusive lock on the table, so for one index at a time.
_DEFINITION = "SELECT pg_get_indexdef(%(index)s::int8::oid) AS definition"


def _invalid(look: Look, limits: Limits) -> Iterable[Reading]:
    rows = look.rows(_INVALID, scope(look))
    failed = [row for row in rows if not row["in_progress"] and not _waits_for_partitions(row)]
    if failed and look.database.in_recovery:
        listed = ", ".join(name_of(row) for row in failed[:5])
        return skipped(f"{counted_indexes(len(failed))} not valid ({listed}); what is being built is known to the primary alone")
    readings = [_reading(look, row) for row in failed]
    if readings:
        return readings
    building, waiting = sum(row["in_progress"] for row in rows), sum(_waits_for_partitions(row) for row in rows)
    said = [f"{building} being built" if building else "", f"{waiting} of partitioned tables wait for their partitions" if waiting else ""]
    return [Reading("; ".join(["no index is left invalid", *filter(None, said)]), 0.0, metrics={"index.building": float(building)})]


def _waits_for_partitions(row: Mapping[str, Any]) -> bool:
    """Return whether it is the index of a partitioned table of which not every partition has a valid one yet: that is how it is built."""
    return bool(row["relkind"] == "I" and row["attached"] < row["partitions"])


def _reading(look: Look, row: Mapping[str, Any]) -> Reading:
    if row["hidden_builds"]:
        message = "it is not valid, and the role may not see which indexes other sessions are building"
        return unknown(Unseen(message, hint=f"As a superuser: GRANT pg_read_all_stats TO {quoted(look.role)};"), name_of(row))
    what = "dropping it did not end" if not row["indislive"] else "building it did not end"
    message = f"it is not valid: {what}, and every write to {row['table_name']} may keep it all the same"
    return Reading(message, 1.0, name_of(row), action=_action(look, row))


def _action(look: Look, row: Mapping[str, Any]) -> str:
    name = quoted(row["nspname"], row["relname"])
    if not row["indislive"]:
        return f"As the owner: DROP INDEX CONCURRENTLY {name};"
    if row["relkind"] == "I":
        attach = f"As the owner: ALTER INDEX {name} ATTACH PARTITION {quoted(*row['child'])};" if row["child"] else ""
        return f"Every partition has a valid index. {attach} If it stays invalid, create another on the partitioned table and drop this."
    if row["twin"] and not row["constraint_type"]:
        return f"As the owner: DROP INDEX CONCURRENTLY {name}; {row['twin']} is valid and the same."
    if row["indisexclusion"]:
        return f"As the owner: REINDEX INDEX {name}; which blocks writes: an exclusion constraint cannot be rebuilt concurrently."
    if row["indisunique"] and not row["constraint_type"]:
        # It has failed on rows that are there twice, more often than not.
        return f"Look for rows with equal keys first. As the owner: DROP INDEX CONCURRENTLY {name}; then: {_definition(look, row)}"
    first = "Look for rows with equal keys first. " if row["indisunique"] else ""
    return f"{first}As the owner: REINDEX INDEX CONCURRENTLY {name};"


def _definition(look: Look, row: Mapping[str, Any]) -> str:
    """Return the statement that makes the index again, or where to find it while its table is locked."""
    try:
        definition = str(look.row(_DEFINITION, {"index": row["oid"]})["definition"])
    except DatabaseError:
        if look.database.closed:
            raise
        return f"its definition again: SELECT pg_get_indexdef({row['oid']}); before it is dropped (the table is locked now)."
    return definition.replace("CREATE UNIQUE INDEX ", "CREATE UNIQUE INDEX CONCURRENTLY ", 1) + ";"


INVALID = Check(
    id="index.invalid",
    title="Indexes that are not valid",
    tier="daily",
    looks_at="pg_index. An index that a session is just building (pg_stat_progress_create_index) and the index of a partitioned table that "
    "waits for the indexes of its partitions are none. A standby does not know what the primary builds, and is skipped where it has any.",
    action="Rebuild the index, or drop it where another one does the same.",
    needs="pg_read_all_stats where other roles build indexes",
    run=_invalid,
    unit="count",
    warning=0,
)
