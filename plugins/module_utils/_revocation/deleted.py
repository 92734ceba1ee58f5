# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that a revocation deleted, brought back whole from their text, column by column by its name."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import stored_columns

# Without a length or precision: one that has become smaller since is an error, where a cast would cut off.
_TYPES = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, -1) AS type
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""


def bring_back(database: Any, relation: Relation, source: Any, *, act: bool) -> int:
    """Insert the rows that `source` has as text (`before`) and return how many; those made anew since stay. Only counts unless `act`.

    A column that has been added since gets its default. Raises MissingObject for one that is gone.
    """
    sql = database.sql
    named = sql.SQL(
        "SELECT kept_.before, ARRAY(SELECT names_ FROM pg_catalog.jsonb_object_keys(kept_.before) AS names_ ORDER BY 1) AS names"
        " FROM (SELECT before::jsonb AS before FROM ({}) AS source_) AS kept_"
    ).format(source)
    kinds = database.rows(sql.SQL("SELECT names, pg_catalog.count(*) AS rows FROM ({}) AS named_ GROUP BY 1 ORDER BY 1").format(named))
    types = {row["attname"]: row["type"] for row in database.rows(_TYPES, (relation.oid,))}
    for kind in kinds:
        _require_all(relation, types, kind["names"])
    if not act:
        return sum(int(kind["rows"]) for kind in kinds)
    stored = stored_columns(database, relation)
    return sum(database.execute(_insert(sql, relation, named, kind["names"], {name: types[name] for name in stored})) for kind in kinds)


def _require_all(relation: Relation, types: dict[str, str], names: Sequence[str]) -> None:
    gone = [name for name in names if name not in types]
    if gone:
        raise MissingObject(
            f"{relation.name} has no column {', '.join(gone)} any more: rows that were deleted cannot be brought back as they were",
            object_name=str(relation.name),
            hint="Give it that column, and take the revocation back again.",
        )


def _insert(sql: Any, relation: Relation, named: Any, names: Sequence[str], types: dict[str, str]) -> Any:
    written = [name for name in names if name in types]
    values = [sql.SQL("(rows_.before ->> {})::{}").format(sql.Literal(name), sql.SQL(types[name])) for name in written]
    return sql.SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM ({named} OFFSET 0) AS rows_"
        " WHERE rows_.names = {names} ON CONFLICT DO NOTHING"
    ).format(
        table=relation.name.identifier(sql),
        columns=sql.SQL(", ").join(map(sql.Identifier, written)),
        values=sql.SQL(", ").join(values),
        named=named,
        names=sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(map(sql.Literal, names))),
    )
