# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a database holds what the manifest of a backup says, measured and not believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference, compare, not_compared
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured, measure_rows, measure_structure
from ansible_collections.pgops.runbook.plugins.module_utils._content.objects import Objects
from ansible_collections.pgops.runbook.plugins.module_utils._restore.needs import read_objects
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

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


class Comparison:
    """Compares a restored database with its backup, the structure first: rows are worth reading where that is right."""

    def __init__(self, session: Any, backup: Path, manifest: Mapping[str, Any], *, leave_out: Collection[str] = ()) -> None:
        self._session = session
        self._expected = Measured.from_manifest(manifest, read_objects(backup))
        major = int(manifest["versions"]["server_version_num"]) // 10000
        self._how = {"same_major": major == session.server_version // 10000, "leave_out": leave_out}
        self._found = Measured(self._expected.scope.restored(), None, None, None, None)

    def read_structure(self) -> None:
        """Measure the definitions. Raises DatabaseError."""
        self._found = measure_structure(self._session, self._found.scope)

    def read_rows(self, *, workers: int, tick: Tick) -> None:
        """Measure the rows that the manifest tells of. Raises DatabaseError."""
        if self._expected.tables is not None:
            self._found = self._found.with_rows(measure_rows(self._session, self._found.scope, workers=workers, tick=tick))

    def compared(self) -> Compared:
        """Return what is known by what was measured so far."""
        expected, found = self._expected, self._found
        if not expected.scope.with_rows:
            expected, found = (replace(side, objects=_without_content(side.objects)) for side in (expected, found))
        left = not_compared(expected, found, **self._how)
        known = not_compared(expected, expected, **self._how)
        return Compared(
            tables=len(found.tables or ()),
            rows=sum(table.rows for table in found.tables or ()),
            differences=compare(expected, found, **self._how),
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
