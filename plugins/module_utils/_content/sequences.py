# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where every sequence stands. A sequence obeys no snapshot: it may be further than the tables of the same moment, never behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List

from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, select
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import letting_go, measuring

_TOGETHER = 200
_SEQUENCES = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name, n.nspname AS schema, c.relname, q.seqincrement AS increment,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_sequence_privilege(c.oid, 'SELECT') AS readable
FROM pg_catalog.pg_sequence q
JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND (%(schemas)s::name[] IS NULL OR n.nspname = ANY (%(schemas)s::name[]))
    AND (%(relations)s::bigint[] IS NULL OR c.oid IN (SELECT wanted::oid FROM pg_catalog.unnest(%(relations)s::bigint[]) AS wanted))
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
_ONE = "SELECT {number}::pg_catalog.int4 AS number, s.last_value, s.is_called FROM {sequence} AS s"


@dataclass(frozen=True)
class Sequence:
    """A sequence and its state; `last_value` and `is_called` are None where the role may not read it."""

    name: str
    last_value: int | None
    is_called: bool | None
    increment: int

    @property
    def next_value(self) -> int | None:
        """The number that it would give next, but for its bounds."""
        if self.last_value is None:
            return None
        return self.last_value + self.increment if self.is_called else self.last_value

    def behind(self, other: Sequence) -> bool:
        """Whether this one would give numbers again that `other` has given; False where either could not be read."""
        mine, others = self.next_value, other.next_value
        if mine is None or others is None:
            return False
        return mine < others if other.increment > 0 else mine > others


def measure_sequences(database: Any, scope: Scope) -> List[Sequence]:
    """Return the sequences of `scope` by name. Raises MissingObject, InvalidValue, DatabaseError."""
    if not scope.with_rows:
        return []
    with measuring(database):
        listed = database.rows(_SEQUENCES, select(database, scope).parameters())
        state: Dict[int, Any] = {}
        readable = [number for number, row in enumerate(listed) if row["readable"]]
        for start in range(0, len(readable), _TOGETHER):
            state.update(_state(database, {number: listed[number] for number in readable[start : start + _TOGETHER]}))
    none: Dict[str, Any] = {"last_value": None, "is_called": None}
    found = [(row, state.get(number, none)) for number, row in enumerate(listed)]
    return [Sequence(row["name"], at["last_value"], at["is_called"], row["increment"]) for row, at in found]


def _state(database: Any, batch: Dict[int, Any]) -> Dict[int, Any]:
    sql = database.sql
    parts = [
        sql.SQL(_ONE).format(number=sql.Literal(number), sequence=sql.Identifier(row["schema"], row["relname"]))
        for number, row in batch.items()
    ]
    with letting_go(database):
        return {row["number"]: row for row in database.rows(sql.SQL(" UNION ALL ").join(parts))}
