# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would end a run half way, found before its first change: privileges, and rows that a deletion would take along unseen."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import DELETED, DENIED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import Target

_NEEDED = {DENIED: ("INSERT",), DELETED: ("DELETE", "UPDATE")}  # UPDATE is needed to lock the rows that go
# Foreign keys that change or remove rows of other tables when a row goes.
_CASCADES = """
SELECT c.conname, c.conrelid::bigint AS child, c.conrelid::regclass::text AS child_name, c.confdeltype,
    c.confrelid::regclass::text AS parent
FROM pg_catalog.pg_constraint c
WHERE c.contype = 'f' AND c.confrelid = ANY (%s::oid[]) AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0
"""


def require_possible(database: Any, looks: Sequence[Look]) -> None:
    """Refuse what the role may not do and deletions that take undeclared rows along. Raises DatabaseError and InvalidValue."""
    targets = [stage.target for look in looks for stage in look.stages if stage.rows and stage.target.act]
    for target in targets:
        _require_privileges(target)
    _require_no_cascade(database, looks, targets)


def _require_privileges(target: Target) -> None:
    relation = target.relation
    needed = _NEEDED.get(target.change, ("UPDATE",))
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
    handled = {target.relation.oid for look in looks for target in (stage.target for stage in look.stages)}
    oids = (
        "{"
        + ",".join(str(leaf.oid) for relation in deleting.values() for leaf in relation.leaves)
        + ","
        + ",".join(map(str, deleting))
        + "}"
    )
    for row in database.rows(_CASCADES, (oids,)):
        if row["child"] not in handled:
            raise InvalidValue(
                f"a deletion from {row['parent']} would change rows of {row['child_name']} by the foreign key {row['conname']},"
                " and they could not be brought back",
                object_name=row["child_name"],
                hint=f"Declare {row['child_name']} under dependents of the store, before what it refers to.",
            )
