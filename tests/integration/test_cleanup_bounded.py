"""Runs that end before the work does, and runs beside each other: what is left is said, and the next run does it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import vacuum
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.report import Interrupted
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy
from tests.ground.databases import Database
from tests.integration.children import until
from tests.integration.cleaning import Cleaner
from tests.integration.cleanup_scene import ACTIONS, DROP, SPREAD, Scene, before_batch, leaping, let_be, on_row

pytestmark = pytest.mark.any_driver

EACH = [*ACTIONS, DROP]
BOUNDS = [*SPREAD, (DROP, "pick")]


@pytest.fixture
def scratch(database: Database) -> Cleaner:
    """The engine on an empty database, with whichever driver it takes."""
    return Cleaner(database)


def expect_stopped(scene: Scene, result: dict[str, Any], why: str) -> None:
    """Require that a run stopped in the middle and says how far it came."""
    (row,) = result["rules"]
    assert (result["stopped"], row["stopped"]) == (why, why)
    assert result["remaining"] == row["remaining"] == len(scene.left()) > 0
    assert len(scene.left()) < len(scene.expired)
    scene.require_nothing_lost(result)


# --- time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "way"), BOUNDS)
def test_max_runtime(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch, batch_rows=60)
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 2, lambda _session: let_pass(3600))
    expect_stopped(scene, scene.run(max_runtime="1 h"), "max_runtime")
    scene.finish()


def closing(seconds: float) -> dict[str, Any]:
    """Return a window that closes in so many seconds."""
    now = datetime.now(UTC)
    return {"at": f"{now:%H:%M}", "lasts": f"{round((now.second + now.microsecond / 1e6 + seconds) * 1000)} ms", "time_zone": "UTC"}


@pytest.mark.parametrize(("action", "way"), BOUNDS)
def test_a_window_that_closes(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch, batch_rows=60)
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 2, lambda _session: let_pass(3600))
    expect_stopped(scene, scene.run(window=closing(3600)), "window")
    scene.finish()


@pytest.mark.parametrize("action", EACH)
def test_a_window_that_is_closed_changes_nothing(scratch: Cleaner, action: str) -> None:
    scene = Scene(scratch, action)
    past = datetime.now(UTC) - timedelta(hours=2)
    result = scene.run(window={"at": f"{past:%H:%M}", "lasts": "1 h", "time_zone": "UTC"})
    assert (result["stopped"], result["changed"], result["remaining"]) == ("window", False, len(scene.expired))
    assert (scene.ids("t"), scene.left(), scene.archived()) == (scene.all, scene.expired, [])
    # Not even the archive was made.
    assert scratch.sql("SELECT to_regclass('kept')") == [(None,)]
    scene.finish(window=closing(3600))


def test_time_that_ends_before_the_vacuum(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(scratch, "delete")
    monkeypatch.setattr(vacuum, "LEAST_ROWS", 1)
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 0, lambda _session: let_pass(3600))
    result = scene.run(max_runtime="1 h", batch_rows=100_000, vacuum="auto")
    (row,) = result["rules"]
    assert (result["removed"], result["remaining"], row["vacuumed"][0]["done"]) == (len(scene.expired), 0, False)
    assert "max_runtime" in row["vacuumed"][0]["why"]
    scene.require_nothing_lost(result)


# --- others who suffer --------------------------------------------------------------------------------------------------


@contextmanager
def old_transaction(cleaner: Cleaner) -> Iterator[Any]:
    with cleaner.database.connect() as session:
        session.execute("BEGIN; SELECT txid_current()")
        yield session


@pytest.mark.parametrize(("action", "way"), BOUNDS)
def test_a_pause_that_is_too_long_ends_it(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch, batch_rows=60)
    with old_transaction(scratch) as other:
        other.execute("COMMIT")

        def begin(_session: Any) -> None:
            other.execute("BEGIN; SELECT txid_current()")
            time.sleep(0.4)

        before_batch(monkeypatch, 2, begin)
        result = scene.run(throttle={"oldest_transaction": "200 ms", "max_pause": "300 ms"})
        expect_stopped(scene, result, "throttled")
        assert result["throttle"]["reasons"][0]["what"] == "oldest_transaction"
        assert result["throttle"]["paused_seconds"] > 0.2
    scene.finish()


@pytest.mark.parametrize("action", ["archive", DROP])
def test_a_pause_that_ends_goes_on(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    scene = Scene(scratch, action, batch_rows=100)
    with old_transaction(scratch) as other:
        other.execute("COMMIT")

        def begin(_session: Any) -> None:
            other.execute("BEGIN; SELECT txid_current()")
            time.sleep(0.4)

        before_batch(monkeypatch, 2, begin)
        with scene.running(throttle={"oldest_transaction": "200 ms", "max_pause": "30 s"}) as given:
            named = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%% pauses: oldest_%%'"
            until(lambda: scratch.sql(named))
            assert 0 < len(scene.left()) < len(scene.expired)
            other.execute("COMMIT")
    assert (given["result"]["stopped"], given["result"]["remaining"]) == ("done", 0)
    scene.require_nothing_lost(given["result"])
    assert scene.left() == []


# --- beside each other --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", EACH)
def test_the_second_run_fails_at_once_and_names_the_first(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    scene = Scene(scratch, action, batch_rows=50)
    met: list[tuple[Busy, int, float]] = []

    def another(session: Any) -> None:
        # Whoever waits for a lock does so for a minute, and whoever sleeps is found out.
        began = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it sleeps for {seconds} s"))
            with pytest.raises(Busy) as caught:
                scene.run(login={"lock_timeout": "60 s"})
        met.append((caught.value, session.backend_pid, time.monotonic() - began))

    before_batch(monkeypatch, 3, another)
    result = scene.run()
    ((busy, pid, seconds),) = met
    assert f"pid {pid}, pgops.runbook/pg_cleanup public.t" in busy.message
    assert seconds < 30
    assert (result["stopped"], result["remaining"]) == ("done", 0)
    scene.require_nothing_lost(result)


def test_the_next_run_goes_on_when_the_first_is_lost(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    on_row(scene, "PERFORM pg_sleep(20)")
    asleep = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    with scene.running() as given:
        ((pid,),) = until(lambda: scratch.sql(asleep))
        with pytest.raises(Busy):
            scene.run()
        scratch.sql("SELECT pg_terminate_backend(%s)", [pid])
    assert isinstance(given["error"], Interrupted)
    let_be(scene)
    scene.finish()


def test_runs_on_two_databases_do_not_hinder_each_other(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database.create(scratch.database.cluster, f"{scratch.database.name}_beside") as beside:
        here, there = Scene(scratch, "archive", batch_rows=50), Scene(Cleaner(beside), "archive", batch_rows=50)
        seen: list[dict[str, Any]] = []
        before_batch(monkeypatch, 3, lambda _session: seen.append(there.run()))
        result = here.run()
    assert [(one["stopped"], one["archived"]) for one in (result, *seen)] == [("done", len(here.expired))] * 2
    here.require_nothing_lost(result)
