# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a table that a batch takes whole: so many pages, or what lies between two times.

The `form` of a part is that of the rule's condition that the server does well beside it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator, Union

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import PICK, REMOVE, ROW, Target
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf

_TYPES = {"instant": "timestamptz", "wall": "timestamp", "date": "date", "epoch": "bigint"}
_BY_PAGES = "SET LOCAL enable_tidscan TO on"
_BY_INDEX = (
    "SELECT pg_catalog.set_config('enable_indexscan', 'on', true), pg_catalog.set_config('enable_indexonlyscan', 'on', true),"
    " pg_catalog.set_config('enable_tidscan', 'on', true),"
    " pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_bitmapscan', 'off', true),"
    " pg_catalog.set_config('enable_sort', 'off', true)"
)
_NOT_LONG = """
SELECT pg_catalog.set_config('statement_timeout', least(
    nullif((1000 * pg_catalog.date_part('epoch', %(allowed)s::interval))::bigint, 0), %(milliseconds)s
)::text, true)
"""
# As many rows of a page are looked at, at the most.
_LOOKED_AT = 300
# No page of any table has this number or a higher one, which the server does not read as one.
_END_OF_PAGES = (1 << 32) - 1


class TooLarge(DatabaseError):
    """A part has more rows than were asked for, or takes far too long. The statement on it was undone."""

    def __init__(self, table: str) -> None:
        super().__init__("a batch would have been larger than it may be", object_name=table)


@dataclass(frozen=True)
class Blocks:
    """The pages of a table from `first` to before `end`."""

    first: int
    end: int
    form = REMOVE

    def holds(self, database: Any, _target: Target) -> Any:
        """Return the condition for the rows in it."""
        sql = database.sql
        return sql.SQL("{row}.ctid OPERATOR(pg_catalog.>=) {first}::tid AND {row}.ctid OPERATOR(pg_catalog.<) {end}::tid").format(
            row=sql.Identifier(ROW), first=sql.Literal(f"({self.first},0)"), end=sql.Literal(f"({self.end},0)")
        )

    @contextmanager
    def guided(self, database: Any) -> Iterator[None]:
        """Let the planner take it for the rest of the transaction: else a server may read the whole table for every range."""
        database.execute(_BY_PAGES)
        yield


@dataclass(frozen=True)
class Times:
    """The rows whose time is `first` or later and before `end`, as the server writes them; None where nothing but the rule bounds it."""

    first: str | None
    end: str | None
    form = PICK

    def holds(self, database: Any, target: Target) -> Any:
        """Return the condition for the rows in it."""
        sql = database.sql
        before = target.limit if self.end is None else constant(database, target, self.end)
        condition = sql.SQL("{} OPERATOR(pg_catalog.<) {}").format(_time(database, target), before)
        if self.first is None:
            return condition
        return sql.SQL("{} AND {}").format(since(database, target, self.first), condition)

    @contextmanager
    def guided(self, database: Any) -> Iterator[None]:
        """Let the planner find it by the index for the rest of the transaction, also where it knows little of the table."""
        database.execute(_BY_INDEX)
        yield


@dataclass(frozen=True)
class GuessedTimes(Times):
    """Times of which nobody has counted the rows: a statement on them that takes longer than `seconds` is given up."""

    seconds: float

    @contextmanager
    def guided(self, database: Any) -> Iterator[None]:
        """Do the same, and let no statement of the block take longer; the commit may, which looks deferred foreign keys up."""
        with super().guided(database):
            allowed = database.value("SELECT pg_catalog.current_setting('statement_timeout')")
            database.execute(_NOT_LONG, {"allowed": allowed, "milliseconds": round(1000 * self.seconds)})
            yield
            database.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", (allowed,))


Part = Union[Blocks, Times]


def since(database: Any, target: Target, first: str) -> Any:
    """Return the condition for the rows whose time is `first` or later."""
    return database.sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(_time(database, target), constant(database, target, first))


def constant(database: Any, target: Target, time: str) -> Any:
    """Return a time as the server writes it as a constant."""
    return database.sql.SQL("{}::{}").format(database.sql.Literal(time), database.sql.SQL(_TYPES[target.time.kind]))


def next_times(database: Any, target: Target, leaf: Leaf, first: str | None, rows: int) -> Times:
    """Return the times from `first` on that `rows` rows past the cut-off have at the most, found in the index. Raises DatabaseError.

    Where more rows than that have the time `first`, it is empty.
    """
    sql = database.sql
    # A type's output for each of the rows that are only counted would cost more than all else.
    statement = sql.SQL(
        "SELECT found.at::text FROM"
        " (SELECT {time} AS at FROM ONLY {leaf} AS {row} WHERE {chosen} ORDER BY {time} OFFSET {rows} LIMIT 1) AS found"
    ).format(
        time=_time(database, target),
        leaf=leaf.name.identifier(sql),
        row=sql.Identifier(ROW),
        chosen=Times(first, None).holds(database, target),
        rows=sql.Literal(rows),
    )
    with database.transaction(read_only=True), Times(first, None).guided(database):
        return Times(first, database.value(statement))


def guess_times(database: Any, target: Target, leaf: Leaf, first: str | None, pages: int, seconds: float) -> GuessedTimes | None:
    """Return the times from `first` on up to those of the rows that lie `pages` further on in the table; None if there is nothing to guess.

    Where rows lie in the order of their time, about as many rows have them as so many pages hold. Backwards it is with a negative number.
    A row that is out of order says little: it is the time in the middle of a page that counts.
    """
    sql = database.sql
    time, row = _time(database, target), sql.Identifier(ROW)
    rest = Times(first, None)
    beyond = rest.holds(database, target)
    if first is not None:
        beyond = sql.SQL("{} AND {} OPERATOR(pg_catalog.<>) {}").format(beyond, time, constant(database, target, first))
    statement = sql.SQL(
        "SELECT found.at::text FROM ("
        "SELECT pg_catalog.percentile_disc(0.5) WITHIN GROUP (ORDER BY {time}) AS at"
        " FROM ONLY {leaf} AS {row} WHERE {beyond} AND {row}.ctid = ANY (ARRAY("
        "SELECT pg_catalog.concat('(', there.page, ',', place, ')')::tid FROM pg_catalog.generate_series(1, {places}) AS place, ("
        "SELECT (first.id::text::point)[0]::bigint OPERATOR(pg_catalog.+) {pages} AS page FROM ("
        "SELECT {row}.ctid AS id FROM ONLY {leaf} AS {row} WHERE {rest} ORDER BY {time} LIMIT 1) AS first) AS there"
        " WHERE there.page OPERATOR(pg_catalog.>=) 0 AND there.page OPERATOR(pg_catalog.<) {end_of_pages}))) AS found"
    ).format(
        time=time,
        leaf=leaf.name.identifier(sql),
        row=row,
        beyond=beyond,
        rest=rest.holds(database, target),
        places=sql.Literal(_LOOKED_AT),
        end_of_pages=sql.Literal(_END_OF_PAGES),
        pages=sql.Literal(pages),
    )
    with database.transaction(read_only=True), rest.guided(database):
        end = database.value(statement)
    return None if end is None else GuessedTimes(first, end, seconds)


def _time(database: Any, target: Target) -> Any:
    return database.sql.Identifier(ROW, target.time.column.name)
