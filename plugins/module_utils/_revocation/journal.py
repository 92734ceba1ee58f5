# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of revocations, in a schema of the database: who, when, why, what, and all that taking one back needs.

It is written in the very transactions that it tells of. What a time of revocation marks unmistakably is found again by
that time; every other row that was changed is kept here, as it was.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant

REVOCATIONS, CHANGES, ROWS = "revocations", "changes", "changed_rows"
_TABLES = (
    """
CREATE TABLE IF NOT EXISTS {schema}.revocations (
    revocation_id text PRIMARY KEY,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    mark timestamptz NOT NULL,
    role_name text NOT NULL,
    requested_by text,
    reason text NOT NULL,
    selection jsonb NOT NULL,
    selection_digest text NOT NULL,
    caches_pending boolean NOT NULL,
    reinstated_at timestamptz,
    reinstated_role text,
    reinstated_by text,
    reinstated_reason text
)
""",
    """
CREATE TABLE IF NOT EXISTS {schema}.changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revocation_id text NOT NULL REFERENCES {schema}.revocations,
    store text NOT NULL,
    table_name text NOT NULL,
    change text NOT NULL,
    column_name text NOT NULL,
    mark text,
    key_columns text[] NOT NULL,
    rows_changed bigint NOT NULL,
    UNIQUE (revocation_id, store, table_name, change, column_name)
)
""",
    """
CREATE TABLE IF NOT EXISTS {schema}.changed_rows (
    change_id bigint NOT NULL,
    key text[],
    before text,
    after text,
    cache_values jsonb,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.now()
)
""",
    "CREATE INDEX IF NOT EXISTS changed_rows_change_id ON {schema}.changed_rows (change_id)",
    "COMMENT ON TABLE {schema}.revocations IS 'Revocations of tokens by pgops.runbook: who, when, why, what was selected'",
    "COMMENT ON TABLE {schema}.changed_rows IS"
    " 'Rows as they were before a revocation; those of one that will not be taken back may be deleted'",
)
# Whom default privileges let in. PUBLIC has no name.
_GRANTEES = """
SELECT DISTINCT g.grantee <> 0 AS is_role, r.rolname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS g
LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(tables)s) AND g.grantee <> c.relowner
"""
_ACCESS = """
SELECT n.oid IS NOT NULL AS present, pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create_schema,
    coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false) AS may_use,
    coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false) AS may_create,
    (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname = ANY (%(tables)s)) AS tables,
    (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname = ANY (%(tables)s)
        AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
        AND (c.relname = 'changed_rows' OR pg_catalog.has_table_privilege(c.oid, 'UPDATE'))) AS writable
FROM (SELECT 1) AS one
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = %(schema)s
"""


@dataclass(frozen=True)
class Record:
    """One revocation as it was recorded."""

    revocation_id: str
    mark: Instant
    selection_digest: str
    caches_pending: bool
    reinstated: bool
    began_at: str
    reason: str


