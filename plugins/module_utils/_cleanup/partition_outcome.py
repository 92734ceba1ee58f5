# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a partition that was to go, in numbers taken before it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._lock_tries import holders
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

DROPPED, LOCKED, KEPT = "dropped", "locked", "kept"

_BYTES = """
WITH RECURSIVE part(oid) AS (
    SELECT %s::oid UNION ALL SELECT i.inhrelid FROM part p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
)
SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(p.oid::pg_catalog.regclass))::pg_catalog.int8 FROM part p
"""


@dataclass(frozen=True)
class Dropped:
    """What became of a partition: dropped with its `rows` and `bytes`, or (both 0) left, because it was locked or for the reason `why`."""

    name: RelationName
    outcome: str
    rows: int = 0
    bytes: int = 0
    why: str | None = None


def locked(database: Any, name: RelationName, *oids: int) -> Dropped:
    """Return the outcome of a partition that could not be locked, with who has a lock on any of `oids`."""
    return Dropped(name, LOCKED, why=holders(database, oids))


def count_rows(database: Any, name: RelationName) -> int:
    """Return how many rows a table has, with its parts."""
    return int(database.value(about(database, "SELECT pg_catalog.count(*) FROM {}", name)))


def measure(database: Any, oid: int) -> int:
    """Return the bytes of a table with its parts, indexes and TOAST."""
    return int(database.value(_BYTES, (oid,)))


def about(database: Any, text: str, *names: RelationName) -> Any:
    """Return a statement with the names of tables in it."""
    sql = database.sql
    return sql.SQL(text).format(*(name.identifier(sql) for name in names))
