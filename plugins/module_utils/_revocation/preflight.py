# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would end a run half way, found before its first change: privileges, columns that nobody fills, rows that a deletion takes along."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.deny import Denial
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import CLEARED, DELETED, DENIED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import Target
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import DenyList

_NEEDED = {DENIED: ("INSERT",), DELETED: ("DELETE", "UPDATE")}  # UPDATE is needed to lock the rows that go
# Foreign keys that change or remove rows of other tables when a row goes.
_CASCADES = """
SELECT c.conname, c.conrelid::bigint AS child,
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) AS columns,
    c.conrelid::regclass::text AS child_name, c.confdeltype,
    c.confrelid::regclass::text AS parent
FROM pg_catalog.pg_constraint c
WHERE c.contype = 'f' AND c.confrelid = ANY (%s::oid[]) AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0
"""


# Columns that an insertion has to name. What a trigger puts in before cannot be known.
_UNFILLED = """
SELECT a.attname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
    AND t.typdefault IS NULL AND NOT a.attname = ANY (%s)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 7 = 7
    )
ORDER BY a.attnum
"""


def require_temporary_tables(database: Any) -> None:
    """Refuse a role that may not make temporary tables, in which the rows of a pass are set aside. Raises DatabaseError."""
    if not database.value("SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')"):
        raise DatabaseError(
            f"the role may not make temporary tables in database {database.name}, in which the rows of a pass are set aside",
            object_name=database.name,
            sqlstate="42501",
            hint=f"Give {database.user} TEMPORARY on the database.",
        )


def require_possible(database: Any, looks: Sequence[Look]) -> None:
    """Refuse what the role may not do, deny lists that no row can be put in, and deletions that take undeclared rows along.

    Raises DatabaseError and InvalidValue.
    """
    targets = [stage.target for look in looks for stage in look.stages if stage.rows and stage.target.act]
    for target in targets:
        _require_privileges(target.relation, _NEEDED.get(target.change, ("UPDATE",)))
        if isinstance(target.act, Denial):
            _require_filled(database, target.act.deny)
    for look in looks:
        if look.store.deny and look.tokens.rows and _ends_too_early(database, look):
            _require_privileges(look.store.deny.relation, ("UPDATE",))
    _require_no_cascade(database, looks, targets)


def _ends_too_early(database: Any, look: Look) -> bool:
    """Return whether a deny row that is there already has to be made to last; asked only where it would matter."""
    deny, denied = look.store.deny, look.acceptance.denied
    if deny is None or deny.expires_at is None or (deny.relation.itself and "UPDATE" in deny.relation.itself.privileges):
        return False
    sql = database.sql
    short = sql.SQL("{} AND NOT {}").format(denied(for_its_whole_life=False), denied(for_its_whole_life=True))
    return bool(database.value(look.found.select(sql, sql.SQL("pg_catalog.count(*)"), look.acceptance.alive(), short)))


def _require_filled(database: Any, deny: DenyList) -> None:
    written = [deny.id, *(time.column for time in (deny.revoked_at, deny.expires_at) if time), *([deny.reason] if deny.reason else [])]
    unfilled = [row["attname"] for row in database.rows(_UNFILLED, (deny.relation.oid, [column.name for column in written]))]
    if unfilled:
        raise InvalidValue(
            f"{deny.relation.name}: no row can be put into it, because {', '.join(unfilled)} must not be NULL, has no default"
            " and is not in the description of the deny list",
            object_name=str(deny.relation.name),
            hint="Give it a default, or say under revoke what it holds: revoked_at, expires_at or reason.",
        )


def _require_privileges(relation: Relation, needed: Sequence[str]) -> None:
    lacking = [one for one in needed if relation.itself is None or one not in relation.itself.privileges]
    if lacking:
        hint = f"Give it {', '.join(lacking)} there, and USAGE on the schema."
        message = f"the role may not {' or '.join(lacking)} {relation.name}"
        raise DatabaseError(message, object_name=str(relation.name), sqlstate="42501", hint=hint)


def _require_no_cascade(database: Any, looks: Sequence[Look], targets: list[Target]) -> None:
    deleting: dict[int, Relation] = {
        target.relation.oid: target.relation for target in targets if target.change == DELETED and target.relation.oid
    }
    if not deleting:
        return
    _require_no_children(deleting)
    everything = [stage.target for look in looks for stage in look.stages]
    oids = (
        "{"
        + ",".join(str(leaf.oid) for relation in deleting.values() for leaf in relation.leaves)
        + ","
        + ",".join(map(str, deleting))
        + "}"
    )
    for row in database.rows(_CASCADES, (oids,)):
        if not any(target.relation.oid == row["child"] and _lets_go(target, row["columns"]) for target in everything):
            raise InvalidValue(
                f"a deletion from {row['parent']} would change rows of {row['child_name']} by the foreign key {row['conname']},"
                " and they could not be brought back",
                object_name=row["child_name"],
                hint=f"Declare {row['child_name']} under dependents of the store, before what it refers to, to be deleted or cleared.",
            )


def _lets_go(target: Target, columns: Sequence[str]) -> bool:
    """Return whether a target takes away rows that refer by these columns, or their references: a mark would go with the row."""
    if target.change == CLEARED:
        return target.column in columns
    return target.change == DELETED and isinstance(target.act, RowChange) and target.act.key.name in columns


def _require_no_children(deleting: Mapping[int, Relation]) -> None:
    for relation in deleting.values():
        if relation.kind != "p" and relation.descendants:
            raise InvalidValue(
                f"{relation.name} has children by inheritance: what only they hold of a deleted row could not be brought back",
                object_name=str(relation.name),
                hint="Describe each child as a table of its own.",
            )
