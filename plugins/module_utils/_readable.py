# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relations that the role may read whole: a row that is hidden would be taken for one that is not there."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation


def require_readable(relation: Relation) -> None:
    """Refuse a relation that the role may not read whole by its own name. Raises DatabaseError with the remedy."""
    for part in (*relation.leaves, *_itself(relation)):
        _require_unhidden(part)
    for part in _itself(relation):
        _require_select(part)


def require_readable_leaves(relation: Relation) -> None:
    """Refuse a relation of which the role may not read every partition and child by its own name. Raises DatabaseError with the remedy."""
    for part in (*relation.leaves, *_itself(relation)):
        _require_select(part)
        _require_unhidden(part)


def _itself(relation: Relation) -> list[Leaf]:
    return [relation.itself] if relation.itself else []


def _require_select(part: Leaf) -> None:
    if "SELECT" not in part.privileges:
        hint = "Give it SELECT there, and USAGE on the schema."
        raise DatabaseError(f"the role may not SELECT {part.name}", object_name=str(part.name), sqlstate="42501", hint=hint)


def _require_unhidden(part: Leaf) -> None:
    if part.hides_rows:
        hint = "Use its owner (while row security is not forced) or a role with BYPASSRLS."
        message = f"row-level security hides rows of {part.name} from this role"
        raise DatabaseError(message, object_name=str(part.name), sqlstate="42501", hint=hint)