class Journal:
    """The record in one schema. `exists` tells whether it has been made; nothing is made before it is needed."""

    def __init__(self, database: Any, schema: str) -> None:
        self.database, self.schema = database, schema
        self._access: Mapping[str, Any] = database.row(_ACCESS, {"schema": schema, "tables": [REVOCATIONS, CHANGES, ROWS]}) or {}

    @property
    def exists(self) -> bool:
        """Return whether there is a record already."""
        return bool(self._access["present"]) and int(self._access["tables"]) == 3

    def require_writable(self) -> None:
        """Refuse where the role can neither write the record nor make it. Raises DatabaseError with the GRANT that is needed."""
        access, role = self._access, self.database.user
        if self.exists and access["may_use"] and access["writable"] == 3:
            return
        if self.exists:
            remedy = f"give {role} USAGE on that schema, and SELECT, INSERT and UPDATE on its tables."
        elif access["present"] and not (access["may_use"] and access["may_create"]):
            remedy = f"give {role} USAGE and CREATE on that schema."
        elif not access["present"] and not access["may_create_schema"]:
            remedy = f"make that schema, with {role} as its owner."
        else:
            return
        message = (
            f"the role {role} cannot keep the record of a revocation in schema {self.schema}, without which it could not be taken back"
        )
        raise DatabaseError(message, object_name=self.schema, sqlstate="42501", hint=f"Once, as an administrator: {remedy}")

    def create(self) -> None:
        """Make the schema and its tables where they are not there; nobody but their owner may read what they keep."""
        if self.exists:
            return
        with self.database.transaction():
            # Two runs that make it at the same moment would trip over each other in the catalogue.
            self.database.value("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (int.from_bytes(self._digest(self.schema)[:7], "big"),))
            if not self._access["present"]:
                self.database.execute(self._sql("CREATE SCHEMA IF NOT EXISTS {schema}"))
            for statement in _TABLES:
                self.database.execute(self._sql(statement))
            self._shut()
        self._access = {**self._access, "present": True, "tables": 3, "writable": 3, "may_use": True}

    def _shut(self) -> None:
        """Take away what default privileges have given to others on the new tables: deleted rows stand there as they were."""
        sql, tables = self.database.sql, [REVOCATIONS, CHANGES, ROWS]
        names = sql.SQL(", ").join(self.table(name) for name in tables)
        for row in self.database.rows(_GRANTEES, {"schema": self.schema, "tables": tables}):
            whom = sql.Identifier(row["rolname"]) if row["is_role"] else sql.SQL("PUBLIC")
            self.database.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(names, whom))

    def table(self, name: str) -> Any:
        """Return the identifier of one of its tables."""
        return self.database.sql.Identifier(self.schema, name)

    def find(self, revocation_id: str) -> Record | None:
        """Return the revocation with that id, None where there is none."""
        if not self.exists:
            return None
        row = self.database.row(
            self._sql(
                "SELECT (pg_catalog.round(extract(epoch FROM mark)::numeric * 1000000))::bigint AS mark, selection_digest, caches_pending,"
                " reinstated_at IS NOT NULL AS reinstated, began_at::text AS began_at, reason"
                " FROM {schema}.revocations WHERE revocation_id = %s"
            ),
            (revocation_id,),
        )
        return Record(revocation_id=revocation_id, **{**row, "mark": Instant(int(row["mark"]))}) if row else None

    def begin(self, record: Mapping[str, Any], selection: Mapping[str, Any], digest: str) -> None:
        """Write the first row of a revocation; one that is there already is gone on with."""
        self.database.execute(
            self._sql(
                "INSERT INTO {schema}.revocations AS r (revocation_id, began_at, mark, role_name, requested_by, reason, selection,"
                " selection_digest, caches_pending) VALUES (%(revocation_id)s, pg_catalog.now(), %(mark)s::timestamptz, current_user,"
                " %(requested_by)s, %(reason)s, %(selection)s::jsonb, %(digest)s, %(caches_pending)s)"
                " ON CONFLICT (revocation_id) DO UPDATE SET ended_at = NULL, caches_pending = r.caches_pending OR excluded.caches_pending"
            ),
            {**record, "selection": json.dumps(selection), "digest": digest},
        )

    def end(self, revocation_id: str) -> None:
        """Note that a revocation has come to its end."""
        self.database.execute(
            self._sql("UPDATE {schema}.revocations SET ended_at = pg_catalog.now() WHERE revocation_id = %s"), (revocation_id,)
        )

    def caches_done(self, revocation_ids: Sequence[str]) -> None:
        """Note that the cached sessions of these revocations are gone."""
        if self.exists:
            statement = "UPDATE {schema}.revocations SET caches_pending = false WHERE caches_pending AND revocation_id = ANY (%s)"
            self.database.execute(self._sql(statement), (list(revocation_ids),))

    def count(self, change: Change, rows: int, revocation_id: str) -> None:
        """Add `rows` to what a revocation has done to one column of one table; in the transaction that did it."""
        self.database.execute(
            self._sql(
                "INSERT INTO {schema}.changes AS c (revocation_id, store, table_name, change, column_name, mark, key_columns, rows_changed)"
                " VALUES (%(revocation_id)s, %(store)s, %(table)s, %(change)s, %(column)s, %(mark)s, %(keys)s, %(rows)s)"
                " ON CONFLICT (revocation_id, store, table_name, change, column_name)"
                " DO UPDATE SET rows_changed = c.rows_changed + excluded.rows_changed"
            ),
            {**change.as_parameters(), "revocation_id": revocation_id, "rows": rows},
        )

    def change_id(self, change: Change, revocation_id: str) -> int:
        """Return the number under which changed rows are kept, made if need be; in the transaction that will change them."""
        self.count(change, 0, revocation_id)
        return int(
            self.database.value(
                self._sql(
                    "SELECT change_id FROM {schema}.changes WHERE revocation_id = %(revocation_id)s AND store = %(store)s"
                    " AND table_name = %(table)s AND change = %(change)s AND column_name = %(column)s"
                ),
                {**change.as_parameters(), "revocation_id": revocation_id},
            )
        )

    def foresee(self, changes: Sequence[Change], revocation_id: str) -> None:
        """Number the changes that a revocation may make, in their order, which is reversed when it is taken back.

        A later pass may find rows of a kind that the first one found none of.
        """
        with self.database.transaction():
            for change in changes:
                self.count(change, 0, revocation_id)

    def changes(self, revocation_id: str) -> list[dict[str, Any]]:
        """Return what a revocation has changed, the last first."""
        return self.database.rows(
            self._sql("SELECT * FROM {schema}.changes WHERE revocation_id = %s AND rows_changed > 0 ORDER BY change_id DESC"),
            (revocation_id,),
        )

    def reinstated(self, revocation_id: str, requested_by: str | None, reason: str) -> None:
        """Note that a revocation has been taken back; in the transaction that does it."""
        self.database.execute(
            self._sql(
                "UPDATE {schema}.revocations SET reinstated_at = pg_catalog.now(), reinstated_role = current_user, reinstated_by = %s,"
                " reinstated_reason = %s, caches_pending = false WHERE revocation_id = %s"
            ),
            (requested_by, reason, revocation_id),
        )

    def later(self, record: Record) -> list[str]:
        """Return the ids of revocations that began after `record` and still stand, the first twenty."""
        rows = self.database.rows(
            self._sql(
                "SELECT r.revocation_id FROM {schema}.revocations r JOIN {schema}.revocations this ON this.revocation_id = %s"
                " WHERE r.began_at > this.began_at AND r.reinstated_at IS NULL ORDER BY r.began_at LIMIT 20"
            ),
            (record.revocation_id,),
        )
        return [row["revocation_id"] for row in rows]

    def unfinished(self, revocation_id: str) -> list[dict[str, Any]]:
        """Return other revocations whose cached sessions may still be there: id, and whether it selected all."""
        if not self.exists:
            return []
        return self.database.rows(
            self._sql(
                "SELECT revocation_id, coalesce((selection ->> 'all')::boolean, false) AS everything FROM {schema}.revocations"
                " WHERE caches_pending AND revocation_id <> %s ORDER BY began_at LIMIT 100"
            ),
            (revocation_id,),
        )

    def _sql(self, text: str) -> Any:
        return self.database.sql.SQL(text).format(schema=self.database.sql.Identifier(self.schema))

    @staticmethod
    def _digest(text: str) -> bytes:
        return hashlib.sha256(f"pgops.runbook/journal/{text}".encode()).digest()


