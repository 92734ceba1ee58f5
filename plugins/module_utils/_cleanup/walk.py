# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways through a table: which one is the cheapest for what has to go, and how large its next batch is.

Measured on 3 million rows, half of them expired: a walk over the pages costs no more than one DELETE of everything. Picking rows by an
index costs two to four times as much for each of them, but reads nothing else. Picking them without an index reads the dead ones again in
every batch, so that this is what is left where neither can be had.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import statements
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.lock_tries import Tries, is_locked
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import Target
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import Progress
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.statements import Batch, Blocks
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
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
_EVERYTHING = 1 << 32  # more than a table has pages, or than one statement is asked to take
_ROWS_OF_A_PAGE = 2_000  # more than fit into the largest page that a server can be built with
# Rows that were updated in the moment of a batch can be taken by the next one, so that the last rows get several chances.
_CHANCES = 3
# Rows that a trigger vetoes come back every time; more of them than this many batches hold end the search behind them.
# So do rows that a trigger writes anew: this many batches more than twice what was planned are enough.
_VETOED_BATCHES = 10

_LEAF = """
SELECT EXISTS (
    SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
    JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
    WHERE x.indrelid = %(leaf)s AND a.attname = %(column)s AND x.indisvalid AND x.indpred IS NULL AND m.amname = 'btree'
) AS indexed, pg_catalog.pg_relation_size(%(leaf)s::oid) / pg_catalog.current_setting('block_size')::bigint AS pages
"""


class BatchSize:
    """How many rows or pages the next batch has, so that it takes about `seconds`; never more than `most`."""

    def __init__(self, seconds: float, first: int, least: int, most: int) -> None:
        self._seconds, self._least, self._most = seconds, min(least, most), most
        self.now = max(1, min(first, most))

    def took(self, seconds: float) -> None:
        """Take into account how long a batch of this size took; the next one is at most twice and at least half as large."""
        factor = min(2.0, max(0.5, self._seconds / max(seconds, 0.000_001)))
        self.now = max(1, self._least, min(self._most, int(self.now * factor)))

    def was_refused(self) -> None:
        """Halve the next batch: the fewer rows it takes, the less it meets what others hold."""
        self.now = max(1, self.now // 2)


class Walk:
    """The ways through one leaf for one rule. Each asks `ready` before every batch, and leaves the rest where it says no.

    What others hold ends a batch soon, and it comes again after a moment; when that has gone on for the session's lock_timeout, it is an
    error.
    """

    def __init__(self, database: Any, run: Progress, target: Target, leaf: Leaf, ready: Callable[[], bool]) -> None:
        self.database, self.run, self.target, self.leaf, self.ready = database, run, target, leaf, ready
        self._patience = 0.0
        self._refused_since: float | None = None

    def take_most(self, batch_rows: int, batch_seconds: float) -> bool:
        """Take what is free in the cheapest way; false, and nothing done, where that is to pick it. Raises DatabaseError."""
        rows, there = self.run.planned.removable[self.leaf.oid], self.run.planned.rows_before[self.leaf.oid]
        if not self.run.planned.at_once and (rows <= FIRST_ROWS or batch_rows < LEAST_ROWS):
            return False
        facts = self.database.row(_LEAF, {"leaf": self.leaf.oid, "column": self.target.time.column.name})
        ranges = self.database.server_version >= _TID_RANGES
        by_index = facts["indexed"] and (rows <= _FEW * there or not ranges) and not self.run.planned.at_once
        if not by_index and not ranges:
            return False
        with self._brief_waits():
            if by_index:
                self._by_index(self._size(batch_seconds, FIRST_ROWS, LEAST_ROWS, batch_rows))
            else:
                most = max(1, batch_rows * facts["pages"] // max(1, there))
                self._by_pages(facts["pages"], self._size(batch_seconds, _FIRST_PAGES, _LEAST_PAGES, most))
        return True

    def take_rest(self, batch_rows: int, batch_seconds: float) -> tuple[int, bool]:
        """Pick what is there; return how many rows refused to go although free, and whether all were tried. Raises DatabaseError."""
        with self._brief_waits():
            return self._by_picking(batch_rows, batch_seconds)

    def _by_picking(self, batch_rows: int, batch_seconds: float) -> tuple[int, bool]:
        size = self._size(batch_seconds, FIRST_ROWS, LEAST_ROWS, batch_rows)
        refused, chances = 0, _CHANCES
        bound = _VETOED_BATCHES * size.now
        most = 2 * self.run.planned.removable[self.leaf.oid] + bound
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

    def _size(self, seconds: float, first: int, least: int, most: int) -> BatchSize:
        """Return the size of batches; where every one of them reads another table whole, small ones would only do so more often.

        Rows that refer to rows of their own table go in one statement, at whose end the server looks for what is still referred to.
        """
        if self.run.planned.at_once:
            return BatchSize(seconds, _EVERYTHING, _EVERYTHING, _EVERYTHING)
        return BatchSize(seconds, most, most, most) if self.target.joined else BatchSize(seconds, first, least, most)

    def _by_index(self, size: BatchSize) -> None:
        after: str | None = None
        while self.ready():
            rows = size.now
            batch = self._timed(lambda rows=rows, after=after: self._alone(lambda: self._pick_oldest(rows, after)), size)  # type: ignore[misc]
            if batch is None:
                continue
            if batch.picked < rows or (not batch.done and batch.last == after):
                return
            after = batch.last

    def _by_pages(self, pages: int, size: BatchSize) -> None:
        first = 0
        while first < pages and self.ready():
            here = Blocks(first, min(pages, first + size.now))
            self._timed(lambda here=here: self._range(here), size)  # type: ignore[misc]
            first = here.end

    def _timed(self, take: Callable[[], Batch], size: BatchSize) -> Batch | None:
        """Run a batch and note it; None where others hold what it needs, and it has to come again."""
        began = time.monotonic()
        try:
            batch = take()
        except DatabaseError as error:
            self._refused_since = self._refused_since or began
            if not is_locked(error) or self.database.closed or time.monotonic() - self._refused_since >= self._patience:
                raise
            size.was_refused()
            time.sleep(_STEP_ASIDE)
            return None
        self._refused_since = None
        size.took(time.monotonic() - began)
        self.run.note(self.leaf, batch)
        return batch

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

    def _pick(self, rows: int, within: Blocks | None = None) -> Batch:
        return statements.pick(self.database, self.target, self.leaf, rows, within)

    def _pick_oldest(self, rows: int, after: str | None) -> Batch:
        return statements.pick_oldest(self.database, self.target, self.leaf, rows, after)

    def _whole(self, pages: Blocks) -> Batch:
        # Without it, a server reads the whole table for every range.
        self.database.execute("SET LOCAL enable_tidscan TO on")
        return statements.take_range(self.database, self.target, self.leaf, pages)

    def _range(self, pages: Blocks) -> Batch:
        """Take a range without locking its rows one by one before, which costs WAL; where one is held, pass it over."""
        try:
            return self._alone(lambda: self._whole(pages))
        except DatabaseError as error:
            if not is_locked(error) or self.database.closed:
                raise
        return self._alone(lambda: self._pick(_ROWS_OF_A_PAGE * (pages.end - pages.first), pages))
