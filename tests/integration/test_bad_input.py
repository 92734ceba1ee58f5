"""Whatever is wrong with the input, the daily runbook names it, and nothing has changed by then."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ground.cluster import Cluster
from tests.ground.evidence import fingerprint
from tests.ground.runner import PlaybookResult
from tests.ground.servers import Installation
from tests.ground.templates import SystemDatabase

DESCRIPTIONS = Path(__file__).resolve().parents[2] / "roles" / "system" / "files" / "systems"
Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]


@pytest.fixture(scope="module")
def tim_description() -> dict[str, Any]:
    """TIM's description as its file has it."""
    return dict(yaml.safe_load((DESCRIPTIONS / "tim.yml").read_text(encoding="utf-8")))


@pytest.fixture
def refused(run_playbook: Playbook) -> Callable[..., str]:
    """A function that runs `daily`, expects it to fail without a change, and returns the summary as one text."""

    def run(system: Any, connection: dict[str, Any], database: SystemDatabase | None = None, **options: Any) -> str:
        before = fingerprint(database) if database else None
        done = run_playbook(
            "daily", {"db": {"pgops_system": system, "pgops_connection": connection, **options.pop("variables", {})}}, **options
        )
        assert done.rc != 0
        assert done.changed == 0
        assert (fingerprint(database) if database else None) == before
        (printed,) = done.find(action="debug")
        return "\n".join(printed.result["summary_lines"])

    return run


# A connection that would fail at once if anything tried it: a wrong description must stop before.
NOWHERE = {"login_host": "127.0.0.1", "login_port": 1}


def changed(description: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """Return a copy of `description` with another value at `path`."""
    wrong = copy.deepcopy(description)
    place: Any = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return wrong


def test_unknown_system(refused: Callable[..., str]) -> None:
    text = refused("timm", NOWHERE)
    assert "'timm'" in text
    assert "azth, django_oauth_toolkit, doorkeeper, " in text


def test_missing_file(refused: Callable[..., str], tmp_path: Path) -> None:
    assert str(tmp_path / "none.yml") in refused(str(tmp_path / "none.yml"), NOWHERE)


def test_malformed_yaml(refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "broken.yml"
    file.write_text("name: tim\nschemas: [custom\ntara]\ntoken_stores: {\n", encoding="utf-8")
    text = refused(str(file), NOWHERE)
    assert str(file) in text
    assert "line " in text


def test_wrong_word_in_a_file(refused: Callable[..., str], tim_description: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "tim.yml"
    file.write_text(yaml.safe_dump(changed(tim_description, "token_stores", 1, "revoke", "how", to="denlyist")), encoding="utf-8")
    assert "token_stores[1].revoke.how: 'denlyist' is not one of denylist, timestamp, flag, delete" in refused(str(file), NOWHERE)


def test_wrong_key_inline(refused: Callable[..., str], tim_description: dict[str, Any]) -> None:
    text = refused({**tim_description, "retentoin": {}}, NOWHERE)
    assert "retentoin" in text
    assert "retention" in text.replace("retentoin", "")


def test_timestamp_without_a_zone(refused: Callable[..., str], tim_description: dict[str, Any]) -> None:
    text = refused({key: value for key, value in tim_description.items() if key != "time_zone"}, NOWHERE)
    assert "time_zone" in text
    assert "token_stores[0]" in text


def test_missing_table(refused: Callable[..., str], system_database: Systems) -> None:
    database = system_database("tim")
    database.query("DROP TABLE tara.oauth_state")
    text = refused("tim", database.login(), database)
    assert "tara.oauth_state" in text
    assert "does not exist" in text


def test_missing_column(refused: Callable[..., str], system_database: Systems) -> None:
    database = system_database("tim")
    database.query("ALTER TABLE tara.oauth_state RENAME COLUMN created_at TO made_at")
    text = refused("tim", database.login(), database)
    assert "created_at" in text
    assert "tara.oauth_state" in text


def test_column_that_is_not_a_time(refused: Callable[..., str], system_database: Systems) -> None:
    database = system_database("tim")
    database.query("ALTER TABLE custom.allowlist ALTER COLUMN expires_at TYPE text USING expires_at::text")
    text = refused("tim", database.login(), database)
    assert "custom.allowlist" in text
    assert "expires_at" in text
    assert "text" in text


def test_unreachable_server(refused: Callable[..., str]) -> None:
    text = refused("tim", NOWHERE)
    assert "127.0.0.1:1" in text
    assert "layer: port" in text


def test_unresolvable_host(refused: Callable[..., str]) -> None:
    text = refused("tim", {"login_host": "no-such-host.invalid"})
    assert "no-such-host.invalid" in text
    assert "layer: name" in text


def test_wrong_password(installation: Installation, run_playbook: Playbook) -> None:
    with Cluster(installation, auth="scram-sha-256") as cluster:
        connection = {**cluster.login("postgres"), "login_password": "s3cret-but-wrong"}
        done = run_playbook("daily", {"db": {"pgops_system": "tim", "pgops_connection": connection}})
    assert done.rc != 0
    assert "layer: authentication" in done.stdout
    for output in (done.stdout, done.stderr, *(str(task.result) for task in done.tasks if "pg_" in task.action)):
        assert "s3cret" not in output


def test_missing_database(refused: Callable[..., str], cluster: Cluster) -> None:
    text = refused("tim", {**cluster.login("postgres"), "login_db": "No Such Database"})
    assert "No Such Database" in text
    assert "layer: database" in text


def test_read_only_standby(refused: Callable[..., str], standby: Cluster, system_database: Systems) -> None:
    database = system_database("tim")
    database.cluster.wait_for(standby)
    text = refused("tim", standby.login(database.name), database)
    assert "standby" in text
    assert "layer: session" in text


def test_missing_driver(refused: Callable[..., str], system_database: Systems) -> None:
    database = system_database("tim")
    text = refused("tim", database.login(), database, driver="none")
    assert "psycopg2" in text
    assert "pip install" in text


@pytest.mark.parametrize("variable", ["PGHOST", "PGPORT", "PGSSLMODE", "PGUSER", "PGPASSWORD"])
def test_empty_variables_of_libpq_count_as_not_given(system_database: Systems, run_playbook: Playbook, variable: str) -> None:
    database = system_database("tim")
    done = run_playbook("hourly", {"db": {"pgops_system": "tim", "pgops_connection": database.login()}}, env={variable: ""})
    assert done.rc == 0, done.stdout
