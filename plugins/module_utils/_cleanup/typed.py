# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogue says about comparing the values of a column, and values that a person wrote as constants of its type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._driver import array_literal
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import shown

_TEXTS, _ARRAYS = "S", "A"
_JSONS = ("json", "jsonb")
_CUTTING = ("name", "char")  # their input takes any text and keeps the beginning of it
_NO_OPERATOR = "42883"

# The operators are those of the type's default operator class, as the server chooses it for an index, a GROUP BY or an ORDER BY:
# a btree's before a hash's, the type's own before that of a type that it is stored like. No name is searched for in any schema.
_LOOK_UP = """
WITH RECURSIVE below(attname, declared, oid, typmod, nullable) AS (
    SELECT a.attname, a.atttypid, a.atttypid, a.atttypmod, NOT a.attnotnull
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = %(relation)s AND a.attname = ANY (%(columns)s::name[]) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attname, b.declared, d.typbasetype, CASE WHEN d.typtypmod >= 0 THEN d.typtypmod ELSE b.typmod END,
        b.nullable AND NOT d.typnotnull
    FROM below b JOIN pg_catalog.pg_type d ON d.oid = b.oid AND d.typtype = 'd'
)
SELECT b.attname, n.nspname, t.typname, b.declared <> t.oid AS domain, nullif(b.typmod, -1) AS typmod, b.nullable,
    (SELECT pg_catalog.jsonb_object_agg(
                CASE WHEN class.amname = 'hash' THEN '=' ELSE ('{<,<=,=,>=,>}'::text[])[s.amopstrategy] END,
                pg_catalog.jsonb_build_array(o.nspname, o.oprname))
     FROM (
        SELECT m.amname, c.opcfamily, c.opcintype
        FROM pg_catalog.pg_opclass c
        JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname IN ('btree', 'hash')
        JOIN pg_catalog.pg_type i ON i.oid = c.opcintype
        WHERE c.opcdefault AND (
            i.oid = t.oid
            OR (i.typnamespace = 'pg_catalog'::regnamespace AND i.typname = CASE
                WHEN t.typtype = 'e' THEN 'anyenum' WHEN t.typtype = 'r' THEN 'anyrange' WHEN t.typtype = 'm' THEN 'anymultirange'
                WHEN t.typtype = 'c' THEN 'record' WHEN t.typelem <> 0 AND t.typlen = -1 THEN 'anyarray' END)
            OR EXISTS (
                SELECT FROM pg_catalog.pg_cast k
                WHERE k.castsource = t.oid AND k.casttarget = i.oid AND k.castmethod = 'b' AND k.castcontext = 'i'))
        ORDER BY m.amname = 'btree' DESC, i.oid = t.oid DESC, i.typispreferred DESC, c.oid
        LIMIT 1
     ) AS class
     JOIN pg_catalog.pg_amop s ON s.amopfamily = class.opcfamily AND s.amoppurpose = 's'
        AND s.amoplefttype = class.opcintype AND s.amoprighttype = class.opcintype
     JOIN (SELECT p.oid, p.oprname, q.nspname FROM pg_catalog.pg_operator p JOIN pg_catalog.pg_namespace q ON q.oid = p.oprnamespace) AS o
        ON o.oid = s.amopopr
    ) AS operators
FROM below b
JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
"""


@dataclass(frozen=True)
class Typed:
    """A column with the type below any domains that its values are compared in, and the operators which that type has by itself.

    `typmod` is the length or precision that values are stored with, None without one; `operators` have schema and name by their
    meaning (= < <= > >=), and lack what the type has no order or no equality for.
    """

    table: Relation
    column: Column
    schema: str
    name: str
    domain: bool
    typmod: int | None
    nullable: bool
    operators: Mapping[str, tuple[str, str]]

    @property
    def words(self) -> str:
        """Return the column and its type as a message says them."""
        return f"{self.table.name}.{self.column.name} is of type {self.column.type}"

    def type(self, sql: Any) -> Any:
        """Return the type as SQL: by its name, so that nothing is ever cut to a length or rounded."""
        return sql.Identifier(self.schema, self.name)

    def of(self, sql: Any, row: str) -> Any:
        """Return the column of the row with the alias `row` as operators take it."""
        reference = sql.Identifier(row, self.column.name)
        # Without the cast, an operator that somebody has made for the domain would be taken before the type's own.
        return sql.SQL("{}::{}").format(reference, self.type(sql)) if self.domain else reference

    def compared(self, sql: Any, left: Any, sign: str, right: Any) -> Any:
        """Return the comparison of two values of the type by its own operator for `sign` (= < <= > >=)."""
        schema, name = self.operators[sign]
        # Not an identifier that could be quoted: the server lets operators consist of its operator characters only.
        return sql.SQL("{} OPERATOR({}.{}) {}").format(left, sql.Identifier(schema), sql.SQL(name), right)


