"""A restore that is ended anywhere leaves the target as it was, and nothing that the next one does not drop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases, whole
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions
from tests.ground import runner, servers
from tests.ground.account import server_account
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring
from tests.integration.children import processes, standing_still, until
from tests.integration.handmade import rewritten
from tests.integration.small_disks import small_disk

ROOT = Path(__file__).resolve().parents[2]
COUNT = "SELECT count(*), sum(n) FROM t"
SCRIPT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils._backup.interrupt import taking_back
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._restore import engine
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import read_options
given = json.loads(sys.argv[2])
with taking_back():
    engine.restore(ConnectionOptions.from_params(given["login"]), read_options(given["options"]), check_mode=False)
print("done")
"""


# A function that waits as long as there is a file in the folder of the server that is called after the first word of the statement,
# or after the session: rows of the table that ask it hold COPY, CREATE INDEX and ANALYZE.
WAITING = """
CREATE FUNCTION held(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    WHILE (pg_stat_file('held.' || split_part(current_query(), ' ', 1), true)).size IS NOT NULL
        OR (pg_stat_file('held.' || pg_backend_pid(), true)).size IS NOT NULL LOOP
        PERFORM pg_sleep(0.005);
    END LOOP;
    RETURN n;
END $$;
CREATE TABLE t (n integer, x text, CONSTRAINT holds CHECK (n <> 7 OR public.held(n) = 7));
INSERT INTO t SELECT n, repeat(md5(n::text), 3) FROM generate_series(1, 60000) n;
CREATE INDEX held_too ON t (public.held(n)) WHERE n <= 400;
"""


@pytest.fixture(scope="module")
def live(cluster: Cluster) -> Iterator[Database]:
    """A database whose restore can be held."""
    with Database.create(cluster, "interrupted") as made:
        made.query(WAITING)
        yield made


@contextmanager
def held(cluster: Cluster, *names: str | int) -> Iterator[None]:
    """Hold the statements that begin so, or these sessions, until the end of the block."""
    files = [cluster.data / f"held.{name}" for name in names]
    for file in files:
        file.touch()
    try:
        yield
    finally:
        for file in files:
            file.unlink()


