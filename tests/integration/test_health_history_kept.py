"""Where a history is kept: what goes wrong with a schema or a file costs the run nothing but its place in the history."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health import engine
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.schema_store import PRUNED_AT_ONCE
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import collections_path
from tests.integration.leaving import ended
from tests.integration.remembering import KEEP, SCHEMA, Reading, Runs, bad, changes, in_file
from tests.integration.spending import spending
from tests.integration.watching import create_role, drop_role, eventually, run_script

pytestmark = pytest.mark.any_driver

A = "conn.used_pct"
TABLE = sql.Identifier(SCHEMA, "health_snapshots")
DAY = 86400.0


@pytest.fixture
def runs(database: Database) -> Runs:
    """Runs with a history in a schema."""
    return Runs(database, {"history_schema": SCHEMA})


@pytest.fixture
def watcher(cluster: Cluster, database: Database) -> Iterator[dict[str, str]]:
    """A role that may monitor and nothing else."""
    login = create_role(cluster, "historian", "pg_monitor")
    yield login
    drop_role(cluster, database, "historian")


def not_recorded(result: dict[str, Any]) -> str:
    """Return the one notice of a run that is not recorded, whose result stands."""
    assert result["history"]["recorded"] is False
    assert result["status"] == "warning"
    (notice,) = result["notices"]
    assert notice.startswith(("the run is not recorded: ", "the history in "))
    return str(notice)


def count(database: Database) -> int:
    """Return how many runs are recorded."""
    return int(database.query(sql.SQL("SELECT count(*) FROM {}").format(TABLE))[0][0])


# --- a schema -----------------------------------------------------------------------------------------------------------


def test_the_table_is_made_once_and_each_run_is_a_row(runs: Runs) -> None:
    assert runs({A: bad("one")})["history"] == {
        "kept_in": "schema",
        "place": SCHEMA,
        "previous": None,
        "snapshots": 1,
        "recorded": True,
        "note": "no history yet",
    }
    assert runs({A: bad("one")})["history"]["snapshots"] == 2
    assert count(runs.database) == 2


def test_systems_in_one_database_do_not_mix(database: Database) -> None:
    one, two = (Runs(database, {"history_schema": SCHEMA}, system=name) for name in ("one", "two"))
    one({A: bad("x")})
    assert changes(two({A: bad("x")})) == {f"{A}[x]": None}
    assert changes(one({A: bad("x")})) == {f"{A}[x]": "same"}


def test_a_role_needs_what_the_notice_says_and_no_more(runs: Runs, watcher: dict[str, str]) -> None:
    mine = Runs(runs.database, runs.store, watcher)
    notice = not_recorded(mine({A: bad("one")}))
    assert "permission denied" in notice
    advice = notice.partition("As a superuser: ")[2]
    make, grant = advice.split("; ")[:2]
    run_script(runs.database, f"{make}; {grant.replace('%', '%')}")
    assert mine({A: bad("one")})["history"]["recorded"] is True
    # Its own table is enough from now on.
    with runs.database.connect() as connection:
        connection.execute(sql.SQL("REVOKE CREATE ON SCHEMA {} FROM historian").format(sql.Identifier(SCHEMA)))
    assert changes(mine({A: bad("one")})) == {f"{A}[one]": "same"}


def test_a_table_of_the_administrator_takes_the_rows_of_a_role_that_may(runs: Runs, watcher: dict[str, str]) -> None:
    runs({A: bad("one")})
    mine = Runs(runs.database, runs.store, watcher)
    refused = mine({A: bad("one")})
    notice = not_recorded(refused)
    assert "may not read" in notice
    assert (refused["snapshot"], changes(refused)) == (None, {f"{A}[one]": None})
    grant = notice.partition("where the table is there: ")[2]
    with runs.database.connect() as connection:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO historian").format(sql.Identifier(SCHEMA)))
    run_script(runs.database, grant)
    done = mine({A: bad("one")})
    assert (changes(done), done["history"]["recorded"], done["notices"]) == ({f"{A}[one]": "same"}, True, [])


@pytest.mark.parametrize(
    "trap",
    [
        "ALTER TABLE {} OWNER TO historian",
        "CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$sprung$$; END';"
        " CREATE TRIGGER trap BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION public.trap()",
        "ALTER TABLE {} ENABLE ROW LEVEL SECURITY",
        "DROP TABLE {0}; CREATE VIEW {0} AS SELECT 1 AS id",
    ],
)
def test_a_table_that_could_run_the_code_of_others_is_not_used(runs: Runs, watcher: dict[str, str], trap: str) -> None:
    runs({A: bad("one")})
    with runs.database.connect() as connection:
        connection.execute(sql.SQL(trap).format(TABLE))
    assert "is not used" in not_recorded(runs({A: bad("one")}))


def test_a_table_of_another_shape_is_left_alone(runs: Runs) -> None:
    with runs.database.connect() as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        connection.execute(sql.SQL("CREATE TABLE {} (id int)").format(TABLE))
    assert "is not the table of this module" in not_recorded(runs({A: bad("one")}))


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_a_lock_on_the_table_costs_a_moment_and_no_result(runs: Runs, when: str) -> None:
    first = runs({A: bad("one")})
    holder = runs.database.connect()
    holder.execute("BEGIN")
    lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(TABLE)

    def late(look: Any, limits: Any) -> Any:
        if when == "writing":
            holder.execute(lock)
        return bad("one")

    try:
        if when == "reading":
            holder.execute(lock)
        began = time.monotonic()
        held = runs({A: late})
        assert time.monotonic() - began < 60, "it has waited for the lock's end"
        assert "find it in pg_locks" in not_recorded(held)
    finally:
        holder.close()
    ended(runs.database.cluster)
    # The chain goes on where it was.
    after = runs({A: bad("one")})
    assert (changes(after), after["findings"][0]["first_seen"]) == ({f"{A}[one]": "same"}, first["time"])


def test_a_standby_reads_and_cannot_record(cluster: Cluster, standby: Cluster, runs: Runs) -> None:
    runs({A: bad("one")})
    cluster.wait_for(standby)
    other = Runs(runs.database, runs.store, standby.login(runs.database.name, tcp=False))
    result = other({A: bad("one")})
    assert "a standby takes no writes. Keep the history of a standby in a file" in not_recorded(result)
    assert result["history"]["note"].startswith("no history yet of this server")
    assert count(runs.database) == 1


def test_a_connection_that_is_lost_or_refused_at_the_end_loses_the_record_alone(runs: Runs) -> None:
    runs({A: bad("one")})

    def last_slot(look: Any, limits: Any) -> Any:
        name = sql.Identifier(runs.database.name)
        with runs.database.cluster.connect() as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        return bad("one")

    try:
        notice = not_recorded(runs({A: last_slot}))
        assert "not currently accepting connections" in notice
    finally:
        with runs.database.cluster.connect() as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(runs.database.name)))

    def ending(look: Any, limits: Any) -> Any:
        with runs.database.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (look.database.backend_pid,))
        look.rows("SELECT 1")
        return bad("one")

    lost = runs({A: ending})
    assert lost["status"] == "critical"
    # What was seen until then is compared, and the loss itself is recorded.
    assert (lost["history"]["recorded"], lost["resolved"]) == (True, [])
    assert changes(runs({A: bad("one")})) == {f"{A}[one]": "same"}


def test_a_synchronous_standby_that_is_gone_does_not_hold_the_run_up(cluster: Cluster, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HISTORY_TIMEOUT", "2 min")
    runs({A: bad("one")})
    with cluster.connect() as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("SELECT pg_reload_conf()")
    try:
        eventually(lambda: runs.database.query("SHOW synchronous_standby_names") == [("nobody",)])
        began = time.monotonic()
        assert runs({A: bad("one")}, history_keep="1 ms")["notices"] == []
        assert Runs(runs.database, {"history_schema": "second"})({A: bad("one")})["history"]["recorded"] is True
        assert time.monotonic() - began < 60, "it has waited for the standby"
    finally:
        with cluster.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")


def test_old_runs_go_in_batches(runs: Runs) -> None:
    runs({A: bad("one")})
    fill = sql.SQL(
        "INSERT INTO {0} (taken_at, system, tier, status, shape, charted, snapshot) SELECT taken_at - n * interval '1 day', system, tier,"
        " status, shape, charted, snapshot FROM {0}, generate_series(1, 1100) AS n"
    ).format(TABLE)
    with runs.database.connect() as connection:
        connection.execute(fill)
    runs({A: bad("one")})
    assert count(runs.database) == 1102 - PRUNED_AT_ONCE
    runs({A: bad("one")})
    assert count(runs.database) == 402, "399 of the last 400 days, and three runs"
    runs({A: bad("one")}, history_keep="10 days")
    assert changes(runs({A: bad("one")}, history_keep="10 days")) == {f"{A}[one]": "same"}


def test_runs_at_once_are_all_recorded(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the very first ones, each of which would make the table."""
    # The wait callback of psycopg2, set for each statement, is one for the whole process: threads of one process would share it.
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    results: list[dict[str, Any]] = []
    gate = threading.Barrier(4)

    def together(look: Any, limits: Any) -> Any:
        gate.wait(30)
        return bad("one")

    threads = [threading.Thread(target=lambda: results.append(runs({A: together}))) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["notices"] for result in results] == [[]] * 4
    assert count(runs.database) == 4


