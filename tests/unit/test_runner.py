"""What `make test` shows of a step that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.children import until
from tests.runner import steps
from tests.runner.stages import failures_first
from tests.runner.steps import Processes, Step

TESTS = """
import pytest


@pytest.mark.parametrize("number", range(200))
def test_that_passes(number):
    assert number >= 0


def test_that_fails():
    assert "what is there" == "what is right"


def test_without_its_ground(no_such_fixture):
    assert no_such_fixture
"""

ENDLESS = """
import pathlib
import time


def test_that_fails():
    assert "what is there" == "what is right"


def test_that_never_ends():
    pathlib.Path("reached").touch()
    time.sleep(600)
"""


def test_names_of_failed_tests_come_first_and_dots_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "test_it.py"]
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    output = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False).stdout

    shown = failures_first(output).splitlines()

    assert sorted(line.split(" - ")[0] for line in shown[:2]) == [
        "ERROR test_it.py::test_without_its_ground",
        "FAILED test_it.py::test_that_fails",
    ]
    assert any("'what is there' == 'what is right'" in line for line in shown[2:])
    assert "1 failed, 200 passed" in shown[-1]
    assert not [line for line in shown if line.startswith("....")]


def test_tests_that_take_too_long_still_say_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_it.py").write_text(ENDLESS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "test_it.py"]
    step = Step("tests that never end", command, folder=tmp_path, environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, seconds=0.5)
    wait = subprocess.Popen.wait

    def from_where_it_stays(process: Any, timeout: float) -> int:
        # How long it takes to get there is up to the machine.
        until((tmp_path / "reached").exists)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", from_where_it_stays)
    # Another run of these tests in this checkout has the same log.
    monkeypatch.setattr(steps, "CACHE", tmp_path)

    ended = Processes().run(step)

    assert ended.code is None
    assert "FAILED test_it.py::test_that_fails" in ended.output
    assert "stopped: not done after 0.5 s" in ended.output