def look_up(database: Any, relation: Relation, columns: Iterable[Column]) -> dict[str, Typed]:
    """Return `columns` of `relation`, by their names, with how their values are compared. Raises DatabaseError."""
    wanted = {column.name: column for column in columns}
    rows = database.rows(_LOOK_UP, {"relation": relation.oid, "columns": list(wanted)}) if wanted else []
    return {
        row["attname"]: Typed(
            relation,
            wanted[row["attname"]],
            row["nspname"],
            row["typname"],
            row["domain"],
            row["typmod"],
            row["nullable"],
            {sign: (schema, name) for sign, (schema, name) in (row["operators"] or {}).items()},
        )
        for row in rows
    }


def constant(database: Any, typed: Typed, written: Any, path: str) -> Any:
    """Return what a person wrote as a constant of the type, which stays the same whenever it is used.

    The type must have an equality. Raises InvalidValue with `path` for a value that is none of the type.
    """
    sql = database.sql
    text = _text(typed, written, path)
    value = sql.SQL("{}::{}").format(sql.Literal(text), typed.type(sql))
    # As the type's own output writes it: `now` becomes a time, and the same one for all batches. Arrays and composites have an
    # equality whether or not what they consist of has one, so that it is tried.
    statement = sql.SQL("SELECT pg_catalog.concat({}) AS text, {} AS same").format(value, typed.compared(sql, value, "=", value))
    with Refused(typed, written, path):
        found = str(database.row(statement)["text"])
    if typed.schema == "pg_catalog" and typed.name in _CUTTING and found != text:
        raise InvalidValue(f"{path}: {shown(written)} is too long: {typed.words}", object_name=path)
    return sql.SQL("{}::{}").format(sql.Literal(found), typed.type(sql))


def require_held(database: Any, typed: Typed, value: Any, written: Any, path: str) -> None:
    """Refuse a constant that the column itself could not hold unchanged: its domain forbids it, its length or precision is less.

    Raises InvalidValue with `path`.
    """
    sql = database.sql
    # The server has written the type, with every name in it quoted where that is needed.
    stored = sql.SQL("({}::{})::{}").format(value, sql.SQL(typed.column.type), typed.type(sql))
    with Refused(typed, written, path):
        same = database.value(sql.SQL("SELECT {}").format(typed.compared(sql, stored, "=", value)))
    if not same:
        raise InvalidValue(f"{path}: {shown(written)} is too long or too precise: {typed.words}", object_name=path)


def _text(typed: Typed, written: Any, path: str) -> str:
    """Return the text of a value from YAML, for the input of the type."""
    if typed.name in _JSONS and isinstance(written, (dict, list)):
        return json.dumps(written)
    if typed.column.category == _ARRAYS and isinstance(written, (list, tuple)):
        return array_literal([None if item is None else _plain(item) for item in written])
    if written is None or isinstance(written, (dict, list, tuple)):
        hint = 'NULL is found with the operator "is null".' if written is None else None
        raise InvalidValue(f"{path}: {shown(written)} is not one value: {typed.words}", object_name=path, hint=hint)
    if typed.column.category == _TEXTS and isinstance(written, (bool, float)):
        # What YAML made of yes, on or 1.10 does not say any more how it was written.
        hint = "Write the text in quotes."
        raise InvalidValue(f"{path}: {shown(written)} is not a text: {typed.words}", object_name=path, hint=hint)
    text = _plain(written)
    if "\0" in text:
        raise InvalidValue(f"{path}: no value may hold the character 0: {typed.words}", object_name=path)
    return text


def _plain(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


class Refused:
    """Turns the server's refusal of a value into an InvalidValue that names the path, the value, the column and its type."""

    def __init__(self, typed: Typed, written: Any, path: str) -> None:
        self.typed, self.written, self.path = typed, written, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: Any, _trace: Any) -> None:
        if not isinstance(error, DatabaseError):
            return
        state = error.sqlstate or ""
        if state == _NO_OPERATOR:
            message = f"{self.path}: {self.typed.words}, whose values cannot be compared: {error.message}"
        # A type of somebody else's may report a syntax error in its own syntax.
        elif state.startswith(("22", "23")) or state == "42601":
            message = f"{self.path}: {shown(self.written)} is not a value that it can hold: {self.typed.words} ({error.message})"
        else:
            return
        raise InvalidValue(message, object_name=self.path, sqlstate=state) from None
