# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would end a run half way, found before its first change: privileges, columns that nobody fills, rows that a deletion takes along."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.cascades import Cascade, cascades
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.covered import takes_all
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.deny import Denial
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import DELETED, DENIED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import Target
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import DenyList

_NEEDED = {DENIED: ("INSERT",), DELETED: ("DELETE", "UPDATE")}  # UPDATE is needed to lock the rows that go
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
    deleting = {target.relation.oid: target.relation for target in targets if target.change == DELETED and target.relation.oid}
    _require_no_children(deleting)
    found: dict[Any, list[Cascade]] = {oid: cascades(database, relation) for oid, relation in deleting.items()}
    for look in looks:
        for place, stage in enumerate(look.stages):
            if not (stage.rows and stage.target.act and stage.target.change == DELETED):
                continue
            for cascade in found[stage.target.relation.oid]:
                if not takes_all(look.store, stage.target, [one.target for one in look.stages[:place]], cascade):
                    raise InvalidValue(
                        f"a deletion from {cascade.parent_name} would change rows of {cascade.child_name} by the foreign key"
                        f" {cascade.name}, and they could not be brought back",
                        object_name=cascade.child_name,
                        hint=f"Declare {cascade.child_name} under dependents of the store, before what it refers to, to be deleted or"
                        " cleared: all rows by that very column, without a where and not narrowed by another entry.",
                    )


def _require_no_children(deleting: Mapping[Any, Relation]) -> None:
    for relation in deleting.values():
        if relation.kind != "p" and relation.descendants:
            raise InvalidValue(
                f"{relation.name} has children by inheritance: what only they hold of a deleted row could not be brought back",
                object_name=str(relation.name),
                hint="Describe each child as a table of its own.",
            )
