# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways through a table: which one is the cheapest for what has to go, and how large its next batch is.

Measured on 3 million rows, half of them expired: a walk over the pages costs no more than one DELETE of everything, but reads all of the
table. A walk over the times, where rows lie in their order, costs no more either and reads only what goes. Picking rows by an index costs
two to four times as much for each of them, and reads nothing else. Picking them without an index reads the dead ones again in every batch,
so that this is what is left where nothing else can be had.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import parts, statements
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.batch_size import BatchSize
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.leaves import look_up_leaves
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.parts import Blocks, GuessedTimes, Part, Times, TooLarge
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import Target
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import Progress
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.statements import Batch
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.stride import Stride
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._lock_tries import Tries, is_locked
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

FIRST_ROWS = 10_000  # what one statement takes in far less than the time of a batch, however it finds them
LEAST_ROWS = 1_000  # a smaller batch costs more for what it does once than for its rows
_FIRST_PAGES, _LEAST_PAGES = 128, 16
_FEW = 0.05  # up to this share of a table, reading the rest of it costs more than finding the rows by their index
_TID_RANGES = 140000  # the server version that reads a range of pages without the rest
# So short that an application hardly notices that it waits for the batch behind what somebody else holds, a row or one that a cascade
# reaches; and much shorter than what a server lets pass before it looks for a deadlock, so that no application is the victim of one.
_LOCK_MILLISECONDS = 100.0
_STEP_ASIDE = 0.1  # seconds in which others get what they wait for
_TRIES = 3  # as many times, with half the rows each time, times are tried that have a row that cannot go, before the walk passes them over
_EVERYTHING = 1 << 32  # more than a table has pages, or than one statement is asked to take
_CANCELED = "57014"
_ROWS_OF_A_PAGE = 2_000  # more than fit into the largest page that a server can be built with
# Rows that were updated in the moment of a batch can be taken by the next one, so that the last rows get several chances.
_CHANCES = 3
# Rows that a trigger vetoes come back every time; more of them than this many batches hold end the search behind them.
# So do rows that a trigger writes anew: this many batches more than twice what was planned are enough.
_VETOED_BATCHES = 10


