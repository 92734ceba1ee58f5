"""Divided tables, and what the engine makes of their partitions, without Ansible in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils import _instant, _lock_tries
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import partitions
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up, require
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column
from tests.integration.cleaning import Cleaner

# January to April of 2020 in four partitions with 10 rows each.
MONTHS = """
CREATE SCHEMA app;
CREATE TABLE app.t (id int, at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE app.t01 PARTITION OF app.t FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
CREATE TABLE app.t02 PARTITION OF app.t FOR VALUES FROM ('2020-02-01Z') TO ('2020-03-01Z');
CREATE TABLE app.t03 PARTITION OF app.t FOR VALUES FROM ('2020-03-01Z') TO ('2020-04-01Z');
CREATE TABLE app.t04 PARTITION OF app.t FOR VALUES FROM ('2020-04-01Z') TO ('2020-05-01Z');
INSERT INTO app.t SELECT n, timestamptz '2020-01-10Z' + n % 4 * interval '1 month' + n * interval '1 s' FROM generate_series(0, 39) AS n;
"""
WITH_DEFAULT = MONTHS + "CREATE TABLE app.rest PARTITION OF app.t DEFAULT;"
TABLES = "SELECT relname::text FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p', 'f')"


class Divided:
    """One divided table, as a rule with `column` sees it in `session`."""

    def __init__(self, session: Any, table: str, column: Any) -> None:
        self.session, self.table = session, table
        self.written = {"time_zone": None, "unit": None, **(column if isinstance(column, dict) else {"column": column})}

    @property
    def relation(self) -> Relation:
        name = parse_relation(self.table)
        return require(look_up(self.session, [name])[name])

    @property
    def time(self) -> TimeColumn:
        return time_column(self.relation, self.written, "rules[0].column")

    def require(self) -> None:
        partitions.require_divided_by(self.session, self.relation, self.time, "rules[0].action")

    def due(self, at: str) -> list[partitions.Partition]:
        """Return the partitions that lie before a time."""
        self.require()
        moment = _instant.Instant(round(datetime.fromisoformat(at).timestamp() * 1_000_000))
        limit = _instant.constant(self.session, self.time, moment)
        return partitions.due(self.session, self.relation, self.time, limit)

    def names(self, at: str) -> list[str]:
        return [str(each.name) for each in self.due(at)]

    def drop(self, at: str = "2020-02-01T00:00Z", free: Callable[[], bool] | None = None) -> list[partitions.Dropped]:
        """Drop what lies before a time."""
        return [partitions.drop(self.session, self.relation, each, free=free) for each in self.due(at)]

    def leftovers(self) -> list[partitions.Leftover]:
        return partitions.leftovers(self.session, self.relation)

    def finish(self) -> list[partitions.Dropped | None]:
        return [partitions.finish(self.session, self.relation, each) for each in self.leftovers()]


@contextmanager
def divided(
    cleaner: Cleaner, script: str = "", *, table: str = "app.t", column: Any = "at", read_only: bool = False, **login: Any
) -> Iterator[Divided]:
    """Make the tables and give the engine's view of one.

    What is done under a lock may take no longer than lock_timeout, so that a short one is for tests in which somebody is waited for.
    """
    if script:
        cleaner.sql(SQL(script))
    with cleaner.open(read_only=read_only, **{"lock_timeout": "20 s", **login}) as session:
        yield Divided(session, table, column)


def tables(cleaner: Cleaner) -> list[str]:
    """Return the tables in schema app."""
    return list(cleaner.column(SQL(TABLES)))


def comment(cleaner: Cleaner, table: str = "app.t01") -> str | None:
    """Return the comment of a table."""
    ((text,),) = cleaner.sql("SELECT obj_description(%s::regclass, 'pg_class')", [table])
    return None if text is None else str(text)


@contextmanager
def open_transaction(cleaner: Cleaner, *statements: str, name: str = "holder") -> Iterator[Any]:
    """Give a session whose transaction has run `statements` and ends with the block."""
    with cleaner.database.connect(application_name=name) as other:
        other.execute("BEGIN")
        for statement in statements:
            other.execute(SQL(statement))
        yield other
        # A session that is only closed may keep its locks for a moment.
        other.execute("ROLLBACK")


@dataclass
class Tried:
    """The tries to get locks: the lock_timeout (milliseconds) that was in force for each, how long it took, and the pauses between them."""

    waits: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)


def noted_tries(patches: pytest.MonkeyPatch, in_pause: Callable[[], None]) -> Tried:
    """Note the tries from now on; their pauses pass at once, with a call of `in_pause` in each."""
    tried = Tried()
    once = _lock_tries._try_once

    def try_once(database: Any, wait: int, work: Callable[[], Any]) -> Any:
        def asked() -> Any:
            tried.waits.append(database.value("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'"))
            return work()

        began = time.monotonic()
        try:
            return once(database, wait, asked)
        finally:
            tried.seconds.append(time.monotonic() - began)

    def sleep(seconds: float) -> None:
        tried.pauses.append(seconds)
        in_pause()

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: time.monotonic() + sum(tried.pauses))
    patches.setattr(_lock_tries, "_try_once", try_once)
    patches.setattr(_lock_tries, "time", clock)
    return tried


@contextmanager
def traffic(cleaner: Cleaner, *statements: str, lock_timeout: str = "20 s") -> Iterator[list[float]]:
    """Run each of `statements` over and over in a session of its own; give the seconds that each run took, and raise what went wrong.

    It is wrong to have to wait for a lock for as long as `lock_timeout`, which the server measures, whatever else the machine does.
    """
    took: list[float] = []
    wrong: list[Exception] = []
    over = threading.Event()

    def repeat(statement: str) -> None:
        with cleaner.database.connect() as session:
            session.execute("SELECT set_config('lock_timeout', %s, false)", [lock_timeout.replace(" ", "")])
            while not over.is_set():
                began = time.monotonic()
                try:
                    session.execute(SQL(statement))
                except Exception as error:  # noqa: BLE001 (whatever it is, the test shows it)
                    wrong.append(error)
                    return
                took.append(time.monotonic() - began)

    threads = [threading.Thread(target=repeat, args=(statement,)) for statement in statements]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if wrong:
        raise wrong[0]
