"""An application that works on the same rows while they are cleaned up: none of its statements fails, none waits for long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import walk
from tests.ground.databases import Database
from tests.integration.cleaning import Cleaner, rule
from tests.integration.cleanup_scene import SMALL

pytestmark = pytest.mark.any_driver

ROWS = 12_000
# As long as an application hardly notices: a batch, and the 100 ms that it may wait for a row. The rest is a busy machine. The server
# measures it, and a statement that waits for longer fails.
LONGEST = "SET lock_timeout = '500ms'"
ARCHIVE = {"action": "archive", "archive": {"table": "kept", "create": True}}
MARK = {"action": "soft_delete", "mark": {"column": "deleted_at"}}


@dataclass
class Seen:
    """What eight sessions of an application met with."""

    statements: int = 0
    errors: list[Exception] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, error: Exception | None) -> None:
        with self.lock:
            self.statements += 1
            if error is not None:
                self.errors.append(error)


@pytest.fixture
def scratch(database: Database) -> Cleaner:
    """The engine on an empty database, with whichever driver it takes."""
    return Cleaner(database)


def fill(cleaner: Cleaner, share: int) -> None:
    """Make a table of which one row in `share` has expired, with one row in another table that refers to each of the first half."""
    cleaner.sql("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, deleted_at timestamptz, used int, pad text DEFAULT repeat('x', 60))")
    cleaner.sql(
        "INSERT INTO t SELECT n, CASE WHEN n %% %s = 0 THEN now() - n * interval '1 s' ELSE 'infinity' END"
        " FROM generate_series(1, %s) AS n",
        [share, ROWS],
    )
    cleaner.sql("CREATE INDEX ON t (at); CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE, used int); CREATE INDEX ON child (id)")
    cleaner.sql("INSERT INTO child SELECT id FROM t WHERE id <= %s", [ROWS // 2])


@contextmanager
def application(cleaner: Cleaner, turn: Callable[[Any, random.Random], None], sessions: int = 8) -> Iterator[Seen]:
    """Let sessions take their turns, each a transaction, during the block; every statement of theirs is noted."""
    stop, seen = threading.Event(), Seen()

    def body(number: int) -> None:
        dice = random.Random(number)
        with cleaner.database.connect() as session:
            session.execute(LONGEST)
            noted = Noted(session, seen)
            while not stop.is_set():
                try:
                    with session.transaction():
                        turn(noted, dice)
                except psycopg.Error:
                    pass  # noted with its statement

    threads = [threading.Thread(target=body, args=(number,)) for number in range(sessions)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


class Noted:
    """A session that notes each statement."""

    def __init__(self, session: Any, seen: Seen) -> None:
        self.session, self.seen = session, seen

    def run(self, statement: str, parameters: Any = None) -> None:
        failed = None
        try:
            self.session.execute(statement, parameters)
        except psycopg.Error as error:
            failed = error
            raise
        finally:
            self.seen.note(failed)


def mixed(session: Noted, dice: random.Random) -> None:
    """Use some rows in the order of their ids, expired or not, as an application would that avoids deadlocks; hold them for a moment."""
    *used, gone = sorted(dice.sample(range(1, ROWS + 1), 5))
    for number in used:
        session.run("UPDATE t SET used = coalesce(used, 0) + 1 WHERE id = %s", [number])
    if dice.random() < 0.3:
        session.run("INSERT INTO t (id, at) VALUES (%s, now() - interval '1 h') ON CONFLICT DO NOTHING", [ROWS + dice.randrange(10**8)])
    if dice.random() < 0.3:
        session.run("DELETE FROM t WHERE id = %s", [gone])
    time.sleep(dice.uniform(0, 0.02))


@pytest.mark.parametrize(
    ("more", "share", "batch_rows"), [({}, 2, 500), (ARCHIVE, 2, 500), (MARK, 2, 500), (ARCHIVE, 25, 100), (ARCHIVE, 2, 60)], ids=str
)
def test_no_statement_of_an_application_fails_or_waits(
    scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], share: int, batch_rows: int
) -> None:
    fill(scratch, share)
    for name, number in SMALL.items():
        monkeypatch.setattr(walk, name, number)
    rules = [rule("t", "at", **more)]
    with application(scratch, mixed) as seen:
        time.sleep(0.1)
        result = scratch.run(rules, batch_rows=batch_rows, vacuum="never")
    assert [str(error) for error in seen.errors] == []
    assert seen.statements > 100
    assert result["stopped"] in ("done", "locked")
    again = scratch.run(rules, vacuum="never")
    assert (again["stopped"], again["remaining"]) == ("done", 0)
    if more is ARCHIVE:
        assert scratch.sql("SELECT count(*) FROM t JOIN kept USING (id)") == [(0,)]
        assert scratch.sql("SELECT count(*) - count(DISTINCT id) FROM kept") == [(0,)]
        assert result["archived"] + again["archived"] == scratch.count("kept")


def children_first(session: Noted, dice: random.Random) -> None:
    """Use a child, then its parent: the other way round than a cascade does."""
    number = dice.randrange(1, ROWS // 2 + 1)
    session.run("UPDATE child SET used = 1 WHERE id = %s", [number])
    time.sleep(dice.uniform(0, 0.02))
    session.run("UPDATE t SET used = 1 WHERE id = %s", [number])


@pytest.mark.parametrize("batch_rows", [500, 40])
def test_an_application_that_meets_a_cascade_the_other_way_round_is_no_victim(
    scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    fill(scratch, 2)
    for name, number in SMALL.items():
        monkeypatch.setattr(walk, name, number)
    rules = [rule("t", "at")]
    with application(scratch, children_first) as seen:
        time.sleep(0.1)
        result = scratch.run(rules, batch_rows=batch_rows, vacuum="never")
    assert [str(error) for error in seen.errors] == []
    assert result["stopped"] in ("done", "locked")
    assert scratch.run(rules, vacuum="never")["stopped"] == "done"


def test_an_application_that_holds_a_child_for_long_does_not_wait_for_its_parent(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the victim of the deadlock, had the batch waited for longer than a server waits before it looks for one."""
    fill(scratch, 2)
    rules = [rule("t", "at")]
    with scratch.database.connect() as app, application(scratch, lambda _session, _dice: time.sleep(0.01), 1):
        app.execute("BEGIN")
        app.execute("UPDATE child SET used = 1 WHERE id = 4")
        given: dict[str, Any] = {}
        thread = threading.Thread(target=lambda: given.update(scratch.run(rules, batch_rows=100, vacuum="never")))
        thread.start()
        time.sleep(1.5)
        app.execute(LONGEST)
        app.execute("UPDATE t SET used = 1 WHERE id = 4")
        app.execute("COMMIT")
        thread.join(30)
    assert given["stopped"] in ("done", "locked")
    assert scratch.run(rules, vacuum="never")["stopped"] == "done"
