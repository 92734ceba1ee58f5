# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out, in batches with a commit each."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import (
    archive,
    commits,
    counting,
    dropping,
    latest,
    predicate,
    references,
    space,
)
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.pace import Pace
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.planned import Plan, PlannedRule
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import DROP, Target
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import DONE, LOCKED, VETOED, Progress
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.quiet import Quiet
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.walk import Walk
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch, named
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

OPERATION = "pg_cleanup"
_SHOWN_EVERY = 0.2  # seconds


class Apply:
    """One run over all rules of a plan. `progress` tells how far each came, also when an error ends the run."""

    def __init__(self, database: Any, plan: Plan, options: Options, pace: Pace, watch: Watch) -> None:
        self.database, self.plan, self.options, self.pace, self.watch = database, plan, options, pace, watch
        self.progress: list[Progress] = []
        self.warnings: list[str] = list(pace.warnings)
        self._staged_by_rule: dict[int, Target] = {}
        self._shown = self._paused = 0.0

    def run(self) -> None:
        """Apply the rules, then vacuum where much has gone. Raises DatabaseError; what was done before stays done."""
        schemas = [schema for rule in self.plan.rules for schema in _schemas(rule.target)]
        before = space.sizes(self.database, [rule.target.relation for rule in self.plan.rules if rule.to_remove])
        try:
            with commits.together(self.database):
                for rule in self.plan.rules:
                    run = Progress(rule, ("pg_catalog", *dict.fromkeys([*_schemas(rule.target), *schemas, "public"])))
                    self.progress.append(run)
                    self._timed(run)
        finally:
            self._unstage()
        self.warnings += space.give_back(self.database, self.progress, before, self.options, self.pace)
        self.database.set_application_name(self.options.application_name)

    def _timed(self, run: Progress) -> None:
        paused = self._paused = self.pace.throttle.paused_seconds
        try:
            self._rule(run)
        finally:
            run.paused_seconds = self.pace.throttle.paused_seconds - paused
            run.seconds = time.monotonic() - run.began - run.paused_seconds

    def _rule(self, run: Progress) -> None:
        dropped = self._dropped()
        target = predicate.without(run.planned.target, dropped) if dropped else run.planned.target
        # The latest of a rule are those that it began with: what a later one takes does not change which rows the former passed over.
        target = replace(target, before=tuple(self._staged_by_rule.get(one.index, one) for one in target.before))
        if not run.planned.acts or not (target.relation.leaves or target.action == DROP):
            run.left, run.stopped = 0, DONE
        elif not self._ready(run):
            run.stopped = self.pace.stopped
            if run.planned.estimated:
                self._look(run, target, list(target.relation.leaves))
        elif target.action == DROP:
            run.stopped = dropping.drop_partitions(self.database, run, lambda: self._ready(run)) or self.pace.stopped
        else:
            if target.archive:
                archive.prepare(self.database, target.archive, target.relation)
            self._batches(run, self._staged(target))

    def _dropped(self) -> set[int]:
        return {oid for run in self.progress for oid in run.dropped}

    def _staged(self, target: Target) -> Target:
        if not target.latest:
            return target
        among = predicate.competes(self.database, target)
        staged = replace(target, staged=latest.stage(self.database, target.latest, target.relation, target.time, among))
        self._staged_by_rule[target.index] = staged
        return staged

    def _unstage(self) -> None:
        for target in self._staged_by_rule.values():
            if target.staged and not self.database.closed:
                latest.drop(self.database, target.staged)

    def _batches(self, run: Progress, target: Target) -> None:
        leaves = [leaf for leaf in target.relation.leaves if run.planned.removable[leaf.oid]]
        walks = [Walk(self.database, run, target, leaf, lambda: self._ready(run)) for leaf in leaves]
        size = (self.options.batch_rows, self.options.batch_seconds)
        quiet = Quiet(self.database)
        ends = [(0, True) if walk.take_most(*size) else walk.take_rest(*size) for walk in walks]
        if all(walk.through for walk in walks) and self._undisturbed(run.planned) and quiet.has_lasted(run.batches):
            run.left, run.stopped = 0, DONE
            return
        if not self._ended(run, target, leaves):
            # Rows that were locked the first time may be free after the rest; those that are not by then are left to the next run.
            ends = [walk.take_rest(*size) for walk in walks]
            self._ended(run, target, leaves)
        if run.left is None or (run.left and self.pace.stopped):
            run.stopped = self.pace.stopped
            return
        vetoed, seen_all = sum(refused for refused, _all in ends), all(end for _refused, end in ends)
        run.skipped_locked = max(0, run.left - vetoed) if seen_all else 0
        run.stopped = DONE if not run.left else VETOED if vetoed or not seen_all else LOCKED

    def _undisturbed(self, planned: PlannedRule) -> bool:
        """Return whether rows went for certain: what was made between the plan and the turn of the rule may have kept some."""
        return planned.undisturbed and planned.undisturbed_by(references.look_up_references(self.database, [planned.target.relation]))

    def _ended(self, run: Progress, target: Target, leaves: list[Leaf]) -> bool:
        """Count what is left, and return whether the rule is through: nothing is, or the run has to end."""
        run.left = None
        if self.pace.over() and run.remaining and not run.planned.estimated:
            return True
        return not self._look(run, target, leaves) or self.pace.over()

    def _look(self, run: Progress, target: Target, leaves: list[Leaf]) -> int:
        """Count what is there, and return what is left of what should have gone."""
        condition = predicate.removable(self.database, target, ahead=False)
        found = counting.with_rows(self.database, target, condition, leaves, joined=target.protected or not target.plain)
        run.counted, run.left = found.rows, sum(found.meant.values())
        return run.left

    def _ready(self, run: Progress) -> bool:
        self._show(run)
        return self.pace.ready(self.database)

    def _show(self, run: Progress) -> None:
        """Show whoever watches, and a DBA, what is at work and how far it is."""
        now = time.monotonic()
        if run.done and now - self._shown < _SHOWN_EVERY:
            return
        self._shown = now
        view = run.view(OPERATION, now - (self.pace.throttle.paused_seconds - self._paused))
        self.database.set_application_name(named(self.options.application_name, view))
        self.watch(view)


def _schemas(target: Target) -> list[str]:
    return [target.relation.name.schema, *([target.archive.name.schema] if target.archive else [])]
