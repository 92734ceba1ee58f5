# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the tables are still those that the plan was made for: names are what the statements of a run have.

Between two batches a partition may be detached, a table give its name to another one, or a column get another type, with which the same
constant means another moment. What a batch sees, its locks hold still until it ends.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import Target
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation

_SAME_TABLE = """EXISTS (
    SELECT FROM pg_catalog.pg_class AS class_
    JOIN pg_catalog.pg_namespace AS place_ ON place_.oid OPERATOR(pg_catalog.=) class_.relnamespace
    WHERE class_.oid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid AND class_.relname OPERATOR(pg_catalog.=) {name}::pg_catalog.name
      AND place_.nspname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name
)"""
# A partition whose concurrent detachment is pending is no longer part of its parent.
_PART = """EXISTS (
    WITH RECURSIVE up_(oid) AS (
        SELECT {leaf}::pg_catalog.oid
        UNION SELECT link_.inhparent FROM up_ JOIN pg_catalog.pg_inherits AS link_ ON link_.inhrelid OPERATOR(pg_catalog.=) up_.oid
        WHERE NOT coalesce((pg_catalog.to_jsonb(link_) OPERATOR(pg_catalog.->>) 'inhdetachpending')::boolean, false)
    )
    SELECT FROM up_ WHERE up_.oid OPERATOR(pg_catalog.=) {whole}::pg_catalog.oid
)"""
_SAME_TYPES = """NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute AS own_
    JOIN (VALUES {columns}) AS was_(name, type) ON was_.name OPERATOR(pg_catalog.=) own_.attname
    WHERE own_.attrelid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid AND own_.atttypid OPERATOR(pg_catalog.<>) was_.type::pg_catalog.oid
)"""


def in_place(database: Any, target: Target, leaf: Leaf) -> Any:
    """Return the condition, the same for every row, that all tables that decide about the rows of `leaf` are what they were."""
    sql = database.sql
    return sql.SQL("(SELECT {})").format(sql.SQL(" AND ").join([part for part, _message in _parts(database, target, leaf)]))


def require_in_place(database: Any, target: Target, leaf: Leaf) -> None:
    """Raise DatabaseError where `in_place` does not hold, and say what has changed."""
    sql = database.sql
    for part, message in _parts(database, target, leaf):
        if not database.value(sql.SQL("SELECT {}").format(part)):
            raise DatabaseError(message, object_name=str(leaf.name), hint="Run it again: it looks at everything anew.")


def _parts(database: Any, target: Target, leaf: Leaf) -> list[tuple[Any, str]]:
    whole = target.relation
    parts = [_same_table(database, leaf.oid, leaf.name), _same_types(database, leaf.oid, leaf.name, whole)]
    if leaf.oid != whole.oid:
        part = database.sql.SQL(_PART).format(leaf=database.sql.Literal(leaf.oid), whole=database.sql.Literal(whole.oid))
        parts.insert(0, (part, f"{leaf.name} is no longer a part of {whole.name}, and was left alone"))
    for store in (*target.forgets, *target.serves):
        for relation in (store.deny, store.tokens):
            if relation.oid is not None and relation.oid != whole.oid:
                parts.append(_same_table(database, relation.oid, relation.name))
                parts.append(_same_types(database, relation.oid, relation.name, relation))
    return parts


def _same_table(database: Any, oid: int, name: RelationName) -> tuple[Any, str]:
    sql = database.sql
    part = sql.SQL(_SAME_TABLE).format(oid=sql.Literal(oid), name=sql.Literal(name.name), schema=sql.Literal(name.schema))
    return part, f"the name {name} is that of another table since the run began, which was left alone"


def _same_types(database: Any, oid: int, name: RelationName, relation: Relation) -> tuple[Any, str]:
    sql = database.sql
    # Types are written as they are without a search_path, so that these mean the same in every one.
    columns = sql.SQL(", ").join(
        sql.SQL("({}::pg_catalog.name, {}::pg_catalog.regtype)").format(sql.Literal(column.name), sql.Literal(column.type))
        for column in (relation.columns or {}).values()
    )
    part = sql.SQL(_SAME_TYPES).format(oid=sql.Literal(oid), columns=columns)
    return part, f"a column of {name} has got another type since the run began, and the rest was left alone"
