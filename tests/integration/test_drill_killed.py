"""A drill that is killed leaves no server at work, and the next one clears what is left; and drills of an ordinary user."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground import folders, runner, servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring
from tests.integration.children import until, working_in
from tests.integration.drilling import hidden_databases, in_cluster, options, rehearse

pytestmark = pytest.mark.any_driver

MODULE = "ansible_collections.pgops.runbook.plugins.modules.pg_recovery_drill"
# Where it is restored, and only there, the index over the one row waits as long as there is a file: room to be killed in.
SLOW = """
CREATE FUNCTION public.slow(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    WHILE current_database() LIKE 'pgops_restore_%' AND (pg_stat_file('{file}', true)).size IS NOT NULL LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN n;
END $$;
CREATE TABLE public.one (n integer);
INSERT INTO public.one VALUES (1);
CREATE INDEX one_slow ON public.one (public.slow(n));
"""


@pytest.fixture
def hold() -> Iterator[Path]:
    """A file that keeps restores from their ends as long as it is there."""
    with folders.reachable() as found:
        (found / "hold").touch()
        yield found / "hold"


@pytest.fixture
def slow(database: Database, tmp_path: Path, hold: Path) -> Path:
    """A folder with a backup whose restore is held."""
    database.query(SLOW.replace("{file}", str(hold)))
    folder = tmp_path / "backups"
    backing.made(database, folder)
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_drill_that_is_ended_in_a_scratch_server_leaves_nothing_at_work(
    slow: Path, installation: servers.Installation, place: Path, tmp_path: Path, number: int
) -> None:
    child = _module(tmp_path, options(slow, **in_cluster(installation, place)))
    _until(lambda: any(b"CREATE INDEX" in process.arguments for process in working_in(place)), child)
    child.send_signal(number)
    child.communicate(timeout=120)
    until(lambda: not working_in(place))
    left = list(place.iterdir())
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    # Enough to look at the backup and to clear up, and not enough to restore it.
    result = rehearse(None, slow, max_runtime="5 s", **in_cluster(installation, place))
    assert "max_runtime (5 s) is over" in result["msg"]
    assert [path for path in left if str(path) in str(result["warnings"])] == left
    assert list(place.iterdir()) == []


def test_a_drill_that_is_killed_in_a_database_leaves_one_that_the_next_drill_drops(
    slow: Path, hold: Path, cluster: Cluster, tmp_path: Path
) -> None:
    child = _module(tmp_path, {**cluster.login(), **options(slow)})
    _until(lambda: bool(hidden_databases(cluster)), child)
    left = hidden_databases(cluster)
    child.kill()
    child.communicate(timeout=120)
    hold.unlink()
    until(lambda: not _sessions(cluster))
    until(lambda: not restoring.at_work(cluster))
    result = rehearse(cluster, slow)
    assert result["passed"], result["reasons"]
    assert f"database {left[0]} of a run that was killed has been dropped" in result["warnings"]
    assert hidden_databases(cluster) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs all the other tests")
def test_an_ordinary_user_drills_too(database: Database, installation: servers.Installation, place: Path) -> None:
    backing.fill(database)
    folder = place / "backups"
    backing.made(database, folder)
    user = pwd.getpwnam("nobody")
    for path in (place, *place.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    python = next((program for program in (sys.executable, shutil.which("python3", path=os.defpath)) if _can_run(program, user)), None)
    if python is None:
        pytest.skip("no Python of this version, or not this checkout, is in reach of other users")
    account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    child = _module(place, options(folder, **in_cluster(installation, place)), python=python, **account)
    said = child.communicate(timeout=180)[0]
    result = json.loads(said)
    assert result.get("passed") is True, result
    assert Path(result["evidence"]).stat().st_uid == user.pw_uid
    shutil.rmtree(folder)
    assert [path.name for path in place.iterdir()] == ["arguments.json"]


def _can_run(program: str | None, user: pwd.struct_passwd) -> bool:
    """Say whether a user can run a Python, and read with it what the module needs and the module itself."""
    if program is None:
        return False
    try:
        command = [program, "-c", f"import ansible, psycopg2, {MODULE}"]
        environment = {"PYTHONPATH": _import_path()}
        done = subprocess.run(command, check=False, user=user.pw_uid, cwd="/", capture_output=True, env=environment)
    except PermissionError:
        return False
    return done.returncode == 0


def _module(folder: Path, arguments: dict[str, Any], python: str = sys.executable, **given: Any) -> subprocess.Popen[str]:
    """Start the module as the process that Ansible would make of it."""
    file = folder / "arguments.json"
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": _import_path(), "HOME": str(folder)}
    command = [python, "-m", MODULE, str(file)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd="/", **given)


def _import_path() -> str:
    return os.pathsep.join([str(runner.collections_path()), *sys.path])


def _until(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds, but not longer than the child runs."""
    until(lambda: condition() or child.poll() is not None)
    assert child.poll() is None, child.communicate()[0]


def _sessions(cluster: Cluster) -> list[Any]:
    with cluster.connect() as connection:
        return connection.execute("SELECT pid FROM pg_stat_activity WHERE datname LIKE 'pgops_restore_%'").fetchall()
