"""The ground itself: servers that start and leave nothing behind, data as promised, Ansible's results as JSON."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.ground import blank
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.load import fill
from tests.ground.ports import free_port
from tests.ground.runner import AnsibleRunner
from tests.ground.schema import create_system, relation
from tests.ground.systems import BUILT_IN, description_of
from tests.ground.templates import SystemDatabase
from tests.integration.children import processes, until

CHECKOUT = Path(__file__).resolve().parents[2]
PARENT = """
import sys, time
from tests.ground import cluster, servers
started = cluster.Cluster(servers.find())
started.start()
print(started.pid, flush=True)
time.sleep(60)
"""


def test_the_server_answers_by_socket_and_tcp(cluster: Cluster) -> None:
    for tcp in (False, True):
        with cluster.connect(**cluster.address(tcp=tcp)) as connection:
            assert connection.info.server_version // 10000 == cluster.installation.major


def test_a_port_leaves_room_above_it() -> None:
    """A node of a Redis cluster also listens 10000 ports above its own, and does not start where that is none."""
    assert max(free_port(50_000) for _draw in range(60)) <= 50_000


def test_no_two_processes_and_no_client_are_given_the_port_of_a_server_that_is_down_for_a_moment() -> None:
    draw = "from tests.ground.ports import free_port; print(*[free_port() for _draw in range(60)], flush=True); input()"
    others = [
        subprocess.Popen([sys.executable, "-c", draw], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _number in range(2)
    ]
    drawn = [{free_port() for _draw in range(60)}]
    for other in others:
        assert other.stdout is not None
        drawn.append(set(map(int, other.stdout.readline().split())))
    for other in others:
        other.communicate("\n")
    assert len(set().union(*drawn)) == 3 * 60
    for_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    # Some systems give clients nearly all there are.
    assert max(set().union(*drawn)) < max(for_clients, 20_000)


def test_a_database_is_dropped_although_a_session_is_in_it(cluster: Cluster) -> None:
    with Database.create(cluster, 'odd "name" ä') as made:
        session = made.connect()
    with cluster.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [made.name]).fetchone() == (0,)
    session.close()


def test_a_database_is_dropped_although_a_session_in_it_has_a_slot(cluster: Cluster) -> None:
    with Cluster(cluster.installation, settings={"wal_level": "logical"}) as own:
        for number in range(5):
            with Database.create(own, f"followed_{number}") as made:
                session = made.connect()
                session.execute("SELECT pg_create_logical_replication_slot('mine', 'pgoutput', true)")
            session.close()
        with own.connect() as connection:
            assert connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'followed%'").fetchone() == (0,)


def test_a_standby_follows(cluster: Cluster, standby: Cluster, database: Database) -> None:
    database.query("CREATE TABLE followed AS SELECT 42 AS answer")
    cluster.wait_for(standby)
    with standby.connect(database.name) as connection:
        assert connection.execute("SELECT answer, pg_is_in_recovery() FROM followed").fetchone() == (42, True)


def test_killing_the_parent_leaves_no_server() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    assert Path(f"/proc/{server}").exists()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    # A zombie that nobody has waited for yet no longer runs.
    until(lambda: server not in {process.pid for process in processes()})


def test_after_a_session_is_killed_the_server_has_recovered(cluster: Cluster) -> None:
    with Cluster(cluster.installation) as own, own.connect() as victim, own.connect() as other:
        before = own.pid
        own.kill_session(victim.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
        with own.connect() as after:
            assert after.execute("SELECT 1").fetchone() == (1,)
        assert own.pid == before
        # Whoever asks until it is back leaves a line each time.
        assert "all server processes terminated; reinitializing" in own.log.read_text(encoding="utf-8")


def test_servers_are_copies_but_those_with_an_identity_of_their_own(cluster: Cluster) -> None:
    def identity(server: Cluster) -> object:
        with server.connect() as connection:
            return connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()

    with Cluster(cluster.installation) as copied, Cluster(cluster.installation, own_identity=True) as own:
        assert identity(copied) == identity(cluster)
        assert identity(own) != identity(cluster)
        assert sorted(path.name for path in own.data.iterdir()) == sorted(path.name for path in copied.data.iterdir())


def test_what_a_killed_maker_left_of_a_data_directory_is_made_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blank, "cache_folder", lambda: tmp_path)
    (tmp_path / "data" / "part.killed").mkdir(parents=True)
    made: list[Path] = []

    def fill(name: str, *, fails: bool = False) -> Path:
        def make() -> None:
            (tmp_path / name).mkdir()
            made.append(tmp_path / name)
            if fails:
                raise KeyboardInterrupt
            (tmp_path / name / "PG_VERSION").write_text(name, encoding="ascii")

        blank.fill(tmp_path / name, cluster.installation, ["-k"], make)
        return tmp_path / name / "PG_VERSION"

    with pytest.raises(KeyboardInterrupt):
        fill("one", fails=True)
    assert [fill(name).read_text(encoding="ascii") for name in ("two", "three")] == ["two", "two"]
    assert made == [tmp_path / "one", tmp_path / "two"]
    assert len(list((tmp_path / "data").iterdir())) == 2, "what is kept, and the lock"


def test_a_module_returns_its_json(ansible_runner: AnsibleRunner) -> None:
    arguments: dict[str, Any] = {"data": "a b ' \" \\ ä"}
    assert ansible_runner.module("ansible.builtin.ping", arguments)["ping"] == arguments["data"]
    failure = ansible_runner.module("ansible.builtin.fail", {"msg": "on purpose"})
    assert failure["failed"] is True
    assert failure["msg"] == "on purpose"


def test_modules_see_only_the_chosen_driver(ansible_runner: AnsibleRunner, driver: str) -> None:
    script = """
