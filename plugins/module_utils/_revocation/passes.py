# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passes over all stores until one finds nothing: each sets aside what is still accepted, revokes it, and waits for who may add to it.

A transaction that was open while a pass looked may have issued tokens that it could not see. So after each pass those that
are open then are waited for, and the next pass looks again, in a fresh snapshot. The pass that finds nothing is the proof.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant, constant, limit, server_now
from ansible_collections.pgops.runbook.plugins.module_utils._open_transactions import open_transactions, wait_for
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.apply import Application
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.dependents import dependent_targets
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.limits import AHEAD, limit_targets, moment
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.matched import matched
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.progress import Progress
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.shared import count_taken, without
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.stage import Stages
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import (
    LIMIT,
    TOKENS,
    Marking,
    token_target,
)
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, Acceptance, Selection, TokenStore

# While so many passes are made, tokens that were issued since the run began are taken too: whoever renews a token that is
# not revoked yet gets a new one. Later passes leave those alone that were issued after the last of these, or a busy
# service would never be done.
OPEN_ENDED_PASSES = 3
MOST_PASSES = 20
# Passes in a row that changed nothing although nobody is open any more: locks that were given back before the question, rows
# that moved on. After so many, what is left refuses to be changed.
_FRUITLESS_PASSES = 3
_LEAST_WAIT = 1.0  # seconds; a long reader may use up max_wait, and then those who write for a moment are waited for still


class Pass:
    """What all looks of a run have in common. `limit_at` is the moment that limits are raised to where the selection has no end."""

    def __init__(self, database: Any, stores: tuple[TokenStore, ...], options: Options, marking: Marking, as_of: Instant) -> None:
        self.database, self.stores, self.options, self.marking, self.as_of = database, stores, options, marking, as_of
        self.limit_at = as_of

    def look(self, stages: Stages, bound: Instant | None = None) -> list[Look]:
        """Set aside everything that is to be changed; `bound` leaves alone what was issued from then on, where a store knows it."""
        looks: list[Look] = []
        for store in self.stores:
            looks.append(self._look(stages, store, bound, looks))
        return looks

    def look_at_limits_again(self, stages: Stages, looks: list[Look]) -> list[Look]:
        """Return `looks` with limits raised to this moment: some time has passed since the first look, in which tokens were issued."""
        if not any(stage.target.kind == LIMIT for look in looks for stage in look.stages):
            return looks
        self.limit_at = _clock(self.database)
        again: list[Look] = []
        for look in looks:
            again.append(self._look_again(stages, look, again))
        return again

    def _look_again(self, stages: Stages, look: Look, before: Sequence[Look]) -> Look:
        if not any(stage.target.kind == LIMIT for stage in look.stages):
            return look
        stages.drop_all(look.stages)
        return self._look(stages, look.store, None, before)

    def _look(self, stages: Stages, store: TokenStore, bound: Instant | None, before: Sequence[Look]) -> Look:
        database, selection = self.database, self.options.selection
        acceptance = Acceptance(database, store, self.as_of, self.options.clock_skew)
        limits = limit_targets(database, store, selection, self.limit_at)
        by_limit = store.how == "not_before" and selection.issued_to is None
        within = self._reached(store) if by_limit else self._bound(store, selection, bound)
        memory = stages.memory(store, selection)
        found = matched(database, store, acceptance, selection, within, memory.table if memory else None)
        if memory:
            memory.found = found
        targets = [
            *limits,
            *dependent_targets(database, store, self.options.selection, found, self.marking),
            token_target(database, store, acceptance, found, self.marking),
        ]
        earlier = [stage.target for look in before for stage in look.stages]
        own = [without(database.sql, target, earlier) for target in targets]
        set_aside = [stages.look(target, store, self.options.selection) for target in own]
        return Look(store, acceptance, found, set_aside, sum(count_taken(database, target) for target in own if target.kind == TOKENS))

    def _reached(self, store: TokenStore) -> Any:
        """Return the condition that leaves logins alone that came after a limit was raised to now.

        A token whose time of issue is not known, or lies ahead of every clock, is not among them: it is accepted, and is said to be.
        """
        sql, time = self.database.sql, store.issued
        column = sql.Identifier(TOKEN, time.column.name)  # type: ignore[union-attr]
        return sql.SQL("(({column} OPERATOR(pg_catalog.<) {to}) IS NOT FALSE OR {column} OPERATOR(pg_catalog.>=) {ahead})").format(
            column=column,
            to=limit(self.database, time, moment(self.options.selection, self.limit_at)),  # type: ignore[arg-type]
            ahead=constant(self.database, time, _clock(self.database).before(-AHEAD)),  # type: ignore[arg-type]
        )

    def _bound(self, store: TokenStore, selection: Selection, bound: Instant | None) -> Any:
        if bound is None or store.issued is None or selection.issued_to is not None:
            return None
        sql = self.database.sql
        column = sql.Identifier(TOKEN, store.issued.column.name)
        return sql.SQL("({} OPERATOR(pg_catalog.<) {}) IS NOT FALSE").format(column, limit(self.database, store.issued, bound))


def revoke_all(work: Pass, stages: Stages, first: list[Look], journal: Journal, run: Run) -> None:
    """Revoke what `first` has set aside and pass after pass what comes after it, and note it all in the progress of `run`.

    What was committed stays so if it ends with an error. `remaining` of every store is 0 after a proof, else what is still accepted.
    """
    database, options, progress = work.database, work.options, run.progress
    deadline = time.monotonic() + options.max_wait
    looks, bound, fruitless = work.look_at_limits_again(stages, first), None, 0
    application = Application(database, options, journal, run.revocation_id, stages, moment(options.selection, work.limit_at))
    progress.passes = 1
    while True:
        run.before(looks)
        applied = application.carry_out(looks, progress.stores)
        progress.held_back = applied.held_back
        for look in looks:
            stages.drop_all(look.stages)
        if progress.passes == OPEN_ENDED_PASSES:
            bound = _passed_second(database)
        waited = wait_for(database, open_transactions(database), max(deadline - time.monotonic(), min(options.max_wait, _LEAST_WAIT)))
        progress.waited.append(waited)
        looks = work.look(stages, bound)
        progress.passes += 1
        _note_what_is_left(database, looks, progress)
        if not sum(look.rows for look in looks) or progress.passes >= MOST_PASSES:
            return
        fruitless = 0 if applied.changed else fruitless + 1
        if fruitless >= _FRUITLESS_PASSES or (fruitless and waited.still_open and time.monotonic() >= deadline):
            return
        for look, known in zip(looks, progress.stores):
            known.late += look.tokens.rows


@dataclass
class Run:
    """What a run does around its passes: `before` each, and `revocation_id`, under which it is recorded."""

    revocation_id: str
    progress: Progress
    before: Callable[[list[Look]], None]


def _note_what_is_left(database: Any, looks: list[Look], progress: Progress) -> None:
    now = str(_clock(database))
    for look, known in zip(looks, progress.stores):
        known.remaining = look.rows
        known.verified_at = now if not look.rows else None


def _passed_second(database: Any) -> Instant:
    """Return the end of the second that it is now, once it is over: whatever is issued after that lies behind it."""
    now = _clock(database)
    end = now.up_to_second()
    time.sleep((end.microseconds - now.microseconds) / 1_000_000)
    return end


def _clock(database: Any) -> Instant:
    return server_now(database)
