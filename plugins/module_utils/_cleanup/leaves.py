# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogue says about how the rows of a leaf can be found by their time."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import Target
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

# The correlation from which on rows next to each other in the index are next to each other in the table.
_IN_ORDER = 0.9
_FACTS = """
SELECT c.oid::bigint AS oid, pg_catalog.pg_relation_size(c.oid) AS bytes,
    pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint AS pages,
    EXISTS (
        SELECT FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = i.relam
        JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        WHERE x.indrelid = c.oid AND a.attname = %(column)s AND x.indisvalid AND x.indpred IS NULL AND m.amname = 'btree'
    ) AS indexed,
    (SELECT s.correlation FROM pg_catalog.pg_stats s
     WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = %(column)s AND NOT s.inherited) AS correlation
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%(oids)s::oid[])
"""


class LeafFacts(NamedTuple):
    """The size of a leaf, whether an index has its rows by their time, and how well they lie in that order as far as the server knows.

    `correlation` is 1 where they do, -1 where they lie in the reverse order.
    """

    bytes: int
    pages: int
    indexed: bool
    correlation: float

    @property
    def in_order(self) -> bool:
        """True if rows that are next to each other in an index are next to each other in the table."""
        return self.indexed and abs(self.correlation) >= _IN_ORDER


def look_up_leaves(database: Any, target: Target, leaves: Sequence[Leaf]) -> dict[int, LeafFacts]:
    """Return the facts of each leaf by its oid. Raises DatabaseError."""
    if not leaves:
        return {}
    found = database.rows(_FACTS, {"oids": [leaf.oid for leaf in leaves], "column": target.time.column.name})
    return {
        int(row["oid"]): LeafFacts(int(row["bytes"]), int(row["pages"]), row["indexed"], float(row["correlation"] or 0)) for row in found
    }