def test_reading_many_runs_is_quick_and_bounded(runs: Runs) -> None:
    metrics = {f"seq.exhaustion[s{n}]": n / 7 for n in range(30)} | {f"conn.states[{n}]": 1.5 for n in range(5)} | {"size.database": 1e9}
    runs({A: [*bad(*map(str, range(20))), Reading("fine", metrics=metrics)]})
    fill = sql.SQL(
        "INSERT INTO {0} (taken_at, system, tier, status, shape, charted, snapshot) SELECT taken_at - n * interval '1 hour', system, tier,"
        " status, shape, charted, snapshot FROM {0}, generate_series(1, 5000) AS n"
    ).format(TABLE)
    with runs.database.connect() as connection:
        connection.execute(fill)
        connection.execute(sql.SQL("ANALYZE {}").format(TABLE))
    with spending(runs.database.cluster) as spent:
        result = runs({A: bad("1")})
    assert spent.seconds < 1.5, "a run reads all of its history"
    assert all(len(points) <= 49 + 402 + 1 for points in result["series"].values())
    assert 200 < len(result["series"]["size.database"]) < 300
    assert len(json.dumps(result["series"])) < 300_000


def test_one_place_is_named(database: Database) -> None:
    with pytest.raises(InvalidValue, match="give one"):
        Runs(database)({}, history_schema="x", history={"records": []})
    with pytest.raises(InvalidValue, match="history_keep"):
        Runs(database)({}, history_schema="x", history_keep="soon")


