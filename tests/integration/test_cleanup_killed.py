"""A run that is killed, and a server that crashes: no row is lost or in two places, and what was reported as done is done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import commits
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.report import Interrupted
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.children import until
from tests.integration.cleaning import Cleaner
from tests.integration.cleanup_scene import DROP, EVERY, SPREAD, Scene, before_batch, held_up, leaping, let_be, on_row

pytestmark = pytest.mark.any_driver

AT_WORK = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgops.runbook/%'"
ASLEEP = AT_WORK + " AND wait_event = 'PgSleep'"


@pytest.fixture
def scratch(database: Database) -> Cleaner:
    """The engine on an empty database, with whichever driver it takes: nothing here depends on it."""
    return Cleaner(database)


# --- the client ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "way"), EVERY)
def test_killed_in_a_batch_and_run_again(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    with held_up(scene):
        process = scene.start()
        until(lambda: scratch.sql(ASLEEP))
        # It was in the middle: some batches are done.
        assert 0 < len(scene.left()) < len(scene.expired)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        scene.require_nothing_lost()
    until(lambda: not scratch.sql(AT_WORK))
    scene.require_nothing_lost()
    let_be(scene)
    scene.finish()


@pytest.mark.parametrize(("action", "way"), [("archive", "pages"), ("archive", "index"), (DROP, "pick")])
def test_killed_at_any_moment_again_and_again(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch, batch_rows=20)
    if action != DROP:
        on_row(scene, "PERFORM pg_sleep(0.002)", "true")
    dice, moments, last = random.Random(7), set(), scene.expired[-1]
    with scratch.database.connect() as holder:
        # However late the first of them is killed, something is left to the second.
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE t2017 IN ACCESS SHARE MODE" if action == DROP else f"SELECT FROM t WHERE id = {last} FOR UPDATE")
        for kill in range(5):
            before = len(scene.left())
            process = scene.start()
            if kill % 2:
                # A busy machine may still be planning after all that time.
                until(partial(_has_begun, scene, before, process))
            time.sleep(dice.uniform(0.01, 0.25))
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            scene.require_nothing_lost()
            moments.add(len(scene.left()))
            until(lambda: not scratch.sql(AT_WORK))
            if kill == 0:
                holder.execute("ROLLBACK")
    # Some were killed half way, or the moments say nothing.
    assert len(moments) > 1
    let_be(scene)
    scene.finish()


def test_what_a_killed_run_left_at_work_is_named_and_goes_by_itself(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    on_row(scene, "PERFORM pg_sleep(30)")
    process = scene.start()
    ((pid,),) = until(lambda: scratch.sql(ASLEEP))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    with pytest.raises(Busy, match=f"pid {pid}, pgops.runbook/pg_cleanup"):
        scene.run()
    if scratch.sql("SHOW server_version_num")[0][0] < "140000":
        scratch.sql("SELECT pg_terminate_backend(%s)", [pid])  # an older server notices at the end of the statement
    began = time.monotonic()
    until(lambda: not scratch.sql(AT_WORK))
    assert time.monotonic() - began < 10
    let_be(scene)
    scene.finish()


def _has_begun(scene: Scene, before: int, process: subprocess.Popen[str]) -> bool:
    return len(scene.left()) < before or process.poll() is not None


def test_killed_while_the_plan_is_made(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    with scratch.database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        process = scene.start()
        until(lambda: scratch.sql(AT_WORK + " AND wait_event_type = 'Lock'"))
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        holder.execute("ROLLBACK")
    until(lambda: not scratch.sql(AT_WORK))
    assert (scene.archived(), scene.left()) == ([], scene.expired)
    scene.finish()


# --- the server ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frail(installation: Installation) -> Iterator[Cluster]:
    """A server that writes its WAL to the disk when a commit asks for it, and hardly ever by itself."""
    late = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "wal_buffers": "32MB", "checkpoint_timeout": "1h"}
    with Cluster(installation, settings={"autovacuum": "off", **late}) as server:
        yield server


@pytest.fixture
def crashing(frail: Cluster, request: pytest.FixtureRequest) -> Iterator[Cleaner]:
    """The engine on a database of that server."""
    with Database.create(frail, f"crash_{abs(hash(request.node.nodeid))}") as made:
        yield Cleaner(made)
        if frail.pid is None:
            frail.start()


def settle(scene: Scene) -> None:
    """Have everything on the disk that was done so far."""
    scene.cleaner.sql("CHECKPOINT")


def set_system(session: Any, statement: str) -> None:
    """Change a setting of the server, for all sessions."""
    session.execute(statement)
    session.execute("SELECT pg_reload_conf()")


def until_commits_wait(cleaner: Cleaner) -> None:
    """Return when commits wait for a standby: the process of the server that tells them to learns of the setting some time later."""
    over = threading.Event()

    def commit(session: Any) -> None:
        while not over.is_set():
            session.execute("SELECT pg_logical_emit_message(true, 'test', '')")

    with cleaner.database.connect() as probe:
        thread = threading.Thread(target=commit, args=(probe,))
        thread.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"
        try:
            until(lambda: cleaner.sql(waits, [probe.info.backend_pid]))
        finally:
            over.set()
            probe.cancel()
            thread.join()


def kill(server: Cluster) -> None:
    """End every process of a server at once, with no chance to write anything."""
    main = server.pid
    assert main is not None
    children = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _parent(path) == main]
    for pid in (main, *children):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() and _parent(Path(f"/proc/{pid}")) for pid in children))
    server.crash()


def _parent(process: Path) -> int:
    """Return the parent of a process, 0 for one that has ended."""
    try:
        after = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if after[0] in "ZX" else int(after[1])


@pytest.mark.parametrize("end", [Cluster.crash, kill])
@pytest.mark.parametrize(("action", "way"), SPREAD)
def test_a_crash_between_batches_gives_back_whole_batches(
    crashing: Cleaner, frail: Cluster, monkeypatch: pytest.MonkeyPatch, action: str, way: str, end: Any
) -> None:
    scene = Scene.small(crashing, action, way, monkeypatch)
    settle(scene)
    before_batch(monkeypatch, 4, lambda _session: end(frail))
    with pytest.raises(Interrupted) as caught:
        scene.run()
    monkeypatch.undo()
    frail.start()
    result = caught.value.result
    done = result["marked"] + result["removed"]
    assert done > 0
    # Commits did not wait for the disk, and these were lost: without that, the test says nothing.
    assert len(scene.left()) > len(scene.expired) - done
    assert "the last of them may be back" in caught.value.message
    scene.require_nothing_lost(result, again=done)
    scene.finish()


@pytest.mark.parametrize(("action", "way"), [*SPREAD, (DROP, "pick")])
def test_what_a_run_reports_as_done_outlives_a_crash(
    crashing: Cleaner, frail: Cluster, monkeypatch: pytest.MonkeyPatch, action: str, way: str
) -> None:
    scene = Scene.small(crashing, action, way, monkeypatch)
    settle(scene)
    result = scene.run()
    kill(frail)
    frail.start()
    assert result["stopped"] == "done"
    assert scene.left() == []
    scene.require_nothing_lost(result)


def test_what_an_error_reports_as_done_outlives_a_crash(crashing: Cleaner, frail: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(crashing, "archive", "pages", monkeypatch)
    on_row(scene, "RAISE 'no'")
    settle(scene)
    with pytest.raises(Interrupted, match="which stay removed") as caught:
        scene.run()
    kill(frail)
    frail.start()
    assert caught.value.result["removed"] > 0
    scene.require_nothing_lost(caught.value.result)
    let_be(scene)
    scene.finish()


def test_what_a_bounded_run_reports_as_done_outlives_a_crash(crashing: Cleaner, frail: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(crashing, "delete", "pages", monkeypatch)
    let_pass = leaping(monkeypatch)
    before_batch(monkeypatch, 2, lambda _session: let_pass(3600))
    settle(scene)
    result = scene.run(max_runtime="1 h")
    monkeypatch.undo()
    kill(frail)
    frail.start()
    assert (result["stopped"], result["removed"] > 0, result["remaining"] > 0) == ("max_runtime", True, True)
    scene.require_nothing_lost(result)
    scene.finish()


def test_batches_do_not_wait_for_a_standby_and_the_end_does(crashing: Cleaner, frail: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(crashing, "archive", "pages", monkeypatch)
    names = "synchronous_standby_names"
    with crashing.database.connect(options="-c synchronous_commit=local") as boss:
        set_system(boss, f"ALTER SYSTEM SET {names} = 'nobody'")
        try:
            until_commits_wait(crashing)
            with scene.running() as given:
                try:
                    until(lambda: crashing.sql(AT_WORK + " AND wait_event = 'SyncRep'"))
                    assert scene.left() == []
                    assert given == {}
                finally:
                    set_system(boss, f"ALTER SYSTEM RESET {names}")
        finally:
            set_system(boss, f"ALTER SYSTEM RESET {names}")
    assert given["result"]["archived"] == len(scene.expired)


def test_the_setting_of_the_session_is_what_it_was(scratch: Cleaner) -> None:
    with scratch.open() as session:
        session.execute("SET synchronous_commit TO local")
        for error in (None, ValueError):
            try:
                with commits.together(session):
                    assert session.value("SHOW synchronous_commit") == "off"
                    if error:
                        raise error
            except ValueError:
                pass
            assert session.value("SHOW synchronous_commit") == "local"


def test_a_role_that_may_not_write_the_message_waits_with_each_commit(scratch: Cleaner) -> None:
    role = f"mute_{scratch.database.name}"
    scratch.sql(f"CREATE ROLE {role} LOGIN")
    call = "(boolean, text, text, boolean)" if scratch.sql("SHOW server_version_num")[0][0] >= "170000" else "(boolean, text, text)"
    scratch.sql(f"REVOKE EXECUTE ON FUNCTION pg_logical_emit_message{call} FROM PUBLIC")
    try:
        with scratch.open(login_user=role) as session, commits.together(session):
            assert session.value("SHOW synchronous_commit") == "on"
    finally:
        scratch.sql(f"DROP ROLE {role}")
