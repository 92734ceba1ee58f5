# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a database holds, measured in one snapshot, and its form in a manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._content.coverage import coverage
from ansible_collections.pgops.runbook.plugins.module_utils._content.hashing import TableContent, measure_tables
from ansible_collections.pgops.runbook.plugins.module_utils._content.large_objects import LargeObjects, measure_large_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.objects import Objects, measure_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, Table, tables_in
from ansible_collections.pgops.runbook.plugins.module_utils._content.sequences import Sequence, measure_sequences
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring


@dataclass(frozen=True)
class Measured:
    """What was found. `objects` is None where the structure was not measured, `tables` where rows were not.

    `kinds` are the kinds of the measured tables by name; `unread` the tables that have rows which were not measured, and why.
    """

    scope: Scope
    tables: List[TableContent] | None
    sequences: List[Sequence] | None
    large_objects: LargeObjects | None
    objects: Objects | None
    coverage: Dict[str, Any] = field(default_factory=dict)
    kinds: Dict[str, str] = field(default_factory=dict)
    unread: Dict[str, str] = field(default_factory=dict)

    def as_manifest(self) -> Dict[str, Any]:
        """Return the parts of a manifest: all but `objects`, which have a file of their own."""
        return {
            "scope": self.scope.as_manifest(),
            "tables": None
            if self.tables is None
            else [{**asdict(table), "kind": self.kinds.get(table.name, "table")} for table in self.tables],
            "sequences": None if self.sequences is None else [asdict(sequence) for sequence in self.sequences],
            "large_objects": asdict(self.large_objects) if self.large_objects else None,
            "coverage": {**self.coverage, "unread": self.unread},
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], objects: Objects | None = None) -> Measured:
        """Return what a manifest says, with the structure from the file beside it."""
        tables, sequences, large = manifest.get("tables"), manifest.get("sequences"), manifest.get("large_objects")
        covered = dict(manifest.get("coverage") or {})
        return cls(
            Scope.from_manifest(manifest["scope"]),
            None if tables is None else [TableContent(row["name"], row["rows"], row["hash"], row["by"]) for row in tables],
            None if sequences is None else [Sequence(**row) for row in sequences],
            LargeObjects(**large) if large else None,
            objects,
            {key: covered[key] for key in ("included", "left_out") if key in covered},
            {row["name"]: row["kind"] for row in tables or ()},
            dict(covered.get("unread") or {}),
        )


def measure(
    database: Any,
    scope: Scope,
    *,
    rows: bool = True,
    structure: bool = True,
    by: str | None = None,
    workers: int = 2,
    tick: Callable[[], None] | None = None,
) -> Measured:
    """Measure `scope` in the transaction that is open, or in one of its own.

    Without `rows` no table is read, without `structure` no definition. For a restored database, `scope` is `expected.scope.restored()`:
    what is missing there is found by comparing, and no error. Raises MissingObject, InvalidValue, DatabaseError.
    """
    with measuring(database):
        tables = tables_in(database, scope)
        return Measured(
            scope=scope,
            tables=measure_tables(database, tables, by, workers, tick) if rows else None,
            sequences=measure_sequences(database, scope) if rows else None,
            large_objects=measure_large_objects(database, scope) if rows else None,
            objects=measure_objects(database, scope) if structure else None,
            coverage=coverage(database, scope, tables),
            kinds={table.name: table.kind for table in tables if table.measured},
            unread=_unread(tables),
        )


def _unread(tables: List[Table]) -> Dict[str, str]:
    return {table.name: table.why for table in tables if table.why}
