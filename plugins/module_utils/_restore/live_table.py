# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table as it is now, into which rows of a backup are to come, and which columns of it the backup has values for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import KINDS

_TABLE = """
SELECT c.oid::bigint AS oid, c.relkind AS kind, c.relispartition AS is_partition, c.reloftype <> 0 AS is_typed,
    c.relpersistence AS persistence,
    EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)) AS inherits,
    EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
        AND d.deptype = 'e') AS of_extension,
    row_security_active(c.oid) AS hides_rows,
    pg_has_role(c.relowner, 'USAGE') AS owned, has_schema_privilege(n.oid, 'CREATE') AS can_create,
    has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AS can_insert,
    pg_get_userbyid(c.relowner) AS owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null, a.atthasdef AS has_default,
    a.attgenerated <> '' AS generated, a.attidentity AS identity
FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Column:
    """A column: `identity` is `a` (always), `d` (by default) or empty; a `generated` one takes no values."""

    name: str
    type: str
    not_null: bool
    has_default: bool
    generated: bool
    identity: str


@dataclass(frozen=True)
class LiveTable:
    """A table and what of it matters before anything is done."""

    name: RelationName
    oid: int
    facts: Dict[str, Any]
    columns: Tuple[Column, ...]

    def filled(self, given: Sequence[str]) -> Tuple[str, ...]:
        """Return the columns that get their default, because the backup, which has values of the columns `given`, knows none of them.

        Raises Refused for a column of the backup that is not here, or takes no values any more, and for one here that needs a value.
        """
        here = {column.name: column for column in self.columns}
        gone = [name for name in given if name not in here]
        if gone:
            raise self._refused(
                f"it has no column {', '.join(gone)} any more, and the backup has values for it", "Add it, or restore mode=new."
            )
        computed = [name for name in given if here[name].generated]
        if computed:
            raise self._refused(f"its column {', '.join(computed)} is generated now, and the backup has values for it", "Restore mode=new.")
        added = [column for column in self.columns if column.name not in given and not column.generated]
        needy = [column.name for column in added if column.not_null and not column.has_default and not column.identity]
        if needy:
            hint = "Give it a default for as long as the restore takes, or restore mode=new."
            raise self._refused(f"its column {', '.join(needy)} is NOT NULL without a default, and the backup has no values for it", hint)
        return tuple(column.name for column in added)

    def require_plain(self) -> None:
        """Raise Refused unless it is an ordinary table, which stands alone."""
        if self.facts["kind"] != "r":
            hint = "Name its partitions' rows by how=missing_rows, or restore mode=new." if self.facts["kind"] == "p" else None
            raise self._refused(f"it is a {KINDS.get(self.facts['kind'], 'relation')}, not an ordinary table", hint)
        for key, what in _NOT_ALONE.items():
            if self.facts[key]:
                raise self._refused(what, "Restore mode=new, and take over what is needed.")
        self.require_unhidden()
        for key, what in _NOT_ALLOWED.items():
            if not self.facts[key]:
                raise self._refused(what.format(owner=self.facts["owner"]), "Log in as that owner, or as a superuser.")

    def require_rows(self) -> None:
        """Raise Refused unless rows can be inserted into it that a backup has of it."""
        if self.facts["kind"] != "r":
            hint = "Name its partitions." if self.facts["kind"] == "p" else None
            raise self._refused(f"it is a {KINDS.get(self.facts['kind'], 'relation')}, which has no rows of its own", hint)
        self.require_unhidden()
        if not self.facts["can_insert"]:
            raise self._refused("this role may not SELECT and INSERT", "Grant it both, or log in as its owner.")

    def require_unhidden(self) -> None:
        """Raise Refused where the role does not see every row."""
        if self.facts["hides_rows"]:
            raise self._refused("row-level security hides rows of it from this role", "Use its owner or a role with BYPASSRLS.")

    def _refused(self, why: str, hint: str | None) -> Refused:
        return Refused(f"table {self.name}: {why}", object_name=str(self.name), hint=hint)


_NOT_ALONE = {
    "is_partition": "it is a partition, which cannot be exchanged by renaming",
    "inherits": "it has part in inheritance, which cannot be put onto another table",
    "is_typed": "it is a table of a type",
    "of_extension": "it belongs to an extension",
}
_NOT_ALLOWED = {
    "owned": "its owner is {owner}, and only a member of that role can replace it",
    "can_create": "this role may not CREATE in its schema, where the new table is to grow",
}


def look_at(database: Any, name: RelationName) -> LiveTable:
    """Return the table `name`. Raises MissingObject."""
    row = database.row(_TABLE, (name.schema, name.name))
    if row is None:
        hint = "Restore into a new database with mode=new, or make the table first."
        raise MissingObject(f"table {name} does not exist in database {database.name}", object_name=str(name), hint=hint)
    columns: List[Column] = [Column(**column) for column in database.rows(_COLUMNS, (row["oid"],))]
    return LiveTable(name, int(row["oid"]), row, tuple(columns))
