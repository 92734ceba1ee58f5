"""What cuts a run short: a lost connection, a timeout, a lock, a full disk. Nothing is lost, and the next run does the rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import counting, vacuum
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.report import Interrupted
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from tests.ground import process
from tests.ground.databases import Database
from tests.integration.children import until
from tests.integration.cleaning import Cleaner
from tests.integration.cleanup_scene import DROP, EVERY, SPREAD, Scene, before_batch, let_be, on_row

pytestmark = pytest.mark.any_driver

BLOCK = 8192
WAL_SEGMENT = 16 * 1024 * 1024


@pytest.fixture
def scratch(database: Database) -> Cleaner:
    """The engine on an empty database, with whichever driver it takes."""
    return Cleaner(database)


def end(session: Any) -> None:
    """End the session as an administrator would."""
    session.execute("SELECT pg_terminate_backend(pg_backend_pid())")


# --- the connection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "way"), [*SPREAD, (DROP, "pick")])
def test_lost_between_two_batches(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(cleaner, action, way, monkeypatch, batch_rows=50)
    before_batch(monkeypatch, 3, end)
    error = scene.broken()
    assert (error.result["stopped"], error.result["changed"]) == ("error", True)
    scene.finish()


@pytest.mark.parametrize(("action", "way"), EVERY)
def test_lost_in_a_batch(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    on_row(scene, "PERFORM pg_terminate_backend(pg_backend_pid())")
    error = scene.broken()
    assert error.result["changed"] is True
    assert "; if the server crashed, the last of them may be back" in error.message
    let_be(scene)
    scene.finish()


@pytest.mark.parametrize("action", ["archive", DROP])
def test_lost_in_the_plan(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    scene = Scene(cleaner, action)
    count = counting._counted

    def lost(database: Any, *given: Any) -> Any:
        end(database)
        return count(database, *given)

    monkeypatch.setattr(counting, "_counted", lost)
    with pytest.raises(DatabaseError) as caught:
        scene.run()
    assert not isinstance(caught.value, Interrupted)
    monkeypatch.undo()
    assert (scene.archived(), scene.left()) == ([], scene.expired)
    scene.finish()


@pytest.mark.parametrize("statement", ["VACUUM", "ANALYZE"])
def test_lost_in_the_vacuum(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    scene = Scene(cleaner, "archive")
    monkeypatch.setattr(vacuum, "LEAST_ROWS", 1)
    run = vacuum._run

    def lost(database: Any, what: Any, *given: Any) -> Any:
        if database._rendered(what, False).startswith(statement):
            end(database)
        return run(database, what, *given)

    monkeypatch.setattr(vacuum, "_run", lost)
    error = scene.broken(vacuum="auto")
    assert (error.result["removed"], error.result["remaining"]) == (len(scene.expired), 0)
    monkeypatch.undo()
    assert scene.finish(vacuum="auto")["changed"] is False


def test_lost_while_it_pauses(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(cleaner, "archive", "pages", monkeypatch)
    on_row(scene, "PERFORM pg_sleep(0.4)")
    with cleaner.database.connect() as holder:
        holder.execute("BEGIN; SELECT txid_current()")
        with scene.running(throttle={"oldest_transaction": "300 ms", "max_pause": "20 s"}) as given:
            named = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%% pauses: oldest_%%'"
            ((pid,),) = until(lambda: cleaner.sql(named))
            cleaner.sql("SELECT pg_terminate_backend(%s)", [pid])
    assert isinstance(given["error"], Interrupted)
    scene.require_nothing_lost(given["error"].result)
    assert given["error"].result["throttle"]["reasons"][0]["what"] == "oldest_transaction"
    let_be(scene)
    scene.finish()


# --- time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "way"), EVERY)
def test_a_batch_that_takes_too_long(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    on_row(scene, "PERFORM pg_sleep(60)")
    # Not before: the plan takes as long as a busy machine needs.
    before_batch(monkeypatch, 1, lambda session: session.execute("SET statement_timeout = '400ms'"))
    error = scene.broken()
    assert (error.sqlstate, error.result["changed"]) == ("57014", True)
    assert ", which stay " in error.message
    let_be(scene)
    scene.finish()


def test_a_plan_that_takes_too_long(scratch: Cleaner) -> None:
    scene = Scene(scratch, "archive")
    with scratch.database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseError) as caught:
            scene.run(login={"statement_timeout": "300 ms"})
    assert caught.value.sqlstate == "57014"
    scene.finish()


# --- locks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["public.t", "public.kept"])
@pytest.mark.parametrize("way", ["pages", "index", "pick"])
def test_a_table_that_somebody_locks_half_way(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str, table: str) -> None:
    scene = Scene.small(scratch, "archive", way, monkeypatch)
    with scratch.database.connect() as holder:
        before_batch(monkeypatch, 2, lambda _session: holder.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE"))
        error = scene.broken(login={"lock_timeout": "200 ms"})
        holder.execute("ROLLBACK")
    assert (error.sqlstate, error.result["archived"] > 0) == ("55P03", True)
    # The server does not say which of the two it was.
    assert "public.t" in error.message
    assert "public.kept" in error.message
    scene.finish()


@pytest.mark.parametrize("action", ["delete", "soft_delete", "purge"])
def test_a_table_that_is_locked_as_a_whole(scratch: Cleaner, action: str) -> None:
    scene = Scene(scratch, action)
    with scratch.database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        error = scene.broken(login={"lock_timeout": "200 ms"})
    assert (error.sqlstate, error.result["changed"]) == ("55P03", False)
    scene.finish()


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS SHARE"])
def test_a_partition_that_is_locked_is_left(scratch: Cleaner, mode: str) -> None:
    scene = Scene(scratch, DROP)
    with scratch.database.connect() as holder:
        holder.execute(f"BEGIN; LOCK TABLE t2012 IN {mode} MODE")
        result = scene.run(login={"lock_timeout": "200 ms"})
        scene.require_nothing_lost(result)
        assert (result["stopped"], result["remaining"]) == ("locked", 50)
        assert scene.left() == scene.ids("t2012")
    scene.finish()


@pytest.mark.parametrize(("action", "way"), EVERY)
def test_rows_that_somebody_holds_are_left(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, action: str, way: str) -> None:
    scene = Scene.small(scratch, action, way, monkeypatch)
    held = scene.expired[5 :: len(scene.expired) // 6]
    with scratch.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM t WHERE id = ANY (%s) FOR UPDATE", [held])
        began = time.monotonic()
        result = scene.run(login={"lock_timeout": "60 s"})
        assert time.monotonic() - began < 30
        assert (result["stopped"], result["remaining"], result["rules"][0]["skipped_locked"]) == ("locked", len(held), len(held))
        scene.require_nothing_lost(result)
        assert scene.left() == held
    scene.finish()


def test_a_row_that_the_archive_has_already(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    scratch.sql("CREATE TABLE kept (LIKE t, PRIMARY KEY (id))")
    twice = scene.expired[-1]
    before_batch(monkeypatch, 2, lambda _session: scratch.sql("INSERT INTO kept (id) VALUES (%s)", [twice]))
    with pytest.raises(Interrupted, match=r"public\.kept") as caught:
        scene.run()
    assert (caught.value.sqlstate, caught.value.object_name) == ("23505", "public.kept")
    scratch.sql("DELETE FROM kept WHERE id = %s AND at IS NULL", [twice])
    scene.require_nothing_lost(caught.value.result)
    scene.finish()


def test_an_archive_in_which_somebody_inserts_the_same_row_at_the_same_time(scratch: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.small(scratch, "archive", "pages", monkeypatch)
    scratch.sql("CREATE TABLE kept (LIKE t, PRIMARY KEY (id))")
    with scratch.database.connect() as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO kept (id) VALUES (%s)", [scene.expired[-1]])
        error = scene.broken(login={"lock_timeout": "200 ms"})
        assert error.sqlstate == "55P03"
        other.execute("ROLLBACK")
    scene.finish()


# --- the disk -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(scratch: Cleaner) -> Callable[[Scene, Any], None]:
    """A function that leaves the session no room for another page in the archive, as a full disk would."""
    if scratch.sql("SHOW block_size") != [(str(BLOCK),)]:
        pytest.skip("the server has pages of another size")
    program = shutil.which("prlimit")
    if program is None:
        pytest.skip("prlimit (util-linux) is not installed, and nothing else here makes a disk full")

    def limit(scene: Scene, session: Any) -> None:
        # The same limit is on the files of the WAL, which must be written whole.
        scene.cleaner.sql(f"ALTER TABLE {scene.kept} ALTER pad SET STORAGE PLAIN")
        pages = f"SELECT 0, repeat('x', 8110) FROM generate_series(1, {WAL_SEGMENT // BLOCK})"
        scene.cleaner.sql(f"INSERT INTO {scene.kept} (id, pad) {pages}")
        ((size,),) = scene.cleaner.sql("SELECT pg_relation_size(%s)", [scene.kept])
        assert size >= WAL_SEGMENT
        # A page that is only half written is what the server takes for a full disk.
        most = size + BLOCK // 2
        # By the account of the server, which may do that to its own processes, while root without all its powers may not.
        cluster = scene.cleaner.database.cluster
        done = process.run([program, "--pid", str(session.backend_pid), f"--fsize={most}:{most}"], cluster.folder)
        assert done.returncode == 0, done.stderr

    return limit


@pytest.mark.parametrize("way", ["pages", "index", "pick"])
def test_a_disk_that_is_full_keeps_the_rows_where_they_are(
    scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, way: str, full_disk: Callable[[Scene, Any], None]
) -> None:
    scene = Scene.small(scratch, "archive", way, monkeypatch, batch_rows=40)
    scratch.sql("CREATE TABLE kept (LIKE t)")
    before_batch(monkeypatch, 2, lambda session: full_disk(scene, session))
    with pytest.raises(Interrupted) as caught:
        scene.run()
    error = caught.value
    # Newer servers try the other half again, and are told that the file is too large.
    assert error.sqlstate in ("53100", "XX000")
    assert "could not extend file" in error.message
    assert "public.t" in error.message
    assert "public.kept" in error.message
    assert ("Make room" if error.sqlstate == "53100" else "free disk space") in str(error.hint)
    scratch.sql("DELETE FROM kept WHERE id = 0")
    scene.require_nothing_lost(error.result)
    assert error.result["archived"] > 0
    scene.finish()


def test_a_session_without_room_for_the_archive_still_says_what_is_safe(
    scratch: Cleaner, monkeypatch: pytest.MonkeyPatch, full_disk: Callable[[Scene, Any], None]
) -> None:
    scene = Scene(scratch, "archive", batch_rows=100)
    scratch.sql("CREATE TABLE kept (LIKE t)")
    options = _cleanup.read_options({"rules": scene.rules, **scene.parameters})
    with scratch.open() as session:
        full_disk(scene, session)
        with pytest.raises(Interrupted, match=", which stay removed"):
            _cleanup.clean_up(session, options, check_mode=False)
        assert not session.closed
    scratch.sql("DELETE FROM kept WHERE id = 0")
    scene.finish()
