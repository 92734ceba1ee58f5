# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns with an index whose rows lie about the table in another order."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, Unseen, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.needs import ORDER_COLUMNS
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import part_of, scope
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

LARGEST = 200
LEAST_BYTES = 100 << 20
LOW = 0.3
IN_REPORT = 50
# Of the arrays of numbers no value of a row can be told: frequencies, and the correlation.
COLUMNS = ", ".join(ORDER_COLUMNS)

_CORRELATIONS = """
WITH relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relpages
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relpages >= %(least)s
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
    ORDER BY c.relpages DESC, c.oid LIMIT %(largest)s
)
SELECT r.nspname, r.relname, a.attname, min(x.relname) AS index, r.relpages::int8 * current_setting('block_size')::int AS bytes,
       CASE 3 WHEN s.stakind1 THEN s.stanumbers1[1] WHEN s.stakind2 THEN s.stanumbers2[1] WHEN s.stakind3 THEN s.stanumbers3[1]
              WHEN s.stakind4 THEN s.stanumbers4[1] WHEN s.stakind5 THEN s.stanumbers5[1] END::float8 AS correlation
FROM relation r
JOIN pg_index i ON i.indrelid = r.oid AND i.indisvalid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = i.indkey[0]
LEFT JOIN pg_statistic s ON s.starelid = r.oid AND s.staattnum = a.attnum AND NOT s.stainherit
WHERE m.amname IN ('btree', 'brin')
GROUP BY 1, 2, 3, 5, 6, r.oid, r.relpages, a.attnum ORDER BY r.relpages DESC, r.oid, a.attnum
"""


def _correlation(look: Look, limits: Limits) -> Iterable[Reading]:
    try:
        rows = look.rows(_CORRELATIONS, {**scope(look), "least": LEAST_BYTES // 8192, "largest": LARGEST})
    except DatabaseError as error:
        if error.sqlstate != "42501":
            raise
        grant = f"As a superuser: GRANT SELECT ({COLUMNS}) ON pg_catalog.pg_statistic TO {quoted(look.role)};"
        message = f"the role {look.role} may not read the correlations in pg_statistic"
        raise Unseen(message, hint=f"{grant} No values of rows are in these columns.") from None
    known = [row for row in rows if row["correlation"] is not None]
    low = [row for row in known if abs(row["correlation"]) < LOW]
    if not rows:
        return skipped(f"no table of at least {format_size(LEAST_BYTES)} has an index")
    look.details.setdefault("correlation", []).extend(
        {
            "table": str(RelationName(row["nspname"], row["relname"])),
            "column": row["attname"],
            "index": row["index"],
            "correlation": row["correlation"],
            "bytes": row["bytes"],
        }
        for row in low[:IN_REPORT]
    )
    unseen = f", {len(rows) - len(known)} never analysed" if len(known) < len(rows) else ""
    counts = f"{len(low)} of {len(rows)} columns that lead an index lie in no order on disk{unseen}"
    metrics: Dict[str, float | None] = {"index.low_correlations": float(len(low))}
    return [Reading(counts, status=OK, metrics=metrics), *(_reading(row) for row in low)]


def _reading(row: Mapping[str, Any]) -> Reading:
    name = part_of(row["nspname"], row["relname"], row["attname"])
    message = f"correlation {row['correlation']:.2f}: a range of {row['index']} reads about one page a row"
    return Reading(message, object_name=name, status=OK)


CORRELATION = Check(
    id="index.correlation",
    title="Columns with an index that lie in no order",
    tier="weekly",
    looks_at="The correlation that ANALYZE has seen between the values of a column that leads a btree or BRIN index and the places of its "
    "rows, in the 200 largest tables of at least 100 MB: those below 0.3. It informs and is no fault: most columns have none, a "
    "lookup of single rows does not care, and no index can change it. It tells why a range scan reads many pages.",
    action="Nothing, unless ranges of the column are read often: then CLUSTER or partitions help, and a BRIN index does not.",
    needs="SELECT on the columns stakind1 to 5 and stanumbers1 to 5 of pg_catalog.pg_statistic, beside those of bloat.table",
    run=_correlation,
)