@pytest.fixture(scope="module")
def backup(live: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it."""
    return backing.made(live, tmp_path_factory.mktemp("backups"), compression="zstd")


@pytest.fixture
def target(live: Database) -> Iterator[Database]:
    """What is restored; all that is there after the test goes."""
    with restoring.passing(live.cluster):
        yield Database(live.cluster, "interrupted_again")


def started(live: Database, backup: Path, target: str) -> subprocess.Popen[str]:
    """Start a restore in a process of its own."""
    options = {"folder": str(backup.parent), "target": target, "bin_dir": backing.bin_dir(), "jobs": 2}
    given = json.dumps({"login": live.login(), "options": options})
    path = json.dumps([str(ROOT), str(runner.collections_path())])
    return subprocess.Popen([sys.executable, "-c", SCRIPT, path, given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


WORKING = r"SELECT pid FROM pg_stat_activity WHERE datname LIKE 'pgops\_restore\_%%' AND query LIKE %s AND state = 'active'"


def at_work(live: Database, name: str = "%") -> list[int]:
    """Return the sessions that are at work in hidden databases, on a statement that looks like `name`."""
    with live.connect(dbname="postgres") as connection:
        return [pid for (pid,) in connection.execute(WORKING, [name]).fetchall()]


def programs(backup: Path) -> list[str]:
    """Return the programs that work on a backup or what was unpacked of it."""
    commands = (process.arguments.replace(b"\0", b" ").decode("utf-8", "replace") for process in processes())
    return [command for command in commands if "pg_restore" in command and str(backup.parent) in command]


def killed(live: Database, backup: Path, target: str, hold: str, moment: Callable[[], object]) -> None:
    """Kill a restore, whose statements that begin with `hold` do not end before that, in a moment."""
    with held(live.cluster, hold), started(live, backup, target) as process:
        until(moment)
        process.kill()


def killed_as_it_compares(live: Database, backup: Path, target: str) -> None:
    """Kill a restore whose session that compares stands still meanwhile; what was over before that begins again."""
    for _attempt in range(20):
        with live.connect(dbname="postgres") as probe, started(live, backup, target) as process:
            seen: list[int] = []
            while not seen and process.poll() is None:
                seen = [pid for (pid,) in probe.execute(WORKING, ["%record_send%"]).fetchall()]
            with standing_still(seen):
                process.kill()
        if seen and process.wait() == -signal.SIGKILL and not restoring.databases(live.cluster) & {target}:
            return
        live.cluster.drop_database(target)
    pytest.fail("no restore was seen as it compared")


MOMENTS: dict[str, Callable[[Database, Path, str], None]] = {
    "it has made the database": lambda live, *given: killed(live, *given, "COPY", lambda: restoring.hidden(live.cluster)),
    "it loads rows": lambda live, *given: killed(live, *given, "COPY", lambda: at_work(live, "COPY %")),
    "it builds an index": lambda live, *given: killed(live, *given, "CREATE", lambda: at_work(live, "CREATE INDEX %")),
    "it compares": killed_as_it_compares,
    "it analyzes": lambda live, *given: killed(live, *given, "ANALYZE", lambda: at_work(live, "ANALYZE%")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(live: Database, backup: Path, target: Database, moment: str) -> None:
    MOMENTS[moment](live, backup, target.name)
    assert not restoring.databases(live.cluster) & {target.name}
    until(lambda: not programs(backup))
    until(lambda: not at_work(live))
    left = restoring.hidden(live.cluster)
    assert len(left) == 1
    until(lambda: not restoring.at_work(live.cluster))
    result = restoring.restore(live, backup.parent, target=target.name)
    assert (result["action"], set(result["dropped"])) == ("restored", left)
    assert target.query(COUNT) == live.query(COUNT)
    assert restoring.hidden(live.cluster) == set()
    assert not [path for path in backup.parent.iterdir() if path.name.startswith(".pgops-restore-")]


def test_asked_to_end(live: Database, backup: Path, target: Database) -> None:
    with started(live, backup, target.name) as process, held(live.cluster, "CREATE"):
        until(lambda: at_work(live, "CREATE INDEX %"))
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    assert process.returncode != 0
    assert restoring.databases(live.cluster) & {target.name} == set()
    assert restoring.hidden(live.cluster) == set()
    assert programs(backup) == []


def test_two_at_once(live: Database, backup: Path, target: Database) -> None:
    with started(live, backup, target.name) as process, ExitStack() as first:
        with held(live.cluster, "CREATE"):
            first.enter_context(held(live.cluster, *until(lambda: at_work(live, "CREATE INDEX %"))))
        with pytest.raises(Busy, match="pg_restore"):
            restoring.restore(live, backup.parent, target=target.name)
        # One for another target goes on beside it and takes nothing for a leftover.
        beside = restoring.restore(live, backup.parent, target="interrupted_beside")
        first.close()
        said = process.communicate(timeout=120)
    assert (process.returncode, beside["dropped"], said[0]) == (0, [], "done\n")
    assert target.query(COUNT) == live.query(COUNT)


@contextmanager
def as_it_builds(server: Database, act: Callable[[], object]) -> Iterator[None]:
    """Do something while a restore in this process builds an index, which takes until then."""
    waiting = threading.Event()

    def wait() -> None:
        with held(server.cluster, "CREATE"):
            waiting.set()
            until(lambda: at_work(server, "CREATE INDEX %"))
            act()

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    try:
        yield
    finally:
        thread.join()


def test_the_session_that_watches_is_lost(live: Database, backup: Path, target: Database) -> None:
    """The server ends it while pg_restore works; the hidden database is dropped over a new one."""

    def end_it() -> None:
        with live.connect(dbname="template1") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%pg_restore%' AND datname = 'postgres'"
            )

    with as_it_builds(live, end_it), pytest.raises(RunbookError):
        restoring.restore(backing.login(live, login_db="postgres"), backup.parent, target=target.name)
    assert restoring.databases(live.cluster) & {target.name} == set()
    assert restoring.hidden(live.cluster) == set()


def test_a_session_that_loads_is_lost(live: Database, backup: Path, target: Database) -> None:
    def end_it() -> None:
        with live.connect(dbname="template1") as connection:
            connection.execute(r"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'pgops\_restore\_%'")

    with as_it_builds(live, end_it), pytest.raises(RunbookError, match="pg_restore"):
        restoring.restore(live, backup.parent, target=target.name)
    assert restoring.hidden(live.cluster) == set()


def test_the_server_crashes_and_comes_back(backup: Path, live: Database, installation: servers.Installation) -> None:
    with Cluster(installation, own_identity=True) as server:
        place = Database(server, "postgres")
        with as_it_builds(place, server.crash), pytest.raises(RunbookError) as failed:
            restoring.restore(place, backup.parent, target="again")
        assert "the next run does that" in str(failed.value.hint)
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        server.start()
        assert len(restoring.hidden(server)) <= 1
        result = restoring.restore(place, backup.parent, target="again")
        assert (result["action"], Database(server, "again").query(COUNT)) == ("restored", live.query(COUNT))
        assert restoring.databases(server) == {"again"}


def test_a_swap_that_is_killed_before_its_end_changes_nothing(
    live: Database, backup: Path, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last moment: both names are changed, and the transaction is not yet committed."""
    live.cluster.create_database(target.name)
    target.query("CREATE TABLE mine (n int)")

    def die(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "settle", die)
    with pytest.raises(KeyboardInterrupt):
        restoring.restore(live, backup.parent, mode="swap", target=target.name, replace=target.name)
    assert target.query("SELECT count(*) FROM mine") == [(0,)]
    assert restoring.hidden(live.cluster) == set()


def test_what_only_looks_like_a_leftover_stays(live: Database, backup: Path, target: Database) -> None:
    names = [databases.hidden_name(), databases.hidden_name(), "pgops_restore_me", "pgops_restore_0123456g"]
    for name in names:
        live.cluster.create_database(name)
    with live.connect() as connection:
        connection.execute(f"COMMENT ON DATABASE {names[0]} IS 'mine'")
    # Somebody else's, who had the same idea about names: what a killed run leaves without a comment is empty.
    Database(live.cluster, names[1]).query("CREATE TABLE precious AS SELECT 1 AS n")
    result = restoring.restore(live, backup.parent, target=target.name)
    assert result["dropped"] == []
    assert restoring.databases(live.cluster) >= set(names)


class Interrupted:
    """A session beside which something is done once, after its next question."""

    def __init__(self, session: Any, act: Callable[[], object]) -> None:
        self._session = session
        self._acts = [act]

    def rows(self, *given: Any) -> Any:
        found = self._session.rows(*given)
        while self._acts:
            self._acts.pop()()
        return found


@pytest.mark.parametrize("moment", ["begins", "ends"])
def test_a_run_that_begins_or_ends_just_now_has_left_nothing(live: Database, moment: str) -> None:
    login, hidden = backing.login(live, login_db="postgres"), databases.hidden_name()
    sessions = Sessions(login, "test")
    with sessions.open("postgres") as looking, sessions.open("postgres") as run, restoring.passing(live.cluster):

        def begin() -> None:
            databases.hold(run, hidden)
            live.cluster.create_database(hidden)

        def end() -> None:
            live.cluster.drop_database(hidden)
            databases.let_go(run, hidden)

        if moment == "ends":
            begin()
        assert databases.leftovers(Interrupted(looking, begin if moment == "begins" else end), sessions) == []
        assert databases.leftovers(looking, sessions) == []


def test_a_leftover_with_a_subscription(live: Database, backup: Path, target: Database) -> None:
    """A database with one is not dropped before that is."""
    left = databases.hidden_name()
    live.cluster.create_database(left)
    Database(live.cluster, left).query(
        "CREATE SUBSCRIPTION interrupted_sub CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false, slot_name = 'far')"
    )
    result = restoring.restore(live, backup.parent, target=target.name)
    assert result["dropped"] == [left]


def test_the_disk_of_the_server_is_full(live: Database, tmp_path: Path, installation: servers.Installation) -> None:
    with Database.create(live.cluster, "interrupted_large") as large:
        large.query("CREATE TABLE t AS SELECT n, repeat(md5(n::text), 30) AS x FROM generate_series(1, 10000) n")
        path = backing.made(large, tmp_path)
    rewritten(path, lambda document: document["settings"].update(tablespace="interrupted_space"))
    # A standby of the server, which others may use, would make the same tablespace at the same place.
    with Cluster(installation, own_identity=True) as server, small_disk(server.folder / "disk", 6 << 20) as disk:
        server_account().own(disk)
        place = Database(server, "postgres")
        place.query(f"CREATE TABLESPACE interrupted_space LOCATION '{disk}'")
        with pytest.raises(RunbookError, match=r"No space left|could not extend|could not write"):
            restoring.restore(place, path=str(path), target="again")
        assert restoring.databases(server) == set()
