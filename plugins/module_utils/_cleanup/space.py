# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The space that tables take, and giving back what rows that went leave behind."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import vacuum
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.pace import Pace
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import DROP
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import Progress
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation

_LOCK_TIMEOUT = "55P03"
# A partition that somebody dropped meanwhile has no size any more.
_SIZES = (
    "SELECT c.oid::bigint AS oid, pg_catalog.pg_total_relation_size(c.oid) AS bytes"
    " FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(oids)s::oid[])"
)


def sizes(database: Any, relations: Iterable[Relation]) -> dict[int, int]:
    """Return the bytes of each leaf, by its oid, with indexes and TOAST; none where one is locked, which is no reason to fail.

    Raises DatabaseError.
    """
    oids = sorted({leaf.oid for relation in relations for leaf in relation.leaves})
    try:
        rows = database.rows(_SIZES, {"oids": oids})
    except DatabaseError as error:
        if error.sqlstate != _LOCK_TIMEOUT:
            raise
        return {}
    return {int(row["oid"]): int(row["bytes"]) for row in rows if row["bytes"] is not None}


def give_back(database: Any, progress: Sequence[Progress], before: Mapping[int, int], options: Options, pace: Pace) -> list[str]:
    """Vacuum the leaves that lost much, and note with the rules what that freed; return what kept it from being done. Raises DatabaseError.

    What a leaf lost is noted with the first rule that took something from it.
    """
    dropped = {oid for run in progress for oid in run.dropped}
    touched = {
        leaf.oid: leaf
        for run in _batched(progress)
        for leaf in run.planned.target.relation.leaves
        if run.done_by_leaf.get(leaf.oid) and leaf.oid not in dropped
    }
    found = {oid: _vacuum(database, leaf, progress, options, pace) for oid, leaf in touched.items()}
    done = {oid: outcome for oid, outcome in found.items() if outcome}
    after = sizes(database, [run.planned.target.relation for run in _batched(progress)]) if touched else {}
    freed = {oid: max(0, before[oid] - after[oid]) for oid in touched if oid in before and oid in after}
    for run in _batched(progress):
        mine = [oid for oid, rows in run.done_by_leaf.items() if rows]
        run.vacuumed = [done.pop(oid).as_result() for oid in mine if oid in done]
        run.bytes_freed = sum(freed.pop(oid, 0) for oid in mine) if all(oid in before and oid in after for oid in mine) else None
    return [warning for outcome in found.values() if outcome for warning in _warnings(outcome)]


def _batched(progress: Sequence[Progress]) -> list[Progress]:
    return [run for run in progress if run.planned.target.action != DROP]


def _vacuum(database: Any, leaf: Leaf, progress: Sequence[Progress], options: Options, pace: Pace) -> vacuum.Vacuum | None:
    gone = sum(run.done_by_leaf.get(leaf.oid, 0) for run in progress)
    there = max(run.planned.rows_before.get(leaf.oid, 0) for run in progress)
    if options.vacuum == "never" or (options.vacuum == "auto" and not vacuum.needed(gone, there)):
        return None
    if not pace.ready(database):
        return vacuum.Vacuum(leaf.name, False, why=f"the run had to end before its vacuum ({pace.stopped}): autovacuum will do it")
    return vacuum.vacuum(database, leaf, truncate=options.vacuum_truncate, seconds=pace.seconds_left())


def _warnings(outcome: vacuum.Vacuum) -> list[str]:
    found = []
    if outcome.done is not True or not outcome.analyzed:
        found.append(f"{outcome.table}: {outcome.why or 'whether it was vacuumed is not known'}")
    if outcome.held_by and outcome.dead_rows:
        holders = ", ".join(f"{holder.kind} {holder.name}{f' (pid {holder.pid})' if holder.pid else ''}" for holder in outcome.held_by)
        found.append(f"{outcome.table}: {outcome.dead_rows} dead rows had to stay, because they may still be seen by {holders}")
    return found
