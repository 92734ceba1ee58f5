# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When two columns hold the same id: types that mean the same are compared, others are refused instead of matching nothing."""

from __future__ import annotations

from typing import Any, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation

# Types that the server compares with each other by an operator of its own that means the same as ours.
_FAMILIES = {"text": "text", "varchar": "text", "bpchar": "text", "int2": "int", "int4": "int", "int8": "int"}
_TEXTS = "S"  # the category of texts, of others' types too (citext)
# A uuid as the server writes it, and every way in which it may be written.
_PLAIN_UUID = "pg_catalog.lower(pg_catalog.translate({}::text, '{{-}}', ''))"

# A column and the expression that stands for it in a statement.
Side = Tuple[Column, Any]


def denied_column(store: Mapping[str, Any]) -> str:
    """Return the name of the token column that the deny list of a store repeats."""
    return str(store["revoke"].get("references") or store["tokens"]["id"])


def same_id(sql: Any, one: Side, other: Side) -> Any:
    """Return the condition under which two columns hold the same id. NULL is nobody's.

    `sql` is the driver's sql module. The columns must have passed `require_comparable`.
    """
    columns, sides = (one[0], other[0]), [one[1], other[1]]
    # Where the collations differ, the server wants to be told one.
    form = '{} OPERATOR(pg_catalog.=) {} COLLATE pg_catalog."C"'
    if _native(*columns):
        form = "{} OPERATOR(pg_catalog.=) {}" if columns[0].collation == columns[1].collation else form
    elif "uuid" in (columns[0].base, columns[1].base):
        sides = [plain_uuid(sql, side) for side in sides]
    else:
        sides = [sql.SQL("pg_catalog.lower({}::text)").format(side) for side in sides]
    return sql.SQL(form).format(*sides)


def plain_uuid(sql: Any, reference: Any) -> Any:
    """Return the expression for the digits of a uuid, however it is written."""
    return sql.SQL(_PLAIN_UUID).format(reference)


def require_comparable(one: Tuple[Relation, Column], other: Tuple[Relation, Column], path: str) -> None:
    """Refuse ids whose texts may differ where the ids do not: they would match nothing, and every token would look gone.

    Raises InvalidValue with `path` and both types.
    """
    first, second = one[1], other[1]
    texts = first.category == second.category == _TEXTS
    uuid_and_text = {first.base, second.base} >= {"uuid"} and _TEXTS in (first.category, second.category)
    if not (_native(first, second) or texts or uuid_and_text or (not first.base and first.type == second.type)):
        sides = [f"{relation.name}.{column.name} is of type {column.type}" for relation, column in (one, other)]
        hint = "Allowed: one type for both, two integers, two texts, or uuid and text."
        raise InvalidValue(f"{path}: {' and '.join(sides)}, which cannot be compared", object_name=str(one[0].name), hint=hint)


def plainly_comparable(one: Column, other: Column) -> bool:
    """Return whether the columns are compared as they are, so that an index on either serves."""
    return _native(one, other) and one.collation == other.collation


def _native(one: Column, other: Column) -> bool:
    return bool(one.base) and _FAMILIES.get(one.base, one.base) == _FAMILIES.get(other.base, other.base)
