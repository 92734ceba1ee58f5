"""A person who watches a clean-up sees the table, the percentage, the speed and the time left, wherever they look."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner
from tests.integration.cleaning import rule
from tests.integration.progress_view import Watched, below_the_output, percentages, shown

pytestmark = pytest.mark.any_driver

ROWS = 500
NAME = re.compile(r"pgops\.runbook/pg_cleanup app\.tokens (\d+)% [\d.]+k?/s \d+:\d\d left")
WORK = {"rules": [rule("app.tokens")], "batch_rows": 20, "vacuum": "never"}
# The environment of this host does not reach the module of another one.
ELSEWHERE = {"PGOPS_RUNBOOK_PROGRESS": ""}


@pytest.fixture
def watched(ansible_runner: AnsibleRunner, tmp_path: Path) -> Watched:
    return Watched(ansible_runner, tmp_path)


@pytest.fixture
def slow(database: Database) -> Database:
    """A table whose rows take their time to go."""
    database.query("CREATE SCHEMA app")
    database.query("CREATE TABLE app.tokens (id integer, expires_at timestamptz)")
    database.query("INSERT INTO app.tokens SELECT n, now() - interval '1 day' FROM generate_series(1, %s) AS n", [ROWS])
    database.query(
        "CREATE FUNCTION app.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$;"
        "CREATE TRIGGER dawdle BEFORE DELETE ON app.tokens FOR EACH ROW EXECUTE FUNCTION app.dawdle()"
    )
    return database


def task(database: Database, **more: Any) -> dict[str, Any]:
    return {"name": "clean up", "pgops.runbook.pg_cleanup": {**WORK, **database.login()}, "register": "result", **more}


SAY = {"name": "say", "ansible.builtin.debug": {"msg": "{{ 'RESULT ' ~ (result | to_json) }}"}}


def said(raw: str) -> dict[str, Any]:
    """Return the module's result, as the task after it printed it."""
    (text,) = re.findall(r'"msg": "RESULT (\{.*\})"', raw)
    found: dict[str, Any] = json.loads(json.loads(f'"{text}"'))
    return found


def check_result(result: dict[str, Any]) -> None:
    """Raise unless the whole table went and the result says how fast."""
    (done,) = result["rules"]
    assert (result["removed"], result["remaining"], result["stopped"]) == (ROWS, 0, "done")
    assert (done["table"], done["removed"]) == ("app.tokens", ROWS)
    assert done["seconds"] >= ROWS * 0.01
    assert 0 < done["rows_per_second"] <= 100
    assert "progress" not in result


def test_on_a_terminal_and_at_the_end_in_the_result(watched: Watched, slow: Database) -> None:
    seen = watched.terminal([task(slow), SAY], {"one": {}}, columns=4000)
    assert len([number for number in shown(seen) if 0 < number < 100]) >= 2
    assert shown(seen) == sorted(shown(seen))
    line = next(line for screen in seen.screens for line in screen if line.startswith("progress: ") and "left" in line)
    assert re.fullmatch(r"progress: \[one\] app\.tokens \d+% [\d.]+/s 0:\d\d left", line)
    assert [screen for screen in seen.screens if not below_the_output(screen)] == []
    assert percentages(seen.last) == []
    check_result(said(seen.raw))
    assert slow.query("SELECT count(*) FROM app.tokens") == [(0,)]


def test_in_a_log(watched: Watched, slow: Database) -> None:
    lines = watched.log([task(slow), SAY], {"one": {}})
    assert any(0 < number < 100 for number in percentages(lines))
    check_result(said("\n".join(lines)))


@pytest.mark.parametrize("environment", [{}, ELSEWHERE], ids=["here", "elsewhere"])
def test_with_async_and_poll(watched: Watched, slow: Database, environment: dict[str, str]) -> None:
    waiting = task(slow, **{"async": 120, "poll": 1}, environment=environment)
    seen = watched.terminal([waiting, SAY], {"one": {}}, columns=4000)
    assert any(0 < number < 100 for number in shown(seen))
    assert percentages(seen.last) == []
    check_result(said(seen.raw))
    assert list((watched.folder / "jobs").iterdir()) == []


def test_asked_by_async_status(watched: Watched, slow: Database) -> None:
    start = task(slow, **{"async": 120, "poll": 0}, register="job")
    look = {"name": "look", "ansible.builtin.async_status": {"jid": "{{ job.ansible_job_id }}"}, "register": "result", "delay": 0.3}
    early = {**look, "until": "result.progress.done | default(0) > 0", "retries": 50}
    first = watched.log([start, early, SAY, {**look, "until": "result is finished", "retries": 100}], {"one": {}})
    found = said("\n".join(first))["progress"]
    assert (found["operation"], found["table"], found["total"]) == ("pg_cleanup", "app.tokens", ROWS)
    assert 0 < found["done"] < ROWS
    assert found["percent"] == 100 * found["done"] // ROWS
    (status,) = (watched.folder / "jobs").iterdir()
    check_result(json.loads(status.read_text(encoding="utf-8")))


def test_live_in_application_name(watched: Watched, slow: Database) -> None:
    names: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            rows = slow.query("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgops.runbook/%'")
            names.extend(row[0] for row in rows)
            time.sleep(0.1)

    watcher = threading.Thread(target=look)
    watcher.start()
    lines = watched.log([task(slow), SAY], {"one": {}})
    over.set()
    watcher.join()
    seen = [int(found[1]) for found in map(NAME.fullmatch, names) if found]
    assert len({number for number in seen if 0 < number < 100}) >= 5
    assert seen == sorted(seen)
    check_result(said("\n".join(lines)))


def test_check_mode_shows_nothing(watched: Watched, slow: Database) -> None:
    lines = watched.log([task(slow, check_mode=True), SAY], {"one": {}})
    assert percentages(lines) == []
    assert (said("\n".join(lines))["removed"], slow.query("SELECT count(*) FROM app.tokens")) == (ROWS, [(ROWS,)])
