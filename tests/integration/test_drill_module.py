"""The module pg_recovery_drill through Ansible."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ground import servers
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.drilling import in_cluster, options

pytestmark = pytest.mark.any_driver

Run = Callable[..., dict[str, Any]]


def test_a_drill_in_a_scratch_server(
    run_module: Run, database: Database, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    backing.fill(database)
    folder = tmp_path / "backups"
    backing.made(database, folder)
    evidence = tmp_path / "evidence"
    wanted = options(folder, **in_cluster(installation, place, evidence=str(evidence), rto="1 h", rpo="1 h", checks=["index.invalid"]))
    planned = run_module("pg_recovery_drill", wanted, check=True)
    assert (planned["failed"], planned["changed"], planned["passed"], planned["room"]["enough"]) == (False, True, None, True)
    assert not evidence.exists()
    result = run_module("pg_recovery_drill", wanted, env={"JOB_ID": "4711"})
    assert (result["failed"], result["changed"], result["passed"]) == (False, True, True), result
    # Tests may run their server as the account that drills take.
    assert [notice for notice in result["notices"] if "runs another server on this host" not in notice] == []
    assert json.loads(Path(result["evidence"]).read_text(encoding="utf-8"))["who"]["job"] == "4711"
    assert list(place.iterdir()) == []


@pytest.mark.any_driver
def test_a_drill_that_does_not_pass_fails_the_task_with_the_whole_result(run_module: Run, database: Database, tmp_path: Path) -> None:
    backing.fill(database)
    folder = tmp_path / "backups"
    backing.made(database, folder)
    given = {**database.login(), **options(folder, rto="1 ms")}
    result = run_module("pg_recovery_drill", given)
    assert (result["failed"], result["changed"], result["passed"], result["error"]["type"]) == (True, True, False, "DrillFailed")
    assert result["msg"].startswith("the drill has not passed: the recovery time is")
    assert result["differences_total"] == 0
    assert Path(result["evidence"]).exists()


@pytest.mark.any_driver
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"in": "database", "run_as": "postgres"}, "run_as: in=database starts no server; leave it out, or use in=cluster"),
        ({"checks": ["no.check"]}, "no.check"),
        ({"rto": "soon"}, "rto: 'soon' is not a duration"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_made(run_module: Run, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    result = run_module("pg_recovery_drill", {"folder": str(tmp_path), **given})
    assert result["failed"]
    assert message in result["msg"]
    assert list(tmp_path.iterdir()) == []