@dataclass(frozen=True)
class Change:
    """One kind of change to one column of one table. `mark`: the time of revocation, as the column has it, that marks the rows.

    Without a mark every row is kept, by the values of `key_columns`.
    """

    store: str
    table: str
    change: str
    column: str
    mark: str | None
    key_columns: tuple[str, ...]

    def as_parameters(self) -> dict[str, Any]:
        """Return the parameters of the journal's statements."""
        names = ("store", "table", "change", "column", "mark")
        return {**{name: getattr(self, name) for name in names}, "keys": list(self.key_columns)}


def digest(selection: Any, stores: Sequence[str]) -> str:
    """Return what tells one selection from another, with all its values and the names of its stores."""
    text = json.dumps(
        [sorted(stores), selection.lists, selection.claim_pattern, selection.all, str(selection.issued_from), str(selection.issued_to)],
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def require_same(record: Record, wanted: str) -> None:
    """Refuse to go on with a revocation under another selection, or one that was taken back. Raises InvalidValue."""
    if record.reinstated:
        raise InvalidValue(
            f"revocation_id: {record.revocation_id!r} has been taken back; leave the id out, and a new one is made",
            object_name="revocation_id",
        )
    if record.selection_digest != wanted:
        raise InvalidValue(
            f"revocation_id: {record.revocation_id!r} began at {record.began_at} with another selection: it cannot go on with this one",
            object_name="revocation_id",
            hint="Leave the id out: a new one is made.",
        )