# --- a file -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def snapshot(database: Database, tmp_path: Path) -> dict[str, Any]:
    """The snapshot of a run."""
    return dict(Runs(database, in_file(tmp_path / "first"))({A: bad("one")}, check_mode=True)["snapshot"])


def shifted(snapshot: dict[str, Any], days: float) -> dict[str, Any]:
    """Return it as of days ago."""
    at = time.time() - days * DAY
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
    return {**snapshot, "time": moment, "run": f"{days:g}", "metrics": {"size.database": 1000 - days}}


def test_a_file_and_its_folders_are_the_owners_alone(snapshot: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.jsonl"
    file_store.append(str(path), snapshot, KEEP)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    path.chmod(0o644)
    file_store.append(str(path), snapshot, KEEP)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file_store.read(str(path), None)["snapshots"] == 2


def test_a_torn_line_is_not_read_and_is_repaired(snapshot: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    file_store.append(str(path), snapshot, KEEP)
    whole = path.read_bytes()
    for torn in (b"{", whole[:-1], b"\xff\xfe", whole[: len(whole) // 2]):
        path.write_bytes(whole + torn)
        assert file_store.read(str(path), None)["snapshots"] == 1
        file_store.append(str(path), snapshot, KEEP)
        assert path.read_bytes() == whole * 2
    path.write_bytes(b"torn and alone")
    file_store.append(str(path), snapshot, KEEP)
    assert path.read_bytes() == whole
    path.write_bytes(whole + b"by hand\n" + b'{"version": 1}\n' + whole)
    history = file_store.read(str(path), None)
    assert (history["snapshots"], history["damaged"]) == (2, 2)


WRITER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
record = json.load(open(sys.argv[3]))
print("go", flush=True)
for number in range(int(sys.argv[4])):
    file_store.append(sys.argv[2], {**record, "run": f"{sys.argv[5]}-{number}"}, float(sys.argv[6]))
"""


def writer(path: Path, record: Path, times: int, name: str, keep: float = KEEP) -> subprocess.Popen[bytes]:
    """Start a process that appends."""
    arguments = [sys.executable, "-c", WRITER, str(collections_path()), str(path), str(record), str(times), name, str(keep)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_writers_at_once_lose_nothing(snapshot: dict[str, Any], tmp_path: Path) -> None:
    path, record = tmp_path / "c.jsonl", tmp_path / "record"
    record.write_text(json.dumps(snapshot), encoding="utf-8")
    # One of them replaces the file again and again, because its first line is always too old.
    path.write_text(json.dumps(shifted(snapshot, 900)) + "\n", encoding="utf-8")
    processes = [writer(path, record, 40, name) for name in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["run"] for line in lines) == sorted(f"{name}-{number}" for name in "abc" for number in range(40))


def test_a_writer_that_is_killed_costs_its_own_line(snapshot: dict[str, Any], tmp_path: Path) -> None:
    path, record = tmp_path / "c.jsonl", tmp_path / "record"
    record.write_text(json.dumps({**snapshot, "metrics": {f"x[{n}]": n for n in range(300)}}), encoding="utf-8")
    known = 0
    for round_number in range(4):
        process = writer(path, record, 10_000, f"k{round_number}")
        time.sleep(0.05 + 0.03 * round_number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        size, notices = file_store.append(str(path), {**snapshot, "run": f"own-{round_number}"}, KEEP)
        history = file_store.read(str(path), None)
        assert (notices, history["damaged"]) == ([], 0)
        assert size > 0
        assert history["snapshots"] > known
        known = history["snapshots"]
    text = path.read_text(encoding="utf-8")
    assert all(json.loads(line) for line in text.splitlines())


def test_what_is_too_old_goes_and_the_rest_stays(snapshot: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(shifted(snapshot, days)) + "\n" for days in (500, 402, 399, 10, 1)), encoding="utf-8")
    file_store.append(str(path), snapshot, KEEP)
    runs = [json.loads(line)["run"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert runs == ["399", "10", "1", snapshot["run"]]
    assert [point[1] for point in file_store.read(str(path), None)["series"]["size.database"]] == [601, 990, 999]
    assert {entry.name for entry in tmp_path.iterdir()} <= {"c.jsonl", "first"}


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "below a file"])
def test_what_is_no_file_is_refused(snapshot: dict[str, Any], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("", encoding="utf-8")
        path = path / "below"
    with pytest.raises(file_store.FileRefused, match=r"c\.jsonl"):
        file_store.append(str(path), snapshot, KEEP)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_leaves_the_file_as_it_was(snapshot: dict[str, Any], tmp_path: Path) -> None:
    """A limit on the size of files is to a process what a full disk is."""
    import resource

    path, record = tmp_path / "c.jsonl", tmp_path / "record"
    file_store.append(str(path), snapshot, KEEP)
    record.write_text(json.dumps(snapshot), encoding="utf-8")
    before = path.read_bytes()
    limit = len(before) + 100

    def bounded() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = [sys.executable, "-c", WRITER, str(collections_path()), str(path), str(record), "1", "full", str(KEEP)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, preexec_fn=bounded)
    assert "FileRefused" in done.stderr
    assert path.read_bytes() == before


def test_what_is_old_is_cut_down_to_the_course_of_its_numbers(snapshot: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    full = {**snapshot, "kept": {"server": {"settings": [1, "x" * 5000]}}}
    hourly = [{**shifted(full, hours / 24), "after": []} for hours in range(20 * 24, 0, -1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in hourly), encoding="utf-8")
    before = file_store.read(str(path), None)
    size = path.stat().st_size
    file_store.append(str(path), snapshot, KEEP)
    assert path.stat().st_size < size / 2
    after = file_store.read(str(path), None)
    assert (after["series"], after["snapshots"], after["damaged"]) == (before["series"], before["snapshots"] + 1, 0)
    assert after["records"] == [snapshot, *before["records"][:5]]
    # Once a day is enough, and what has been cut stays readable.
    inode = path.stat().st_ino
    file_store.append(str(path), snapshot, KEEP)
    assert path.stat().st_ino == inode
    # The last runs stay whole, however long ago they were.
    path.write_text("".join(json.dumps(shifted(full, 100 - n / 10)) + "\n" for n in range(100)), encoding="utf-8")
    file_store.append(str(path), snapshot, KEEP)
    assert [len(record["kept"]) for record in file_store.read(str(path), None)["records"][1:]] == [1] * 5
