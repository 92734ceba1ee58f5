# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a database holds, measured in one snapshot, and its form in a manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._content.coverage import coverage
from ansible_collections.pgops.runbook.plugins.module_utils._content.hashing import TableContent, measure_tables
from ansible_collections.pgops.runbook.plugins.module_utils._content.large_objects import LargeObjects, measure_large_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.objects import Objects, measure_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, Table, tables_in
from ansible_collections.pgops.runbook.plugins.module_utils._content.sequences import Sequence, measure_sequences
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick


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

    def with_rows(self, found: Measured) -> Measured:
        """Return it with the rows that `found` has."""
        return replace(self, tables=found.tables, sequences=found.sequences, large_objects=found.large_objects)

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
    tables: List[Table] | None = None,
    sequences: List[Sequence] | None = None,
    tick: Tick | None = None,
) -> Measured:
    """Measure what a manifest says of `scope`, without `rows` no table, in the transaction that is open, or in one of its own.

    `tables` are what `tables_in` has returned in that transaction, where that was asked already. Sequences obey no snapshot: where pg_dump
    is at work already, `sequences` are those that were measured before. Raises MissingObject, InvalidValue, DatabaseError.
    """
    with measuring(database):
        listed = tables_in(database, scope) if tables is None else tables
        read = measure_rows(database, scope, tables=listed, sequences=sequences, tick=tick) if rows else None
        found = measure_structure(database, scope, tables=listed)
        found = found.with_rows(read) if read else found
        return replace(found, coverage=coverage(database, scope, listed))


def measure_structure(database: Any, scope: Scope, *, tables: List[Table] | None = None) -> Measured:
    """Measure the definitions in `scope`, in the transaction that is open, or in one of its own.

    For a restored database, `scope` is `expected.scope.restored()`: what is missing there is found by comparing, and no error. Raises
    MissingObject, InvalidValue, DatabaseError.
    """
    with measuring(database):
        listed = tables_in(database, scope) if tables is None else tables
        return replace(_nothing_of(scope, listed), objects=measure_objects(database, scope))


def measure_rows(
    database: Any,
    scope: Scope,
    *,
    tables: List[Table] | None = None,
    sequences: List[Sequence] | None = None,
    workers: int = 2,
    tick: Tick | None = None,
) -> Measured:
    """Measure what is in tables, sequences and large objects of `scope`, as `measure_structure` does with definitions."""
    with measuring(database):
        found = measure_sequences(database, scope) if sequences is None else sequences
        listed = tables_in(database, scope) if tables is None else tables
        return replace(
            _nothing_of(scope, listed),
            tables=measure_tables(database, listed, workers=workers, tick=tick),
            sequences=found,
            large_objects=measure_large_objects(database, scope),
        )


def _nothing_of(scope: Scope, tables: List[Table]) -> Measured:
    return Measured(
        scope,
        None,
        None,
        None,
        None,
        kinds={table.name: table.kind for table in tables if table.measured},
        unread={table.name: table.why for table in tables if table.why},
    )
