# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup is of, and which tables pg_dump takes rows from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring
from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation

KINDS = ("full", "schemas", "tables", "schema_only", "data_only")

# Named relations with everything below them, and the sequences that belong to their columns.
_NAMED = """
WITH RECURSIVE named AS (
    SELECT c.oid, w.position
    FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::name[]), pg_catalog.unnest(%(names)s::name[]))
        WITH ORDINALITY AS w(schema, name, position)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), below AS (
    SELECT oid FROM named UNION SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
), owned AS (
    SELECT d.objid FROM pg_catalog.pg_depend d JOIN below b ON b.oid = d.refobjid JOIN pg_catalog.pg_class s ON s.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.deptype IN ('a', 'i') AND s.relkind = 'S'
)
SELECT (SELECT pg_catalog.array_agg(position::int) FROM named) AS found,
    (SELECT pg_catalog.array_agg(oid::bigint) FROM (SELECT oid FROM below UNION SELECT objid FROM owned) AS every) AS relations
"""
_SCHEMAS = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s::name[])"

# The relations of extensions come with CREATE EXTENSION; only what an extension says is configuration is dumped, under its condition.
_TABLES = """
WITH configuration AS (
    SELECT u.oid, u.condition FROM pg_catalog.pg_extension e, ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition))
        AS u(oid, condition)
)
SELECT c.oid::bigint AS oid, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name, n.nspname AS schema, c.relname, c.relkind,
    c.relpersistence = 'u' AS unlogged, c.relispartition AS partition, f.condition,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable,
    pg_catalog.row_security_active(c.oid) AS hides_rows
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN configuration f ON f.oid = c.oid
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_(catalog|toast|temp_|toast_temp_)'
    AND n.nspname <> 'information_schema'
    AND (%(schemas)s::name[] IS NULL OR n.nspname = ANY (%(schemas)s::name[]))
    AND (%(relations)s::bigint[] IS NULL OR c.oid IN (SELECT wanted::oid FROM pg_catalog.unnest(%(relations)s::bigint[]) AS wanted))
    AND (f.oid IS NOT NULL OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'))
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""


@dataclass(frozen=True)
class Scope:
    """What of a database is meant. `schemas` are names as the catalogue has them, `tables` as options write them.

    `strict`: what is named must exist.
    """

    kind: str = "full"
    schemas: Tuple[str, ...] = ()
    tables: Tuple[str, ...] = ()
    strict: bool = True

    @classmethod
    def from_manifest(cls, part: Mapping[str, Any]) -> Scope:
        """Return the scope that a manifest says."""
        return cls(part["kind"], tuple(part.get("schemas") or ()), tuple(part.get("tables") or ()))

    def as_manifest(self) -> Dict[str, Any]:
        """Return the scope as manifests say it."""
        return {"kind": self.kind, "schemas": list(self.schemas), "tables": list(self.tables)}

    def restored(self) -> Scope:
        """Return the same scope for a database that may lack what is named: comparing will tell."""
        return replace(self, strict=False)

    @property
    def whole(self) -> bool:
        """Whether it is the database as a whole: with extensions, large objects and all else that lies in no schema."""
        return not self.schemas and not self.tables

    @property
    def with_rows(self) -> bool:
        """Whether rows are part of it."""
        return self.kind != "schema_only"

    @property
    def with_definitions(self) -> bool:
        """Whether definitions are part of it."""
        return self.kind != "data_only"

    def relation_names(self) -> List[RelationName]:
        """Return the named tables. Raises InvalidValue."""
        return [parse_relation(text) for text in self.tables]


@dataclass(frozen=True)
class Table:
    """A table of the scope. `name` is `schema.relname`, quoted where SQL needs it.

    `kind` is table, partition, partitioned, unlogged, foreign or configuration (an extension's, whose rows under `condition` are
    dumped). `measured`: pg_dump takes its rows and the role may read them; where it is false and rows are there, `why` says what hinders.
    """

    oid: int
    name: str
    schema: str
    relname: str
    kind: str
    measured: bool
    why: str = ""
    condition: str = ""


@dataclass(frozen=True)
class Selected:
    """A scope in the catalogue's terms: None means every one."""

    schemas: Sequence[str] | None
    relations: Sequence[int] | None

    def parameters(self) -> Dict[str, Any]:
        """Return the parameters of statements."""
        return {"schemas": self.schemas, "relations": self.relations}


def select(database: Any, scope: Scope) -> Selected:
    """Return which schemas or relations `scope` means: named tables with all that is below them by partitioning or inheritance.

    Raises MissingObject where one does not exist, InvalidValue for a name that is none.
    """
    if scope.tables:
        names = scope.relation_names()
        row = database.row(_NAMED, {"schemas": [name.schema for name in names], "names": [name.name for name in names]})
        missing = [str(name) for number, name in enumerate(names, 1) if number not in (row["found"] or ())]
        if missing and scope.strict:
            raise MissingObject(f"table {missing[0]} does not exist in database {database.name}", object_name=missing[0])
        return Selected(None, row["relations"] or [])
    if scope.schemas:
        found = {row["nspname"] for row in database.rows(_SCHEMAS, (list(scope.schemas),))}
        missing = [name for name in scope.schemas if name not in found]
        if missing and scope.strict:
            raise MissingObject(f"schema {missing[0]!r} does not exist in database {database.name}", object_name=missing[0])
        return Selected(list(scope.schemas), None)
    return Selected(None, None)


def tables_in(database: Any, scope: Scope) -> List[Table]:
    """Return the tables of `scope` by name; the measured ones are those whose rows pg_dump writes (`TABLE DATA`).

    Raises MissingObject, InvalidValue, DatabaseError.
    """
    with measuring(database):
        selected = select(database, scope)
        return [_table(row, scope, database.in_recovery) for row in database.rows(_TABLES, selected.parameters())]


def _table(row: Mapping[str, Any], scope: Scope, in_recovery: bool) -> Table:
    kind = _kind(row)
    why = _why_not(row, kind, in_recovery)
    measured = scope.with_rows and kind != "partitioned" and not why
    return Table(row["oid"], row["name"], row["schema"], row["relname"], kind, measured, why, row["condition"] or "")


def _kind(row: Mapping[str, Any]) -> str:
    if row["condition"] is not None:
        return "configuration"
    if row["relkind"] != "r":
        return {"p": "partitioned", "f": "foreign"}[row["relkind"]]
    return "unlogged" if row["unlogged"] else "partition" if row["partition"] else "table"


def _why_not(row: Mapping[str, Any], kind: str, in_recovery: bool) -> str:
    if kind == "partitioned":
        return ""
    if kind == "foreign":
        return "a foreign table: its rows are on another server"
    if row["unlogged"] and in_recovery:
        return "an unlogged table: a standby does not have its rows"
    if not row["readable"]:
        return "the role may not SELECT it"
    if row["hides_rows"]:
        return "row-level security hides rows from the role"
    return ""
