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
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_locks import lock_rows
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.stage import Stage, Stages
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import DEPENDENT, LIMIT, Target

# Lock timeout, deadlock, failure to serialise: others are at the same rows, and it may be different a moment later.
_REFERRED = "23503"  # somebody has made a row that refers to one which was to go
HELD_BACK = ("55P03", "40P01", "40001", _REFERRED)
# A batch that others hold back is halved until all but their rows are done, each part waiting briefly for them. Where so many
# parts were held back the whole table may be locked, and the rest is left to the next pass.
_PARTS_HELD_BACK, _BRIEFLY = 25, "100ms"
_LOCK_ATTEMPTS = 5  # the second time few rows are free to move, because the others are locked by then


class _Moved(Exception):
    """A row that was set aside has changed, or refused to: what only makes sense together was rolled back."""


@dataclass
class Applied:
    """What became of a pass: rows changed, and what held others back: the server's words where it has any, None for nothing."""

    changed: int = 0
    held_back: str | None = None


@dataclass
class _Done:
    """Rows changed and not told of before they are committed."""

    target: Target
    rows: int
    extended: int


@dataclass
class Application:
    """What every pass of a run is carried out with.

    `limit_at` is the moment that limits are raised to. `referred` are stores of which rows could not go because others refer to them.
    """

    database: Any
    options: Options
    journal: Journal
    revocation_id: str
    stages: Stages
    limit_at: Instant
    applied: Applied = field(default_factory=Applied)
    referred: set[str] = field(default_factory=set)

    def carry_out(self, looks: list[Look], stores: list[StoreProgress]) -> Applied:
        """Change what `looks` have set aside and note it in `stores`. What was committed stays so if it ends with an error."""
        self.applied = Applied()
        pairs = list(zip(looks, stores))
        if self.options.atomic:
            self._together(pairs)
        else:
            for look, known in pairs:
                # A link that is cleared and the row that it led to: after a crash between the two nobody would find that row.
                linked = any(self._current(look, stage).rows for stage in look.stages if stage.target.change == CLEARED)
                if linked or known.name in self.referred:
                    self.referred.discard(known.name)
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
            self.applied.held_back = "some are locked or refuse to, and the others must go together with them"
            return
        except DatabaseError as error:
            self._hold_back(error)
            return
        for (look, _known), (known, parts) in zip(pairs, done):
            for part in parts:
                self._note(known, part)
            self._note_limited(look, known)

    def _whole(self, look: Look) -> list[_Done]:
        done, touched = [], set()
        for stage in self._locked(look):
            target = stage.target
            current = self._current(look, stage, anew=target.relation.oid in touched)
            if target.act is None or not current.rows:
                continue
            part = self._change(target, current, 1, current.rows)
            if not isinstance(target.act, Denial) and part.rows < current.rows:
                raise _Moved
            touched.add(target.relation.oid)
            done.append(part)
        return done

    def _locked(self, look: Look) -> list[Stage]:
        """Return the rows of a store set aside anew once all of them are locked: on a busy service some are held at any moment."""
        stages = look.stages
        for _attempt in range(_LOCK_ATTEMPTS):
            moved = 0
            for stage in stages:
                if isinstance(stage.target.act, RowChange):
                    moved += stage.rows - lock_rows(self.database, stage.target.act, stage.name)
            if not moved:
                break
            # What somebody changed before it was locked stands somewhere else.
            stages = [self._current(look, stage, anew=True) for stage in stages]
        # Nobody can refer to a locked row any more, and what did so until then goes along.
        return [self._current(look, stage, anew=True) for stage in stages]

    def _in_batches(self, look: Look, known: StoreProgress) -> None:
        for stage in [stage for stage in look.stages if stage.target.act]:
            self._in_parts(look, self._current(look, stage), known)
        self._note_limited(look, known)

    def _in_parts(self, look: Look, stage: Stage, known: StoreProgress) -> None:
        size, held_back = self.options.batch_rows, 0
        # The last of the list is the next one.
        parts = [(first, min(stage.rows, first + size - 1), False) for first in range(1, stage.rows + 1, size)][::-1]
        while parts and held_back < _PARTS_HELD_BACK:
            first, last, briefly = parts.pop()
            self.database.set_application_name(f"{self.options.application_name} {look.store.name} {100 * (first - 1) // stage.rows}%")
            try:
                with self.database.transaction():
                    if briefly:
                        self.database.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (_BRIEFLY,))
                    part = self._change(stage.target, stage, first, last)
            except DatabaseError as error:
                self._hold_back(error)
                held_back += 1
                if error.sqlstate == _REFERRED:
                    # In the next pass the rows are locked before those that refer to them are looked for.
                    self.referred.add(known.name)
                    break
                if first < last:
                    middle = (first + last) // 2
                    parts += [(middle + 1, last, True), (first, middle, True)]
                continue
            self._note(known, part)

    def _current(self, look: Look, stage: Stage, *, anew: bool = False) -> Stage:
        """Return the rows to change now; `anew`: an earlier part has changed rows of the table, which stand somewhere else now."""
        # What a store before should have changed may still be there when it was held back, and hinder what depends on it.
        if anew or (self.applied.held_back and stage.target.whole is not None):
            return self.stages.look(stage.target.alone, look.store, self.options.selection)
        return stage

    def _hold_back(self, error: DatabaseError) -> None:
        """Leave what others hold back to the next pass, after the transactions that are open now; anything else is an error."""
        if error.sqlstate not in HELD_BACK:
            raise error
        self.applied.held_back = error.message

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
