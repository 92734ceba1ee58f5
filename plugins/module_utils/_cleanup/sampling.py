# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at some pages of a large table instead of all, where what is found there settles how its rows go.

Counting a table that is read from end to end afterwards costs as much as a good part of that. The numbers of the result do not come
from here: a run counts what it did and what it left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import predicate
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import DROP, ROW, Target

MUCH = 0.1  # a share of the rows that is well above all for which another way than reading the whole table is cheaper
_SAMPLED = 400  # pages
_LARGE = 10 * _SAMPLED
_TID_RANGES = 140000  # the server version that reads a table range by range


class Sample(NamedTuple):
    """About how many rows a table has, and how many of them go."""

    rows: int
    going: int


def sample(database: Any, target: Target) -> Sample | None:
    """Return what some pages say of a target, None where they cannot say enough: count then. Raises DatabaseError.

    They say enough where it is clear that much goes, and that nothing but the row itself decides whether it does.
    """
    leaves = target.relation.leaves
    if database.server_version < _TID_RANGES or target.action == DROP or target.protected or not target.plain or len(leaves) != 1:
        return None
    pages = database.value(
        "SELECT pg_catalog.pg_relation_size(%s::oid) / pg_catalog.current_setting('block_size')::bigint", (leaves[0].oid,)
    )
    if not pages or pages < _LARGE:
        return None
    sql = database.sql
    share = _SAMPLED / pages
    found = database.row(
        sql.SQL(
            "SELECT pg_catalog.count(*) AS all_rows, pg_catalog.count(*) FILTER (WHERE {condition}) AS going"
            " FROM ONLY {leaf} AS {row} TABLESAMPLE SYSTEM ({percent})"
        ).format(
            condition=predicate.matched(database, target),
            leaf=leaves[0].name.identifier(sql),
            row=sql.Identifier(ROW),
            percent=sql.Literal(100 * share),
        )
    )
    if found["going"] < MUCH * found["all_rows"] or not found["going"]:
        return None
    return Sample(round(found["all_rows"] / share), round(found["going"] / share))
