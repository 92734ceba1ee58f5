"""The callback plugin shows how far a task is, on a terminal and in a log, and leaves Ansible's own output as it is."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ground.process import run_interruptibly
from tests.ground.runner import AnsibleRunner
from tests.integration.progress_view import LINE, WITHOUT, Watched, below_the_output, percentages, shown

# What says how far a task is where its module's environment does not come from this host.
ELSEWHERE = {"environment": {"PGOPS_RUNBOOK_PROGRESS": ""}}


@pytest.fixture
def watched(ansible_runner: AnsibleRunner, tmp_path: Path) -> Watched:
    return Watched(ansible_runner, tmp_path)


def work(seconds: Any, **more: Any) -> dict[str, Any]:
    return {"name": "work", "publishing": {"seconds": seconds, "table": "custom.denylist"}, **more}


def seen_work(watched: Watched, seconds: Any = 0, **more: Any) -> dict[str, Any]:
    """Return a task that works until it has been seen, and for so many seconds afterwards."""
    return {"name": "work", "publishing": {"seconds": seconds, "seen": str(watched.seen), "table": "custom.denylist"}, **more}


def test_on_a_terminal_a_line_per_host_is_rewritten_and_goes(watched: Watched) -> None:
    tasks = [seen_work(watched, "{{ seconds }}"), work(0, name="after it")]
    hosts = {"one": {"seconds": 0}, "two": {"seconds": 1.5}}
    seen = watched.terminal(tasks, hosts)
    assert seen.rc == 0
    assert any(percentages(screen, "one") and percentages(screen, "two") for screen in seen.screens)
    for host in ("one", "two"):
        assert len(shown(seen, host)) >= 2
        assert shown(seen, host) == sorted(shown(seen, host))
        assert any(0 < number < 100 for number in shown(seen, host))
    assert [screen for screen in seen.screens if not below_the_output(screen)] == []
    # Hosts that end at the same moment are named in either order.
    assert sorted(seen.last) == sorted(watched.terminal(tasks, hosts, env=WITHOUT).last)
    assert watched.left_behind() == []


def test_a_narrow_terminal_does_not_wrap(watched: Watched) -> None:
    def look(screen: list[str]) -> None:
        if any(line.startswith("progress: ") for line in screen):
            watched.seen.touch()

    seen = watched.terminal([seen_work(watched)], {"one": {}}, columns=40, look=look)
    lines = {line for screen in seen.screens for line in screen if line.startswith("progress: ")}
    assert lines
    assert max(map(len, lines)) < 40
    assert not any(line.startswith("progress: ") for line in seen.last)


def test_in_a_log_a_line_comes_every_interval(watched: Watched) -> None:
    tasks, hosts = [seen_work(watched)], {"one": {}}
    began = time.monotonic()
    lines = watched.log(tasks, hosts, PGOPS_RUNBOOK_PROGRESS_INTERVAL="2")
    numbers = percentages(lines)
    # Of the whole run, which may take its time to begin and to end. It looks four times in an interval.
    assert 2 <= len(numbers) <= (time.monotonic() - began) / 2
    assert any(0 < number < 100 for number in numbers)
    assert [line for line in lines if "\x1b" in line or "\r" in line] == []
    without = watched.log(tasks, hosts, **WITHOUT)
    assert [line for line in lines if not line.startswith("progress: ")] == without
    assert percentages(watched.log([work(1.5)], hosts, PGOPS_RUNBOOK_PROGRESS_INTERVAL="30")) == []


def test_a_log_shows_it_while_the_task_is_at_work(watched: Watched) -> None:
    target = watched.folder / "log"
    look = f"cp log copy; cat copy; echo ====; grep -q ^progress copy && touch {watched.seen}"
    command = ["/bin/sh", "-c", f'"$@" > log & while kill -0 $!; do {look}; sleep 0.3; done 2>/dev/null', "sh"]
    done = run_interruptibly([*command, *watched.command([seen_work(watched)], {"one": {}})], watched.folder, watched.environment)
    before_the_result = [text.split("\n") for text in done.stdout.split("====") if "changed:" not in text]
    assert any(percentages(lines) for lines in before_the_result)
    assert "changed: [one]" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"AWX_ISOLATED_DATA_DIR": "/runner"}, {"PGOPS_RUNBOOK_PROGRESS_VIEW": "log"}])
def test_a_terminal_that_nobody_sits_at_gets_a_log(watched: Watched, variables: dict[str, str]) -> None:
    seen = watched.terminal([seen_work(watched)], {"one": {}}, env=variables)
    assert "\x1b" not in seen.raw
    assert percentages(seen.last) != []


def test_polls_bring_the_news_of_a_task_elsewhere(watched: Watched) -> None:
    tasks = [seen_work(watched, **{"async": 600, "poll": 1}, **ELSEWHERE)]
    seen = watched.terminal(tasks, {"one": {}, "two": {}})
    assert seen.rc == 0
    for host in ("one", "two"):
        assert any(0 < number < 100 for number in shown(seen, host))
        assert f"changed: [{host}]" in seen.last
    assert [screen for screen in seen.screens if not below_the_output(screen)] == []
    assert percentages(seen.last) == []


def test_a_task_that_nobody_waits_for_keeps_its_result(watched: Watched) -> None:
    start = seen_work(watched, **{"async": 600, "poll": 0, "register": "job"})
    look = {"name": "look", "ansible.builtin.async_status": {"jid": "{{ job.ansible_job_id }}"}, "register": "state"}
    first = {**look, "name": "first", "until": "state.progress is defined", "retries": 200, "delay": 0.3}
    wait = {**look, "until": "state is finished", "retries": 120, "delay": 0.5}
    facts = {"name": "say", "ansible.builtin.debug": {"msg": "{{ 'RESULT ' ~ (state | to_json) }}"}}
    early = {**facts, "name": "say early"}
    seen = watched.terminal([start, first, early, wait, facts], {"one": {}}, columns=2000)
    assert seen.rc == 0
    found = [json.loads(json.loads(f'"{text}"')) for text in re.findall(r'"msg": "RESULT (\{.*\})"', seen.raw)]
    assert (found[0]["progress"]["table"], found[0]["progress"]["total"], bool(found[0]["finished"])) == ("custom.denylist", 100_000, False)
    assert (found[1]["kept"], bool(found[1]["finished"]), "progress" in found[1]) == ("the result", True, False)
    assert any(0 < number < 100 for number in shown(seen))
    (status,) = (watched.folder / "jobs").iterdir()
    assert json.loads(status.read_text(encoding="utf-8"))["kept"] == "the result"


def test_a_task_that_takes_too_long_ends_as_it_does_unwatched(watched: Watched) -> None:
    (line,) = [line for line in watched.log([work(30, **{"async": 3, "poll": 1})], {"one": {}}) if line.startswith("fatal: ")]
    assert "did not complete within the requested time" in line or "Timeout exceeded" in line


def test_a_task_with_no_log_is_not_shown(watched: Watched) -> None:
    tasks = [work(1.5, no_log=True), work(2, no_log=True, **{"async": 60, "poll": 1})]
    seen = watched.terminal(tasks, {"one": {}})
    assert seen.rc == 0
    assert "denylist" not in seen.raw


@pytest.mark.parametrize("strategy", ["free", "linear"])
def test_each_host_is_shown_with_its_own(watched: Watched, strategy: str) -> None:
    hosts = {"one": {"watched": "custom.allowlist"}, "two": {"watched": "tara.denylist"}}
    publishing = {"seconds": 0, "seen": str(watched.seen), "table": "{{ hostvars[inventory_hostname].watched }}"}
    found = [LINE.match(line) for line in watched.log([{"name": "work", "publishing": publishing}], hosts, strategy)]
    pairs = {(one[1], one[2]) for one in found if one}
    assert pairs == {("one", "custom.allowlist"), ("two", "tara.denylist")}


def test_a_task_that_fails_leaves_no_line(watched: Watched) -> None:
    failing = {"name": "work", "publishing": {"seconds": 0, "seen": str(watched.seen), "table": "t", "fails": True}, "ignore_errors": True}
    seen = watched.terminal([failing], {"one": {}})
    assert shown(seen) != []
    assert percentages(seen.last) == []
    assert any("as it was told to" in line for line in seen.last)
    assert watched.left_behind() == []


def test_an_interrupted_run_leaves_a_clean_terminal(watched: Watched) -> None:
    def working(screen: list[str]) -> bool:
        return bool(percentages(screen))

    # Other things that end with Ansible take their time, and the lines must not come back meanwhile.
    (watched.folder / "sitecustomize.py").write_text("import atexit, time\natexit.register(time.sleep, 1.5)\n", encoding="utf-8")
    watched.environment["PYTHONPATH"] = str(watched.folder)
    seen = watched.terminal([work(300)], {"one": {}}, interrupt=working)
    assert seen.rc not in (0, -9)
    assert percentages(seen.last) == []
    assert any("User interrupted execution" in line for line in seen.last)
    assert watched.left_behind() == []


def test_a_folder_that_cannot_be_made_leaves_the_polls(watched: Watched) -> None:
    broken = watched.folder / "sitecustomize.py"
    broken.write_text(
        "import tempfile\n"
        "real = tempfile.mkdtemp\n"
        "def mkdtemp(suffix=None, prefix=None, dir=None):\n"
        "    if str(prefix).startswith('progress-'):\n"
        "        raise OSError(28, 'No space left on device')\n"
        "    return real(suffix, prefix, dir)\n"
        "tempfile.mkdtemp = mkdtemp\n",
        encoding="utf-8",
    )
    watched.environment["PYTHONPATH"] = str(watched.folder)
    lines = watched.log([work(2.5), seen_work(watched, **{"async": 600, "poll": 1})], {"one": {}})
    banner = max(number for number, line in enumerate(lines) if line.startswith("TASK"))
    assert percentages(lines[:banner]) == []
    assert percentages(lines[banner:]) != []
    assert "ok=2 " in lines[-1]
