# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions of a rule (column, operator, value) as the type of the column understands them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import typed
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation

NULL_TESTS = ("is null", "is not null")
LISTS = ("in", "not in")
EQUALITY = ("=", "!=", *LISTS)
ORDER = ("<", "<=", ">", ">=")
_ARRAYS = "A"


@dataclass(frozen=True)
class Condition:
    """A condition on a column. `operands` are constants of its type: one, several with in and not in, none with the tests for NULL.

    `typed` says how values of the type are compared.
    """

    column: Column
    operator: str
    operands: tuple[Any, ...]
    typed: typed.Typed


def resolve(database: Any, relation: Relation, written: Sequence[Mapping[str, Any]], path: str) -> tuple[Condition, ...]:
    """Return the conditions `written` (each with column, operator and value), which stand at `path`.

    Raises MissingObject for a column that is not there, and InvalidValue for a value that is none of the column's type and for an
    operator that the type does not have.
    """
    columns = [relation.column(each["column"]) for each in written]
    types = typed.look_up(database, relation, columns)
    return tuple(
        Condition(column, each["operator"], _operands(database, types[column.name], each, f"{path}[{index}]"), types[column.name])
        for index, (each, column) in enumerate(zip(written, columns))
    )


def holds(database: Any, conditions: Sequence[Condition], row: str) -> list[Any]:
    """Return the conditions on the row with the alias `row`; NULL fulfils only the test for it."""
    return [_holds(database.sql, condition, row) for condition in conditions]


def _holds(sql: Any, condition: Condition, row: str) -> Any:
    operator, operands, compares = condition.operator, condition.operands, condition.typed
    if operator in NULL_TESTS:
        form = "{} IS NULL" if operator == "is null" else "{} IS NOT NULL"
        return sql.SQL(form).format(sql.Identifier(row, condition.column.name))
    reference = compares.of(sql, row)
    if operator in ORDER:
        return compares.compared(sql, reference, operator, operands[0])
    if operator not in LISTS:
        equal = compares.compared(sql, reference, "=", operands[0])
    elif condition.column.category == _ARRAYS:
        # ANY would look for the column among the elements of the arrays.
        equal = sql.SQL(" OR ").join(compares.compared(sql, reference, "=", operand) for operand in operands)
    else:
        equal = compares.compared(sql, reference, "=", sql.SQL("ANY (ARRAY[{}])").format(sql.SQL(", ").join(operands)))
    return sql.SQL("NOT ({})" if operator in ("!=", "not in") else "({})").format(equal)


def _operands(database: Any, compares: typed.Typed, written: Mapping[str, Any], path: str) -> tuple[Any, ...]:
    operator, value = written["operator"], written.get("value")
    if operator in NULL_TESTS:
        return ()
    _require_operator(compares, operator, path)
    if operator not in LISTS:
        return (_operand(database, compares, operator, value, f"{path}.value"),)
    if not isinstance(value, (list, tuple)) or not value:
        hint = "An empty list would match nothing with in, and every row with not in."
        raise InvalidValue(f"{path}.value: {operator} needs a list of values", object_name=f"{path}.value", hint=hint)
    return tuple(_operand(database, compares, operator, each, f"{path}.value[{index}]") for index, each in enumerate(value))


def _operand(database: Any, compares: typed.Typed, operator: str, value: Any, path: str) -> Any:
    constant = typed.constant(database, compares, value, path)
    if compares.domain and operator in EQUALITY:
        # No row can have a value that the domain forbids: != would match all of them. Limits of an order may well lie outside.
        typed.require_held(database, compares, constant, value, path)
    return constant


def _require_operator(compares: typed.Typed, operator: str, path: str) -> None:
    needed, lacks = ("=", "equality") if operator in EQUALITY else (operator, "order")
    if needed in compares.operators:
        return
    allowed = ", ".join([*(EQUALITY if "=" in compares.operators else ()), *NULL_TESTS])
    message = f"{path}.operator: {compares.words}, which has no {lacks}; allowed: {allowed}"
    raise InvalidValue(message, object_name=f"{path}.operator")
