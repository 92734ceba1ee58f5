# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a database holds what the manifest of a backup says, measured and not believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, Mapping, Optional

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference, compare, not_compared
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured, measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.objects import Objects
from ansible_collections.pgops.runbook.plugins.module_utils._restore.needs import read_objects

Tick = Optional[Callable[[], None]]

_OWNERS = ("owners",)
_LARGE_OBJECTS = "large object"
_NOT_POPULATED = "not populated"
# Where other roles own the objects, other roles have what owners have.
_PRIVILEGES = ("grants", "table_grants", "default_privileges")


@dataclass(frozen=True)
class Compared:
    """What a comparison found: how many tables and rows there are, what differs, and what was not compared and why.

    `unseen` is what of it the backup does tell and the database did not show; `whole` whether the backup tells of rows and definitions.
    """

    tables: int
    rows: int
    differences: List[Difference]
    not_compared: List[Dict[str, str]]
    unseen: List[Dict[str, str]]
    whole: bool

    @property
    def same(self) -> bool:
        """Whether the database is known to hold what the backup holds: all was looked at, and nothing differs."""
        return self.whole and not self.differences and not self.unseen


def left_out_kinds(owners: bool, privileges: bool) -> List[str]:
    """Return the kinds of objects that cannot be as they were when owners or privileges are not restored."""
    return [*([] if owners else _OWNERS), *([] if owners and privileges else _PRIVILEGES)]


def compare_restored(
    session: Any,
    backup: Path,
    manifest: Mapping[str, Any],
    *,
    leave_out: Collection[str] = (),
    rows: bool = True,
    workers: int = 2,
    tick: Tick = None,
) -> Compared:
    """Measure the database of `session` in the scope of a backup and compare it with the manifest; without `rows` only its structure.

    Raises DatabaseError.
    """
    expected = Measured.from_manifest(manifest, read_objects(backup))
    found = measure(session, expected.scope.restored(), rows=rows and expected.tables is not None, workers=workers, tick=tick)
    if not expected.scope.with_rows:
        expected, found = (replace(side, objects=_without_content(side.objects)) for side in (expected, found))
    major = int(manifest["versions"]["server_version_num"]) // 10000
    same = {"same_major": major == session.server_version // 10000, "leave_out": leave_out}
    left = not_compared(expected, found, **same)
    known = not_compared(expected, expected, **same)
    return Compared(
        tables=len(found.tables or ()),
        rows=sum(table.rows for table in found.tables or ()),
        differences=compare(expected, found, **same),
        not_compared=left,
        unseen=[one for one in left if one not in known],
        whole=expected.tables is not None and expected.objects is not None,
    )


def _without_content(objects: Objects | None) -> Objects | None:
    """Return the structure less what a dump without rows does not bring: large objects, and the rows of materialized views."""
    if objects is None:
        return None
    kept = {kind: {name: told for name, told in found.items() if not name.startswith(_LARGE_OBJECTS)} for kind, found in objects.items()}
    views = {name: told.replace(_NOT_POPULATED, "").strip(", ") for name, told in kept.get("materialized_views", {}).items()}
    return {**kept, **({"materialized_views": views} if views else {})}