import importlib.util
for name in ("psycopg2", "psycopg"):
    try:
        importlib.import_module(name)
        print(name)
    except ImportError:
        print("-")
"""
    done = ansible_runner.play(
        [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": {"argv": [sys.executable, "-c", script]}}]}],
        {"one": {}, "two": {}},
        driver=driver,
    )
    assert done.rc == 0, done.stdout
    assert sorted(one.host for one in done.tasks) == ["one", "two"]
    for one in done.tasks:
        assert set(one.result["stdout"].split()) == {driver, "-"}


def test_a_run_has_the_exit_code_and_output_of_ansible_playbook(ansible_runner: AnsibleRunner) -> None:
    failing = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.fail": {"msg": "on purpose"}}]}]
    warm = ansible_runner.play(failing, {"here": {}})
    cold = ansible_runner.play(failing, {"here": {}}, env={"ANSIBLE_NOCOLOR": "true"})
    assert (warm.rc, [one.status for one in warm.tasks]) == (cold.rc, [one.status for one in cold.tasks]) == (2, ["failed"])
    assert "PLAY RECAP" in warm.stdout
    assert ansible_runner.playbook("no.such.playbook", {"here": {}}).rc != 0


def test_runs_at_the_same_time_do_not_mix(ansible_runner: AnsibleRunner) -> None:
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda word: ansible_runner.module("ansible.builtin.ping", {"data": word})["ping"], ("one", "two")))
    assert said == ["one", "two"]


def test_a_thread_that_runs_ansible_takes_nothing_with_it(tmp_path: Path) -> None:
    runner = AnsibleRunner(tmp_path)
    for _number in range(2):
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(runner.module, "ansible.builtin.ping").result()["ping"] == "pong"
        assert runner.module("ansible.builtin.ping")["ping"] == "pong"


def test_no_server_variable_of_the_caller_reaches_ansible(ansible_runner: AnsibleRunner, monkeypatch: Any) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    assert "PGHOST" not in ansible_runner.environment()
    assert os.environ["PGHOST"] == "elsewhere"


def test_fixtures_run_modules_with_each_driver(run_module: Callable[..., dict[str, Any]]) -> None:
    assert run_module("ansible.builtin.ping")["ping"] == "pong"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_system_holds_what_is_promised(system_database: Callable[..., SystemDatabase], name: str) -> None:
    made = system_database(name)
    with made.connect() as connection:
        for table, rows in made.expected.rows.items():
            assert connection.execute(sql.SQL("SELECT count(*) FROM {}").format(relation(table))).fetchone() == (rows,), table
        for schedule, rules in made.description["retention"].items():
            for rule in rules:
                assert _older(connection, made, rule) == made.expected.removed[schedule][rule["name"]], (schedule, rule["name"])
    assert max(made.expected.rows.values()) >= 1000


def _older(connection: Any, made: SystemDatabase, rule: dict[str, Any]) -> int:
    """Count what a rule is for in plain SQL, ten minutes after the rows were made, so that the promise is seen to last."""
    description = made.description
    column, kind = (
        sql.Identifier(rule["column"]["column"]),
        description["schema"]["tables"][rule["table"]]["columns"][rule["column"]["column"]]["type"],
    )
    moment = (
        column
        if re.match("timestamptz|timestamp with time", kind, re.IGNORECASE)
        else sql.SQL("timezone({}, {})").format(rule["column"]["time_zone"], column)
    )
    limit = sql.SQL("SELECT count(*) FROM {} WHERE {} < {}::timestamptz + interval '10 minutes' - make_interval(secs => {})")
    found: int = connection.execute(
        limit.format(relation(rule["table"]), moment, made.expected.now.isoformat(), rule["older_than_seconds"])
    ).fetchone()[0]
    return found


def test_tokens_are_skewed_as_in_production(system_database: Callable[..., SystemDatabase]) -> None:
    made = system_database("tim")
    facts = made.expected.facts
    orphans = """SELECT count(*), count(*) FILTER (WHERE timezone('UTC', d.expires_at) > now())
                 FROM custom.denylist d LEFT JOIN custom.jwt_metadata m USING (jwt_uuid) WHERE m.jwt_uuid IS NULL"""
    assert made.query(orphans) == [(facts["orphaned"]["custom"], facts["orphaned_alive"]["custom"])]
    assert facts["orphaned_alive"]["custom"] > 0
    future = "SELECT count(*) FROM custom.jwt_metadata WHERE timezone('UTC', issued_at) > now() + interval '5 minutes'"
    assert made.query(future) == [(facts["future"]["custom"],)]
    stuck = "SELECT count(*) FROM tara.oauth_state WHERE timezone('UTC', created_at) < now() - interval '1 hour'"
    assert made.query(stuck) == [(facts["stuck"]["tara.oauth_state"],)]
    states = """SELECT count(*) FILTER (WHERE d.jwt_uuid IS NULL AND timezone('UTC', m.expires_at) > now()), count(d.jwt_uuid),
                       count(*) FILTER (WHERE timezone('UTC', m.expires_at) <= now())
                FROM tara.jwt_metadata m LEFT JOIN tara.denylist d USING (jwt_uuid)"""
    assert made.query(states) == [(facts["active"]["tara"], facts["revoked"]["tara"], facts["expired"]["tara"])]


def test_the_same_seed_gives_the_same_rows(cluster: Cluster) -> None:
    description, now = description_of("tim"), datetime(2026, 1, 1, tzinfo=UTC)
    digests = []
    for number in range(2):
        with Database.create(cluster, f"seed_{number}") as made, made.connect() as connection:
            create_system(connection, description)
            fill(connection, description, 100, seed=7, now=now)
            digests.append(
                connection.execute("SELECT md5(string_agg(m::text, ',' ORDER BY jwt_uuid)) FROM custom.jwt_metadata m").fetchone()
            )
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "revoke",
    [
        {"how": "denylist", "table": "denied", "id": "token", "revoked_at": "at"},
        {"how": "timestamp", "column": "revoked_at"},
        {"how": "flag", "column": "revoked"},
        {"how": "delete"},
    ],
)
def test_an_operators_own_system_can_be_filled(cluster: Cluster, revoke: dict[str, Any]) -> None:
    description = description_of(
        {
            "name": "own",
            "time_zone": "Europe/Tallinn",
            "token_stores": [
                {
                    "name": "store",
                    "tokens": {"table": "Tokens", "id": "Id", "issued_at": "made", "expires_at": {"column": "ends", "unit": "ms"}},
                    "revoke": revoke,
                }
            ],
            "retention": {"daily": [{"table": "Tokens", "column": {"column": "ends", "unit": "ms"}, "older_than": "7 days"}]},
            "schema": {
                "tables": {
                    "Tokens": {
                        "columns": {
                            "Id": "bigserial not null",
                            "made": "timestamp not null",
                            "ends": "bigint not null",
                            "revoked": "boolean not null default false",
                            "revoked_at": "timestamptz",
                        },
                        "primary_key": ["Id"],
                    },
                    "denied": {"columns": {"token": "bigint not null", "at": "timestamp not null"}, "primary_key": ["token"]},
                }
            },
        }
    )
    with Database.create(cluster, "own") as made, made.connect() as connection:
        create_system(connection, description)
        expected = fill(connection, description, 500)
        old = "SELECT count(*) FROM \"Tokens\" WHERE to_timestamp(ends / 1000) < now() - interval '7 days'"
        assert connection.execute(old).fetchone() == (expected.total("daily"),)
        ahead = "SELECT count(*) FROM \"Tokens\" WHERE timezone('Europe/Tallinn', made) > now()"
        assert connection.execute(ahead).fetchone() == (expected.facts["future"]["store"],)
        assert connection.execute('INSERT INTO "Tokens" (made, ends) VALUES (now(), 0) RETURNING "Id"').fetchone() == (501,)