class Walk:
    """The ways through one leaf for one rule. Each asks `ready` before every batch, and leaves the rest where it says no.

    What others hold ends a batch soon, and it comes again after a moment; when that has gone on for the session's lock_timeout, it is an
    error. `through` is true after a way that left nothing behind, if nobody else wrote meanwhile.
    """

    def __init__(self, database: Any, run: Progress, target: Target, leaf: Leaf, ready: Callable[[], bool]) -> None:
        self.database, self.run, self.target, self.leaf, self.ready = database, run, target, leaf, ready
        self.through = False
        self._patience = 0.0
        self._refused_since: float | None = None

    def take_most(self, batch_rows: int, batch_seconds: float) -> bool:
        """Take what is free in the cheapest way; false, and nothing done, where that is to pick it. Raises DatabaseError."""
        rows = self.run.planned.removable[self.leaf.oid]
        if not self.run.planned.at_once and (rows <= FIRST_ROWS or batch_rows < LEAST_ROWS):
            return False
        way = self._cheapest(batch_rows, batch_seconds)
        if way is None:
            return False
        with self._brief_waits():
            self.through = way()
        return True

    def take_rest(self, batch_rows: int, batch_seconds: float) -> tuple[int, bool]:
        """Pick what is there; return how many rows refused to go although free, and whether all were tried. Raises DatabaseError."""
        with self._brief_waits():
            return self._by_picking(batch_rows, batch_seconds)

    def _cheapest(self, batch_rows: int, batch_seconds: float) -> Callable[[], bool] | None:
        """Return a way that itself returns whether it came to its end; None where picking is cheaper."""
        facts = look_up_leaves(self.database, self.target, [self.leaf]).get(self.leaf.oid)
        if facts is None:
            return None
        rows = self.run.planned.removable[self.leaf.oid]
        # What a sample says may be far too little, or nothing at all.
        there = max(1, rows, self.run.planned.rows_before[self.leaf.oid])
        at_once, ranges = self.run.planned.at_once, self.database.server_version >= _TID_RANGES
        size = self._size(batch_seconds, FIRST_ROWS, LEAST_ROWS, batch_rows)
        most = max(1, batch_rows * facts.pages // there)
        pages = self._size(batch_seconds, _FIRST_PAGES, _LEAST_PAGES, most)
        if facts.in_order and self.target.by_time_alone and not at_once:
            rest = (lambda _first: self._by_pages(facts.pages, pages, batch_rows)) if ranges else lambda first: self._by_index(size, first)
            return lambda: self._by_times(size, Stride(facts.pages, there, backwards=facts.correlation < 0), rest)
        if facts.indexed and (rows <= _FEW * there or not ranges) and not at_once:
            return lambda: self._by_index(size)
        if not ranges:
            return None
        return lambda: self._by_pages(facts.pages, pages)

    def _by_picking(self, batch_rows: int, batch_seconds: float) -> tuple[int, bool]:
        size = self._size(batch_seconds, FIRST_ROWS, LEAST_ROWS, batch_rows)
        refused, chances = 0, _CHANCES
        bound, most = self._bounds(size)
        while self.ready():
            # What refused comes back in every batch, so that there is room for it beside the rows that can go.
            limit = size.now + refused
            batch = self._timed(lambda limit=limit: self._alone(lambda: self._pick(limit)), size)  # type: ignore[misc]
            if batch is None:
                continue
            refused = batch.picked - batch.done
            if batch.picked < limit:
                chances = _CHANCES if batch.done else chances - 1
                if not refused or not chances:
                    return refused, True
            elif refused > bound or self.run.done_by_leaf[self.leaf.oid] > most:
                break
        return refused, False

    def _bounds(self, size: BatchSize) -> tuple[int, int]:
        """Return how many rows may refuse to go, and how many may go, before it is the trigger that is never through with them."""
        refused = _VETOED_BATCHES * size.now
        return refused, 2 * self.run.planned.removable[self.leaf.oid] + refused

    def _size(self, seconds: float, first: int, least: int, most: int) -> BatchSize:
        """Return the size of batches; where every one of them reads another table whole, small ones would only do so more often.

        Rows that refer to rows of their own table go in one statement, at whose end the server looks for what is still referred to.
        """
        if self.run.planned.at_once:
            return BatchSize(seconds, _EVERYTHING, _EVERYTHING, _EVERYTHING)
        return BatchSize(seconds, most, most, most) if self.target.joined else BatchSize(seconds, first, least, most)

    def _by_index(self, size: BatchSize, after: str | None = None) -> bool:
        _refused, most = self._bounds(size)
        while self.ready():
            rows = size.now
            batch = self._timed(lambda rows=rows, after=after: self._alone(lambda: self._pick_oldest(rows, after)), size)  # type: ignore[misc]
            if batch is None:
                continue
            if batch.picked < rows or (not batch.done and batch.last == after) or self.run.done_by_leaf[self.leaf.oid] > most:
                return batch.picked < rows
            after = batch.last
        return False

    def _by_pages(self, pages: int, size: BatchSize, most: int = _EVERYTHING) -> bool:
        """Take what is in pages next to each other, and in one batch no more than `most` rows unless they are in one page."""
        first, refused = 0, False
        while first < pages and self.ready():
            here = Blocks(first, min(pages, first + size.now))
            count = here.end - here.first
            rows = _ROWS_OF_A_PAGE * count if count == 1 else min(most, _ROWS_OF_A_PAGE * count)
            try:
                refused |= self._timed(lambda here=here, rows=rows: self._range(here, rows), size) is None  # type: ignore[misc]
            except TooLarge:
                size.was_too_large(count)
                continue
            first = here.end
        return first >= pages and not refused

    def _by_times(self, size: BatchSize, stride: Stride, rest: Callable[[str | None], bool]) -> bool:
        """Take what has times next to each other; `stride` is how far further on in the table those of a batch end.

        The `rest`, from a time on that more rows have than one batch may take, goes another way.
        """
        first: str | None = None
        tries, passed_over = 0, False
        while self.ready():
            rows, began = size.now, time.monotonic()
            try:
                here = self._guess(first, size, stride) or self._next_times(first, size.now) or self._next_times(first, size.most)
            except DatabaseError as error:
                self._step_aside(error, began, size)
                continue
            if here is None:
                # Each look for what comes after such rows would pass by all of them.
                return rest(first) and not passed_over
            try:
                batch = self._timed(lambda here=here: self._range(here, size.most), size)  # type: ignore[misc]
            except TooLarge:
                stride.give_up()
                continue
            if batch is None:
                tries += 1
                if rows > 1 and tries < _TRIES:
                    continue
                passed_over = True
            elif isinstance(here, GuessedTimes):
                stride.took(batch.done, rows)
            if here.end is None:
                return not passed_over
            first, tries = here.end, 0
        return False

    def _guess(self, first: str | None, size: BatchSize, stride: Stride) -> Times | None:
        """Return times that somewhat fewer rows have than the next batch may have, if they lie in the order that they seem to lie in."""
        pages = stride.to(size.now)
        if not pages:
            return None
        here = parts.guess_times(self.database, self.target, self.leaf, first, pages, size.too_long)
        stride.led(somewhere=here is not None)
        return here

    def _next_times(self, first: str | None, rows: int) -> Times | None:
        """Return the next times that `rows` rows have at the most; None where already the first of them has more."""
        here = parts.next_times(self.database, self.target, self.leaf, first, rows)
        return None if here.end is not None and here.end == first else here

    def _timed(self, take: Callable[[], Batch], size: BatchSize) -> Batch | None:
        """Run a batch and note it; None where others hold what it needs, and it has to come again."""
        began = time.monotonic()
        try:
            batch = take()
        except TooLarge:
            raise
        except DatabaseError as error:
            self._step_aside(error, began, size)
            return None
        self._refused_since = None
        size.took(time.monotonic() - began)
        self.run.note(self.leaf, batch)
        return batch

    def _step_aside(self, error: DatabaseError, began: float, size: BatchSize) -> None:
        """Let others have what they hold, or wait for, for a moment; raises `error` where that has gone on for too long, or is not why."""
        self._refused_since = self._refused_since or began
        if not is_locked(error) or self.database.closed or time.monotonic() - self._refused_since >= self._patience:
            raise error
        if not self.run.planned.at_once:
            size.was_refused()
        time.sleep(_STEP_ASIDE)

    @contextmanager
    def _brief_waits(self) -> Iterator[None]:
        """Let no statement of the block wait for a lock for long."""
        tries = Tries(self.database)
        self._patience = tries.longest / 1000
        self._set_lock_timeout(min(_LOCK_MILLISECONDS, tries.shortest))
        try:
            yield
        finally:
            if not self.database.closed:
                self._set_lock_timeout(tries.longest)

    def _set_lock_timeout(self, milliseconds: float) -> None:
        self.database.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (f"{max(1, round(milliseconds))}ms",))

    def _alone(self, take: Callable[[], Batch]) -> Batch:
        """Run a batch in a transaction: what it archives it compares with what went before it commits.

        For its length, triggers find what they name without a schema: beside the table and its archive, then those of other rules, then in
        public. Where they find it must not depend on the role, and nothing else that the session asks may find anything there.
        """
        sql = self.database.sql
        names = sql.SQL(", ").join(sql.Identifier(schema) for schema in (*self.run.search_path, "pg_temp"))
        with self.database.transaction():
            self.database.execute(sql.SQL("SET LOCAL search_path TO {}").format(names))
            return take()

    def _pick(self, rows: int, within: Part | None = None) -> Batch:
        held = statements.WAIT_FOR if self.run.planned.along else statements.PASS_OVER
        return statements.pick(self.database, self.target, self.leaf, rows, within, held)

    def _pick_oldest(self, rows: int, after: str | None) -> Batch:
        return statements.pick_oldest(self.database, self.target, self.leaf, rows, after)

    def _whole(self, part: Part, rows: int) -> Batch:
        began = time.monotonic()
        try:
            with part.guided(self.database):
                batch = statements.take_range(self.database, self.target, self.leaf, part)
        except DatabaseError as error:
            # The server says the same where somebody cancels it, and where the session allows no more.
            if error.sqlstate == _CANCELED and isinstance(part, GuessedTimes) and time.monotonic() - began >= part.seconds:
                raise TooLarge(str(self.leaf.name)) from error
            raise
        if batch.done > rows:
            raise TooLarge(str(self.leaf.name))
        return batch

    def _range(self, part: Part, rows: int) -> Batch:
        """Take a part without locking its rows one by one before, which costs WAL; where one is held, pick up to `rows` around it.

        Raises TooLarge, and nothing of it is taken, where it has more `rows`, or may have more of which nobody has counted them.
        """
        try:
            return self._alone(lambda: self._whole(part, rows))
        except DatabaseError as error:
            if not is_locked(error) or self.database.closed:
                raise
        return self._alone(lambda: self._around(part, rows))

    def _around(self, part: Part, rows: int) -> Batch:
        batch = self._pick(rows, part)
        if batch.picked >= rows and isinstance(part, (Blocks, GuessedTimes)):
            raise TooLarge(str(self.leaf.name))
        return batch
