"""The ground itself: servers that start and leave nothing behind, data as promised, Ansible's results as JSON."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner

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


def test_a_database_is_dropped_although_a_session_is_in_it(cluster: Cluster) -> None:
    with Database.create(cluster, 'odd "name" ä') as made:
        session = made.connect()
    with cluster.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [made.name]).fetchone() == (0,)
    session.close()


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
    parent.wait(10)
    end = time.monotonic() + 10
    while time.monotonic() < end and _runs(server):
        time.sleep(0.05)
    assert not _runs(server)


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    # A zombie that nobody has waited for yet no longer runs.
    return status.exists() and "State:\tZ" not in status.read_text(encoding="ascii")


def test_a_module_returns_its_json(ansible_runner: AnsibleRunner) -> None:
    arguments: dict[str, Any] = {"data": "a b ' \" \\ ä"}
    assert ansible_runner.module("ansible.builtin.ping", arguments)["ping"] == arguments["data"]
    failure = ansible_runner.module("ansible.builtin.fail", {"msg": "on purpose"})
    assert failure["failed"] is True
    assert failure["msg"] == "on purpose"


def test_modules_see_only_the_chosen_driver(ansible_runner: AnsibleRunner, driver: str) -> None:
    script = "import importlib\nfor name in ('psycopg2', 'psycopg'):\n    try:\n        importlib.import_module(name); print(name)\n    except ImportError: print('-')"
    done = ansible_runner.play(
        [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": {"argv": [sys.executable, "-c", script]}}]}],
        {"one": {}, "two": {}},
        driver=driver,
    )
    assert done.rc == 0, done.stdout
    assert sorted(one.host for one in done.tasks) == ["one", "two"]
    for one in done.tasks:
        assert set(one.result["stdout"].split()) == {driver, "-"}


def test_no_server_variable_of_the_caller_reaches_ansible(ansible_runner: AnsibleRunner, monkeypatch: Any) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    assert "PGHOST" not in ansible_runner.environment()
    assert os.environ["PGHOST"] == "elsewhere"


def test_fixtures_run_modules_with_each_driver(run_module: Callable[..., dict[str, Any]]) -> None:
    assert run_module("ansible.builtin.ping")["ping"] == "pong"
