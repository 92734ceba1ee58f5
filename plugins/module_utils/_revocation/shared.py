# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that more than one store would change: the first store changes them, and only there are they counted.

An access token that goes with its refresh token may well be selected in a store of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterable

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import DELETED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import TOKENS, Target

_COLUMNS = ("relid", "place", "key")
_TOKEN_COLUMNS = (*_COLUMNS, "id", "tokens", "claims", "cache_values")


def without(sql: Any, target: Target, earlier: Iterable[Target]) -> Target:
    """Return `target` without the rows that `earlier` ones, of other stores, change in the same way or delete."""
    taken = [one for one in earlier if _takes_from(one, target)]
    if not taken or not (target.act is None or isinstance(target.act, RowChange)):
        return target
    columns = _TOKEN_COLUMNS if target.kind == TOKENS else _COLUMNS
    query = sql.SQL(
        "SELECT row_number() OVER (ORDER BY found_.ordinal) AS ordinal, {columns} FROM ({found}) AS found_ WHERE NOT EXISTS"
        " (SELECT FROM ({taken}) AS taken_ WHERE taken_.relid = found_.relid AND taken_.place = found_.place)"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("found_", name) for name in columns),
        found=target.query,
        taken=sql.SQL(" UNION ALL ").join(sql.SQL("SELECT relid, place FROM ({}) AS one_").format(one.alone.query) for one in taken),
    )
    return replace(target, query=query, whole=target.query)


def count_taken(database: Any, target: Target) -> int:
    """Return how many rows of a target stores before it change."""
    if target.whole is None:
        return 0
    sql = database.sql
    form = "SELECT (SELECT pg_catalog.count(*) FROM ({}) AS all_) - (SELECT pg_catalog.count(*) FROM ({}) AS own_)"
    return int(database.value(sql.SQL(form).format(target.whole, target.query)))


def _takes_from(one: Target, other: Target) -> bool:
    if not isinstance(one.act, RowChange) or one.relation.oid != other.relation.oid:
        return False
    return one.change == DELETED or (one.change, one.column) == (other.change, other.column)
