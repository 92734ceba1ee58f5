"""The history as an operator keeps it: the role health through Ansible, with a file of the control node and with a schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner, PlaybookResult
from tests.integration.remembering import Runs, in_file
from tests.integration.watching import SYSTEM, ago, run_script, stock

pytestmark = pytest.mark.any_driver

KEY = "login.stuck[vault.logins]"
Look = Callable[..., PlaybookResult]
PLAY = {
    "hosts": "databases",
    "gather_facts": False,
    "module_defaults": {"group/pgops.runbook.postgresql": "{{ pgops_connection }}"},
    "roles": ["pgops.runbook.system", "pgops.runbook.health"],
    "post_tasks": [{"name": "Show", "ansible.builtin.debug": {"var": "health_result"}}],
}


@pytest.fixture
def shop(database: Database) -> Database:
    """The small system with one stuck login."""
    stock(database)
    run_script(database, f"INSERT INTO vault.logins SELECT 'old', {ago('2 h')}")
    return database


@pytest.fixture
def look(ansible_runner: AnsibleRunner, shop: Database) -> Look:
    """A function that runs the role and returns what came of it."""

    def run(history: Any, check: bool = False, login: dict[str, Any] | None = None, **variables: Any) -> PlaybookResult:
        host = {"pgops_connection": {**shop.login(), **(login or {})}, "pgops_system": SYSTEM, "health_history": history}
        given = {"health_tier": "hourly", "health_checks": ["login", "conn.active"], **variables}
        return ansible_runner.play([PLAY], {"db one": {**host, **given}}, check=check)

    return run


def result_of(done: PlaybookResult) -> dict[str, Any]:
    """Return the fact health_result at the end, of a run that changed nothing."""
    assert done.rc == 0, done.stdout
    assert done.changed == 0
    (shown,) = done.find(task="Show")
    found: dict[str, Any] = shown.result["health_result"]
    return found


def test_runs_are_compared_by_a_file_for_each_host(look: Look, shop: Database, tmp_path: Path) -> None:
    template = f"{tmp_path}/kept/{{{{ inventory_hostname | replace(' ', '_') }}}}-{{{{ system_description.name }}}}.jsonl"
    path = tmp_path / "kept" / "db_one-shop.jsonl"
    previewed = result_of(look({"file": template}, check=True))
    assert (previewed["history"]["recorded"], path.exists()) == (False, False)
    first = result_of(look({"file": template}))
    assert first["history"] == {
        "kept_in": "file",
        "place": str(path),
        "previous": None,
        "snapshots": 1,
        "recorded": True,
        "note": "no history yet",
    }
    assert [(found["key"], found["change"]) for found in first["findings"]] == [(KEY, None)]
    refused = result_of(look({"file": template}, login={"login_db": "no such database"}))
    assert [(found["key"], found["change"]) for found in refused["findings"]] == [("avail.connect", "new")]
    assert (refused["resolved"], refused["history"]["recorded"]) == ([], True)
    run_script(shop, "DELETE FROM vault.logins WHERE state = 'old'")
    third = result_of(look({"file": template}))
    assert [gone["key"] for gone in third["resolved"]] == ["avail.connect", KEY]
    assert third["history"]["snapshots"] == 3
    assert [len(points) for points in third["series"].values()] == [2]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_runs_are_compared_by_a_schema(look: Look, shop: Database) -> None:
    assert result_of(look({"schema": "pgops"}, check=True))["history"]["note"] == "no history yet; nothing is recorded in check mode"
    assert result_of(look({"schema": "pgops"}))["history"]["recorded"] is True
    again = result_of(look({"schema": "pgops", "file": ""}, health_history_keep="10 days"))
    assert [(found["key"], found["change"]) for found in again["findings"]] == [(KEY, "same")]
    assert shop.query("SELECT count(*) FROM pgops.health_snapshots") == [(2,)]
    off = result_of(look("", health_suppressions="", health_expected_role="", health_backup_folder="", health_cache_connection=""))
    assert off["history"]["kept_in"] == "none"


def test_a_file_that_cannot_be_kept_costs_no_result(look: Look, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    result = result_of(look({"file": str(tmp_path / "folder.jsonl")}))
    assert result["status"] == "warning"
    assert (result["history"]["kept_in"], result["history"]["recorded"]) == ("file", False)
    (notice,) = result["notices"]
    assert notice.startswith(f"the run is not recorded: {tmp_path}/folder.jsonl: Is a directory")


@pytest.mark.parametrize("wrong", [{"schema": "a", "file": "b"}, {"folder": "c"}, "pgops"])
def test_a_wrong_place_is_named(look: Look, wrong: Any) -> None:
    done = look(wrong)
    assert done.rc != 0
    assert any("is not one of {schema: name} and {file: path}" in str(task.result.get("msg")) for task in done.tasks)


def test_what_the_role_is_told_reaches_the_module(look: Look, tmp_path: Path) -> None:
    aside = [{"finding": KEY, "reason": "known", "until": "2999-01-01"}]
    result = result_of(
        look({}, health_suppressions=aside, health_expected_role="primary", health_expected_standbys=["s1"], health_max_runtime="1 min")
    )
    assert [found["key"] for found in result["suppressed"]] == [KEY]
    assert result["status"] == "ok"


def test_the_module_reads_appends_and_removes(ansible_runner: AnsibleRunner, database: Database, tmp_path: Path) -> None:
    path = str(tmp_path / "h.jsonl")
    snapshot = Runs(database, in_file(tmp_path), system="shop")({})["snapshot"]
    steps: dict[str, dict[str, Any]] = {
        "empty": {},
        "checked": {"snapshot": snapshot, "check_mode": True},
        "still empty": {},
        "added": {"snapshot": snapshot},
        "of shop": {"system": "shop"},
        "of another": {"system": "another"},
        "no snapshot": {"snapshot": {"time": "now"}},
        "no time": {"keep": "soon"},
        "would remove": {"state": "absent", "check_mode": True},
        "all": {"system": "", "keep": "", "snapshot": {}},
        "removed": {"state": "absent"},
        "was removed": {"state": "absent"},
    }
    tasks = []
    for name, arguments in steps.items():
        given = {"path": path, **{key: value for key, value in arguments.items() if key != "check_mode"}}
        check = {"check_mode": True} if "check_mode" in arguments else {}
        tasks.append({"name": name, "pgops.runbook.pg_health_history": given, "ignore_errors": True, **check})
    done = ansible_runner.play([{"hosts": "databases", "gather_facts": False, "tasks": tasks}], {"localhost": {}})
    got = {task.task: task.result for task in done.tasks}
    assert got["empty"]["history"] == {"place": path, "records": [], "series": {}, "snapshots": 0, "damaged": 0}
    assert (got["checked"]["recorded"], got["still empty"]["history"]["snapshots"]) == (False, 0)
    assert (got["added"]["recorded"], got["added"]["changed"], got["added"]["notices"]) == (True, False, [])
    assert got["added"]["bytes"] > 200
    assert [got[name]["history"]["snapshots"] for name in ("of shop", "of another", "all")] == [1, 0, 1]
    assert got["all"]["history"]["records"] == [snapshot]
    assert "not the snapshot of a run" in got["no snapshot"]["msg"]
    assert "keep: " in got["no time"]["msg"]
    assert [got[name]["changed"] for name in ("would remove", "removed", "was removed")] == [True, True, False]
