"""A throttle on a database of its own, and others whom it has to heed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Limits, Throttle
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database as Session
from tests.ground.databases import Database
from tests.integration.children import until

# Nothing but what a test says.
NOTHING: dict[str, Any] = {"replica_lag": None, "oldest_transaction": None, "archive_backlog": None, "blocked_sessions": None}


def only(max_pause: float | None = 20.0, tell: Callable[[str], None] | None = None, **limits: Any) -> Throttle:
    """Return a throttle with these limits and no other."""
    return Throttle(Limits(**{**NOTHING, **limits}, max_pause=max_pause), tell)


def opened(database: Database, **login: Any) -> Session:
    """Return a session of the collection's own."""
    given = ConnectionOptions.from_params({**database.login(tcp=False), **login})
    return connect(given, application_name="pgops.runbook/pg_cleanup", read_only=False)


def never() -> bool:
    """Say that there is time left."""
    return False


def look(throttle: Throttle, session: Session) -> bool:
    """Ask now, however shortly ago that was; True if all is well."""
    throttle._well_at = float("-inf")
    return throttle.wait(session, never)


def glance(throttle: Throttle, session: Session) -> bool:
    """Ask now and pause for nothing; True if all is well."""
    return not throttle._look(session)


def stays_well(throttle: Throttle, session: Session, seconds: float) -> bool:
    """Tell whether nothing is wrong for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not look(throttle, session):
            return False
        time.sleep(0.05)
    return throttle.reasons == []


def reason(throttle: Throttle) -> dict[str, Any]:
    """Return the one cause that there was."""
    (found,) = throttle.reasons
    return found


@contextmanager
def soon(act: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do something in a while, and be sure after the block that it has been done."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  (raised below)
            failed.append(error)

    timer = threading.Timer(seconds, run)
    timer.start()
    try:
        yield
    finally:
        timer.join()
    assert not failed, failed


@contextmanager
def once_told(told: list[str], act: Callable[[], object], what: str = "") -> Iterator[None]:
    """Do something as soon as it is told in the block that `what` is waited for, and be sure after it that it has been done."""
    before = len(told)

    def then() -> None:
        until(lambda: any(what in text for text in told[before:]))
        act()

    with soon(then, 0.0):
        yield


@contextmanager
def after_two_looks(told: list[str], end: Callable[[], object]) -> Iterator[None]:
    """End what is waited for in the block once it has been told twice, a second apart; it is told at most once more."""
    ended: list[int] = []

    def act() -> None:
        until(lambda: len(told) >= 2)
        end()
        ended.append(len(told))

    with soon(act, 0.0):
        yield
    assert len(told) <= ended[0] + 1


@contextmanager
def waiting(database: Database, statement: str, sessions: int = 1, **parameters: Any) -> Iterator[None]:
    """Let so many sessions run a statement that waits until after the block, or is ended by it."""
    opened_sessions = [database.connect(**parameters) for _number in range(sessions)]
    pids = [session.info.backend_pid for session in opened_sessions]

    def run(session: Any) -> None:
        try:
            session.execute(statement)
        except Exception:  # noqa: BLE001  (cancelled after the block)
            session.rollback()

    threads = [threading.Thread(target=run, args=(session,)) for session in opened_sessions]
    for thread in threads:
        thread.start()
    try:
        # It is in the queue for a lock before it says that it waits, and since when.
        asked = """SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE NOT granted AND wait_event_type = 'Lock' AND pid = ANY(%s)"""
        until(lambda: database.query(asked, [pids]) == [(sessions,)])
        yield
    finally:
        for session in opened_sessions:
            session.cancel()
        for thread in threads:
            thread.join(60)
        for session in opened_sessions:
            session.close()
