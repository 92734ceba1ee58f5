# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit table of a system that asks for one: a row for every revocation and everything that is taken back."""

from __future__ import annotations

import json
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up

_COLUMNS = {
    "at": "timestamptz NOT NULL DEFAULT pg_catalog.now()",
    "ended_at": "timestamptz",
    "action": "text NOT NULL",
    "revocation_id": "text NOT NULL",
    "role_name": "text NOT NULL DEFAULT current_user",
    "requested_by": "text",
    "reason": "text NOT NULL",
    "selection": "jsonb NOT NULL",
    "counts": "jsonb",
}


class Audit:
    """The table named by a description, or nothing at all where it names none."""

    def __init__(self, database: Any, table: str | None) -> None:
        self.database, self.table = database, table

    def require_writable(self) -> None:
        """Refuse a table that lacks a column, or that the role may not write. Raises DatabaseError and MissingObject."""
        if self.table is None:
            return
        relation = self._look_up()
        if not relation.exists:
            self._require_creatable(relation)
            return
        for column in _COLUMNS:
            relation.column(column)
        lacking = [one for one in ("SELECT", "INSERT", "UPDATE") if relation.itself and one not in relation.itself.privileges]
        if lacking:
            hint = f"Give it {', '.join(lacking)} there, and USAGE on the schema."
            raise DatabaseError(
                f"the role may not {' or '.join(lacking)} {self.table}", object_name=self.table, sqlstate="42501", hint=hint
            )

    def create(self) -> None:
        """Make the table where it is not there."""
        if self.table is not None and not self._look_up().exists:
            sql = self.database.sql
            columns = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in _COLUMNS.items())
            self.database.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(self._name(), columns))

    def begin(self, action: str, revocation_id: str, requested_by: str | None, reason: str, selection: Mapping[str, Any]) -> None:
        """Write the row of an action that begins."""
        if self.table is None:
            return
        self.database.execute(
            self.database.sql.SQL(
                "INSERT INTO {} (action, revocation_id, requested_by, reason, selection) VALUES (%s, %s, %s, %s, %s::jsonb)"
            ).format(self._name()),
            (action, revocation_id, requested_by, reason, json.dumps(selection)),
        )

    def end(self, action: str, revocation_id: str, counts: Mapping[str, Any]) -> None:
        """Note the counts of an action in the rows that have none yet."""
        if self.table is None:
            return
        self.database.execute(
            self.database.sql.SQL(
                "UPDATE {} SET ended_at = pg_catalog.now(), counts = %s::jsonb"
                " WHERE action = %s AND revocation_id = %s AND ended_at IS NULL"
            ).format(self._name()),
            (json.dumps(counts), action, revocation_id),
        )

    def _require_creatable(self, relation: Relation) -> None:
        schema = relation.name.schema
        if not relation.schema_exists:
            hint = "Make it, or name another table under revocation.audit."
            raise MissingObject(f"schema {schema} does not exist: {self.table} cannot be made", object_name=schema, hint=hint)
        may = "SELECT pg_catalog.has_schema_privilege(%(schema)s, 'CREATE') AND pg_catalog.has_schema_privilege(%(schema)s, 'USAGE')"
        if not self.database.value(may, {"schema": schema}):
            hint = f"Give it CREATE on schema {schema}, or make the table for it."
            raise DatabaseError(f"the role may not make {self.table}", object_name=self.table, sqlstate="42501", hint=hint)

    def _look_up(self) -> Relation:
        name = parse_relation(self.table or "")
        return look_up(self.database, [name])[name]

    def _name(self) -> Any:
        return parse_relation(self.table or "").identifier(self.database.sql)
