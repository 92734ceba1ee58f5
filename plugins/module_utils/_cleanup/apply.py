# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out, in batches with a commit each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import predicate
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.plan import Plan, PlannedRule
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

DONE, LOCKED, VETOED, MAX_RUNTIME = "done", "locked", "vetoed", "max_runtime"
# Rows that were updated in the moment of a batch can be taken by the next one, so that the last rows get several chances.
_CHANCES = 3
# Rows that a trigger vetoes come back every time; more of them than this many batches hold end the search behind them.
# So do rows that a trigger writes anew: this many batches more than twice what was planned are enough.
_VETOED_BATCHES = 10
_NAME_BYTES = 63


@dataclass
class Progress:
    """How far one rule came. `stopped` is None while it has not ended; `left` are the planned rows that are still there.

    `search_path` is where its triggers look for what they name without a schema.
    """

    planned: PlannedRule
    search_path: tuple[str, ...]
    removed: int = 0
    batches: int = 0
    skipped_locked: int = 0
    left: int | None = None
    seconds: float = 0.0
    stopped: str | None = None
    removed_by_leaf: dict[int, int] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        """Return the rows that should have gone and are still there: counted where the rule came to its end, else by subtraction."""
        return max(0, self.planned.to_remove - self.removed) if self.left is None else self.left


def apply_plan(database: Any, plan: Plan, options: Options, progress: list[Progress], started: float) -> None:
    """Remove what `plan` says and note it in `progress`, rule by rule, also when an error ends the run.

    `started` is the monotonic time (seconds) from which max_runtime counts. Raises DatabaseError; what was removed before stays removed.
    """
    deadline = None if options.max_runtime is None else started + options.max_runtime
    schemas = list(dict.fromkeys(rule.target.relation.name.schema for rule in plan.rules))
    for rule in plan.rules:
        run = Progress(rule, ("pg_catalog", *dict.fromkeys([rule.target.relation.name.schema, *schemas, "public"])))
        progress.append(run)
        began = time.monotonic()
        try:
            _set_search_path(database, run)
            _apply_rule(database, run, options, lambda: deadline is not None and time.monotonic() >= deadline)
        finally:
            run.seconds = time.monotonic() - began
    database.set_application_name(options.application_name)


def _set_search_path(database: Any, run: Progress) -> None:
    """Let triggers find what they name without a schema: first beside the table, then beside those of the other rules, then in public.

    Where they find it must not depend on the role. The statements of a batch name the schema of everything that they use.
    """
    sql = database.sql
    names = sql.SQL(", ").join(sql.Identifier(schema) for schema in (*run.search_path, "pg_temp"))
    database.execute(sql.SQL("SET search_path TO {}").format(names))


def _apply_rule(database: Any, run: Progress, options: Options, late: Callable[[], bool]) -> None:
    target = run.planned.target
    condition = predicate.removable(database, target, ahead=False)
    leaves = [leaf for leaf in target.relation.leaves if run.planned.removable[leaf.oid]]
    vetoed, seen_all = 0, True
    # Rows that were locked the first time may be free after the rest; those that are not by then are left to the next run.
    for _pass in ("first", "last"):
        run.left = None
        ends = [_empty(database, run, leaf, options, late) for leaf in leaves]
        vetoed, seen_all = sum(refused for refused, _all in ends), all(end for _refused, end in ends)
        if late() and run.remaining:
            run.stopped = MAX_RUNTIME
            return
        run.left = sum(predicate.count_by_leaf(database, target.relation, condition, leaves).values())
        if not run.left:
            break
    run.skipped_locked = max(0, (run.left or 0) - vetoed) if seen_all else 0
    run.stopped = DONE if not run.left else VETOED if vetoed or not seen_all else LOCKED


def _empty(database: Any, run: Progress, leaf: Leaf, options: Options, late: Callable[[], bool]) -> tuple[int, bool]:
    """Remove the rows of one leaf batch by batch; return how many refused to go although free, and whether all were tried."""
    refused, chances = 0, _CHANCES
    bound = _VETOED_BATCHES * options.batch_rows
    most = 2 * run.planned.removable[leaf.oid] + bound
    while not late():
        _show(database, run, options)
        # What refused comes back in every batch, so that there is room for it beside the rows that can go.
        limit = options.batch_rows + refused
        batch = database.row(predicate.delete_statement(database, run.planned.target, leaf, limit))
        gone, refused = batch["gone"], batch["picked"] - batch["gone"]
        run.removed += gone
        run.removed_by_leaf[leaf.oid] = run.removed_by_leaf.get(leaf.oid, 0) + gone
        run.batches += bool(gone)
        if batch["picked"] < limit:
            chances = _CHANCES if gone else chances - 1
            if not refused or not chances:
                return refused, True
        elif refused > bound or run.removed_by_leaf[leaf.oid] > most:
            break
    return refused, False


def _show(database: Any, run: Progress, options: Options) -> None:
    """Show a DBA what is at work and how far it is; a long table name gives way to the percentage."""
    percent = f" {min(100, 100 * run.removed // max(1, run.planned.to_remove))}%"
    room = _NAME_BYTES - len(options.application_name.encode()) - 1 - len(percent)
    table = str(run.planned.target.relation.name).encode()[: max(0, room)].decode("utf-8", "ignore")
    database.set_application_name(f"{options.application_name} {table}{percent}")
