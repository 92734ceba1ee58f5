# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the values of a column are known to differ, without looking at them."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation

# A valid unique index on the column alone proves it, unless its order depends on a collation: that may have changed under it.
_PROVEN = """
SELECT i.indexrelid::regclass::text AS index
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = %(relation)s AND a.attname = %(column)s AND i.indisunique AND i.indisvalid AND i.indisready
  AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indcollation[0] = 0
LIMIT 1
"""


def unique_index(database: Any, relation: Relation, column: str) -> str | None:
    """Return the index that proves that no two rows of `relation` have the same value of `column`, None without one.

    `database` is anything with `rows`. An index on a table says nothing about its inheritance children; one on a partitioned
    table holds in all its partitions.
    """
    if relation.kind != "p" and (relation.kind != "r" or relation.descendants):
        return None
    found = database.rows(_PROVEN, {"relation": relation.oid, "column": column})
    return str(found[0]["index"]) if found else None
