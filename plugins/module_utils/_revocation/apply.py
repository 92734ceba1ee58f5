# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass carried out: in batches with a commit each, or in one transaction where parts of it only make sense together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant, server_now
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.deny import Denial
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import CLEARED, LIMITED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.progress import StoreProgress
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.stage import Stage, Stages
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import DEPENDENT, LIMIT, Target

LOCK_TIMEOUT = "55P03"
_LOCKED_BATCHES = 3  # in a row; somebody has locked the whole table, and every further batch would wait as long


class _Moved(Exception):
    """A row that was set aside has changed, or refused to: what only makes sense together was rolled back."""


@dataclass
class Applied:
    """What became of a pass: rows changed, and whether rows moved under it, so that it is worth another try at once."""

    changed: int = 0
    moved: bool = False


@dataclass
class _Done:
    """Rows changed and not told of before they are committed."""

    target: Target
    rows: int
    extended: int


@dataclass
class Application:
    """What every pass of a run is carried out with. `limit_at` is the moment that limits are raised to."""

    database: Any
    options: Options
    journal: Journal
    revocation_id: str
    stages: Stages
    limit_at: Instant
    applied: Applied = field(default_factory=Applied)

    def carry_out(self, looks: list[Look], stores: list[StoreProgress]) -> Applied:
        """Change what `looks` have set aside and note it in `stores`. What was committed stays so if it ends with an error."""
        self.applied = Applied()
        pairs = list(zip(looks, stores))
        if self.options.atomic:
            self._together(pairs)
        else:
            for look, known in pairs:
                if any(stage.target.change == CLEARED and stage.rows for stage in look.stages):
                    # A link that is cleared and the row that it led to: after a crash between the two nobody would find that row.
                    self._together([(look, known)])
                else:
                    self._in_batches(look, known)
        return self.applied

    def _together(self, pairs: list[tuple[Look, StoreProgress]]) -> None:
        """Carry the stores out in one transaction, whole or not at all."""
        done: list[tuple[StoreProgress, list[_Done]]] = []
        try:
            with self.database.transaction():
                for look, known in pairs:
                    done.append((known, self._whole(look)))
        except _Moved:
            self.applied.moved = True
            return
        except DatabaseError as error:
            if error.sqlstate != LOCK_TIMEOUT:
                raise
            return
        for (look, _known), (known, parts) in zip(pairs, done):
            for part in parts:
                self._note(known, part)
            self._note_limited(look, known)

    def _whole(self, look: Look) -> list[_Done]:
        done, touched = [], set()
        for stage in look.stages:
            target = stage.target
            if target.act is None or not stage.rows:
                continue
            # Rows that an earlier part has changed stand somewhere else now.
            current = self.stages.look(target, look.store, self.options.selection) if target.relation.oid in touched else stage
            part = self._change(target, current, 1, current.rows)
            if not isinstance(target.act, Denial) and part.rows < current.rows:
                raise _Moved
            touched.add(target.relation.oid)
            done.append(part)
        return done

    def _in_batches(self, look: Look, known: StoreProgress) -> None:
        for stage in [stage for stage in look.stages if stage.target.act]:
            locked = 0
            for first in range(1, stage.rows + 1, self.options.batch_rows):
                last = min(stage.rows, first + self.options.batch_rows - 1)
                self.database.set_application_name(f"{self.options.application_name} {look.store.name} {100 * (first - 1) // stage.rows}%")
                try:
                    with self.database.transaction():
                        part = self._change(stage.target, stage, first, last)
                except DatabaseError as error:
                    if error.sqlstate != LOCK_TIMEOUT:
                        raise
                    # The next pass comes back to it, after the transactions that are open now.
                    locked += 1
                    if locked >= _LOCKED_BATCHES:
                        break
                    continue
                locked = 0
                self._note(known, part)
        self._note_limited(look, known)

    def _change(self, target: Target, stage: Stage, first: int, last: int) -> _Done:
        rows = target.act.batch(self.journal, stage.name, first, last, self.revocation_id)  # type: ignore[union-attr]
        extended = 0
        if isinstance(target.act, Denial) and rows < last - first + 1:
            # Ids that are denied already, but for less than their tokens' life, or since this very moment.
            extended = target.act.extend(self.journal, stage.name, first, last, self.revocation_id)
        return _Done(target, rows, extended)

    def _note_limited(self, look: Look, known: StoreProgress) -> None:
        """Note tokens that nothing was done to but raising a limit over them."""
        if look.tokens.target.act is None and known.not_before:
            known.revoked += look.tokens.rows

    def _note(self, known: StoreProgress, part: _Done) -> None:
        changed = part.rows + part.extended
        self.applied.changed += changed
        if part.target.kind == DEPENDENT:
            known.dependent(str(part.target.relation.name), part.target.change)["changed"] += part.rows
        elif part.target.kind == LIMIT:
            known.dependent(str(part.target.relation.name), LIMITED)["changed"] += part.rows
            known.not_before = str(self.limit_at) if part.rows else known.not_before
        else:
            known.revoked += part.rows
            known.extended += part.extended
            known.batches += bool(changed)
        if changed and part.target.kind != DEPENDENT:
            now = str(server_now(self.database))
            known.first_effective_at = known.first_effective_at or now
            known.effective_at = now
