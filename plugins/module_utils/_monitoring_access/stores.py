# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the system: the columns that checks read, and no other."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Set

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import READABLE_KINDS, declared
from ansible_collections.pgops.runbook.plugins.module_utils._health.needs import columns_read, secret_columns, token_ids
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.draft import Compose, Draft, Piece
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.measure import COLUMN, SCHEMA, Thing
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up

# What of a row says least about it: a time, a flag, a number. A text is never taken only to count rows.
_COUNTABLE = (("D", ()), ("B", ()), ("N", ("int2", "int4", "int8")))
_SCHEMA_OIDS = "SELECT n.nspname::text AS schema, n.oid::int8 AS oid FROM pg_namespace n WHERE n.nspname = ANY (%(schemas)s::text[])"
_HIDING = """
SELECT c.oid::int8 AS oid FROM pg_class c JOIN pg_roles r ON r.oid = %(role)s::oid
WHERE c.oid = ANY (%(relations)s::oid[]) AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
    AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
"""
_IS_SECRET = "the system description says that its content never leaves the database"
_LEFT_OUT = "token_ids is false"


def ask(draft: Draft) -> None:
    """Want the columns that the checks read of the system's tables, and the use of the schemas that hold them."""
    system = draft.options.system or {}
    read, ids, secret = columns_read(system), token_ids(system), secret_columns(system)
    relations = look_up(draft.database, [*read, *(name for name in declared(system) if name not in read)]) if system else {}
    wanted: Dict[RelationName, List[str]] = {}
    for name, relation in relations.items():
        columns = sorted(read.get(name, ()))
        if not relation.exists or relation.kind not in READABLE_KINDS:
            if columns:
                why = f"it is a {relation.kind_name}" if relation.exists else "the table does not exist"
                draft.leave(f"SELECT ({', '.join(columns)})", str(name), why)
            continue
        withheld = _withheld(draft, columns, ids.get(name, set()), secret.get(name, set()))
        wanted[name] = [column for column in columns if column not in withheld]
        for column, reason in withheld.items():
            piece = _piece(draft, relation, [column])
            draft.leave(piece.what, piece.on, reason, draft.change(piece) if draft.options.present else None)
        for column in [column for column in wanted[name] if column not in (relation.columns or {})]:
            draft.leave(f"SELECT ({column})", str(name), "the column does not exist")
            wanted[name].remove(column)
        if not wanted[name] and draft.options.row_counts and relation.kind != "v":
            wanted[name] = _countable(draft, relation, secret.get(name, set()))
    _ask_schemas(draft, {name.schema for name, columns in wanted.items() if columns})
    for name, columns in wanted.items():
        draft.ask([Thing(COLUMN, relations[name].oid or 0, "SELECT", column) for column in columns], _composer(draft, relations[name]))
    if draft.options.present:
        _tell_hidden(draft, [relations[name] for name, columns in wanted.items() if columns])


def _withheld(draft: Draft, columns: Sequence[str], ids: Set[str], secret: Set[str]) -> Dict[str, str]:
    found = {column: _IS_SECRET for column in columns if column in secret}
    if not draft.options.token_ids:
        found.update({column: _LEFT_OUT for column in columns if column in ids})
    return found


def _countable(draft: Draft, relation: Relation, secret: Set[str]) -> List[str]:
    """Return the column by which rows may be counted, as a list: that of which the content says least."""
    columns = [column for column in (relation.columns or {}).values() if column.name not in secret]
    for category, bases in _COUNTABLE:
        for column in columns:
            if column.category == category and (not bases or column.base in bases):
                return [column.name]
    draft.leave(
        "SELECT on a column", str(relation.name), "it has no time, flag or number; only its estimated rows are known, after an ANALYZE"
    )
    return []


def _composer(draft: Draft, relation: Relation) -> Compose:
    return lambda some, _every: [_piece(draft, relation, [thing.column for thing in some])]


def _piece(draft: Draft, relation: Relation, columns: Sequence[str]) -> Piece:
    sql = draft.sql
    listed = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    privilege, target = sql.SQL("SELECT ({})").format(listed), sql.SQL("TABLE {}").format(relation.name.identifier(sql))
    return Piece(f"SELECT ({', '.join(columns)})", str(relation.name), privilege, target)


def _ask_schemas(draft: Draft, schemas: Set[str]) -> None:
    for row in draft.database.rows(_SCHEMA_OIDS, {"schemas": sorted(schemas)}):
        target: Any = draft.sql.SQL("SCHEMA {}").format(draft.sql.Identifier(row["schema"]))
        draft.ask_one(Thing(SCHEMA, row["oid"], "USAGE"), f"schema {row['schema']}", target)


def _tell_hidden(draft: Draft, relations: Sequence[Relation]) -> None:
    """Tell which tables hide rows from the role: a check that counts the others would tell an untruth, and so tells nothing."""
    parts = {relation.name: [part.oid for part in (relation.itself, *relation.leaves) if part] for relation in relations}
    asked = [oid for oids in parts.values() for oid in oids]
    hiding = {row["oid"] for row in draft.database.rows(_HIDING, {"relations": asked, "role": draft.role.oid})}
    statement = draft.sql.SQL("ALTER ROLE {} BYPASSRLS").format(draft.grantee)
    reason = "row-level security hides rows from the role; a superuser may choose to let it see all rows of what it may read"
    for name, oids in parts.items():
        if hiding.intersection(oids):
            draft.leave("every row", str(name), reason, statement)
