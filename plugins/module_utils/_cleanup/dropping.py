# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that drop whole partitions: which of them go, and carrying that out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Iterable

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import counting, partition_marks, partitions, predicate
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_marks import ATTACHED, PENDING
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partition_outcome import count_rows
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import Due, Target
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import DONE, LOCKED, VETOED, Progress
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf


def require_possible(database: Any, target: Target) -> None:
    """Raise InvalidValue or DatabaseError where the rows of a target cannot go with whole partitions."""
    partitions.require_divided_by(database, target.relation, target.time, f"{target.path}.column")


def narrowed(database: Any, target: Target) -> Target:
    """Return the target with what is due, and with those leaves alone whose partitions go. Raises DatabaseError and InvalidValue.

    A partition goes when none of its rows has to stay. What an earlier run detached and could not drop goes as well, unless the
    rule keeps it for longer by now. What goes with an earlier rule of this run is left to that one.
    """
    earlier = [due for other in target.before for due in other.due if due.free]
    taken = {one.oid for due in earlier for one in (due.partition, due.leftover) if one}
    there = predicate.without(target, {oid for due in earlier for oid in due.rows})
    found = [one for one in partitions.due(database, target.relation, target.time, target.limit) if one.oid not in taken]
    due = [_due(database, there, one) for one in found if not one.leaves or _leaves(there, one)]
    left = [one for one in partitions.leftovers(database, target.relation) if one.state != ATTACHED and one.oid not in taken]
    due += [_left_over(database, target, one) for one in left if one.mark.column == target.time.column.name]
    going = {oid for one in due if one.free for oid in one.rows}
    leaves = tuple(leaf for leaf in target.relation.leaves if leaf.oid in going)
    return replace(target, relation=replace(target.relation, leaves=leaves), due=tuple(due))


def drop_partitions(database: Any, run: Progress, ready: Callable[[], bool]) -> str | None:
    """Drop what is due, one by one, and note it, or why it was left. Raises DatabaseError and InvalidValue.

    Returns why the rule ended; None where `ready` ended it.
    """
    target = run.planned.target
    left: dict[str, list[int]] = {partitions.LOCKED: [], partitions.KEPT: []}
    run.bytes_freed = 0
    _unmark_others(database, target)
    for due in target.due:
        if not due.free:
            continue
        if not ready():
            return None
        found = _drop(database, predicate.without(target, run.dropped), due)
        if found is not None and found.outcome == partitions.DROPPED:
            run.done += found.rows
            run.batches += 1
            run.bytes_freed += found.bytes
            run.partitions.append(str(found.name))
            run.dropped.update(due.rows)
            continue
        left[found.outcome if found is not None else partitions.LOCKED].append(sum(due.rows.values()))
        if found is not None:
            run.warnings.append(f"{target.path}: partition {found.name} was not dropped: {found.why}")
    locked, kept = left[partitions.LOCKED], left[partitions.KEPT]
    run.skipped_locked, run.left = sum(locked), sum(locked) + sum(kept)
    return VETOED if kept else LOCKED if locked else DONE


def kept_detached(target: Target) -> list[str]:
    """Return warnings of what an earlier run detached and the rule, which has changed since, does not let go: its rows are in no table."""
    return [_kept(target, due.leftover) for due in target.due if due.leftover is not None and not due.free]


def _kept(target: Target, leftover: partitions.Leftover) -> str:
    parent = leftover.mark.parent
    what = f"{target.path}: {leftover.name} was detached from {parent} by an earlier run and is kept for longer by now"
    first = "complete that with ALTER TABLE ... DETACH PARTITION ... FINALIZE, then " if leftover.state == PENDING else ""
    return f"{what}: {first}attach it again with ALTER TABLE ... ATTACH PARTITION ..., or drop it by hand"


def _left_over(database: Any, target: Target, leftover: partitions.Leftover) -> Due:
    past = partition_marks.is_past(database, leftover, target.time, target.limit)
    return Due(leftover.name, {leftover.oid: count_rows(database, leftover.name)} if past else {}, past, leftover=leftover)


def _unmark_others(database: Any, target: Target) -> None:
    """Take the mark of a run that was killed from partitions that are not to go any more."""
    going = {due.partition.oid for due in target.due if due.partition and due.free}
    for left in partitions.leftovers(database, target.relation):
        if left.state == ATTACHED and left.oid not in going:
            partitions.finish(database, target.relation, left)


def _due(database: Any, target: Target, partition: partitions.Partition) -> Due:
    leaves = _leaves(target, partition)
    rows = counting.count_by_leaf(database, target.relation, predicate.not_taken_before(database, target), leaves)
    stay = target.protected and _protected_rows(database, target, leaves, ahead=True)
    return Due(partition.name, rows, not stay, partition=partition)


def _drop(database: Any, target: Target, due: Due) -> partitions.Dropped | None:
    if due.leftover is not None:
        return partitions.finish(database, target.relation, due.leftover)
    partition = due.partition
    if partition is None:
        return None
    leaves = _leaves(target, partition)

    untaken = predicate.not_taken_before(database, target)

    def free() -> bool:
        # What an earlier rule has passed over, because it was locked, may have to be archived before it goes.
        waiting = untaken is not None and _rows(database, target, database.sql.SQL("NOT ({})").format(untaken), leaves)
        return not waiting and not (target.protected and _protected_rows(database, target, leaves, ahead=False))

    return partitions.drop(database, target.relation, partition, free=free if target.protected or untaken is not None else None)


def _leaves(target: Target, partition: partitions.Partition) -> list[Leaf]:
    return [leaf for leaf in target.relation.leaves if leaf.oid in partition.leaves]


def _protected_rows(database: Any, target: Target, leaves: Iterable[Leaf], *, ahead: bool) -> int:
    return _rows(database, target, predicate.protected(database, target, ahead=ahead), leaves)


def _rows(database: Any, target: Target, condition: Any, leaves: Iterable[Leaf]) -> int:
    return sum(counting.count_by_leaf(database, target.relation, condition, list(leaves)).values())
