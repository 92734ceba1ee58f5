"""Everything in this folder talks to a real server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test

from tests.ground.databases import Database
from tests.ground.runner import DRIVERS
from tests.integration.cleaning import Cleaner

HERE = Path(__file__).resolve().parent
# Files whose tests share a server, or dumps, of their own: made once and not by each of the processes.
TOGETHER = {
    "test_backup_series",
    "test_health_replication",
    "test_health_rates",
    "test_health_reviewed",
    "test_health_slots",
    "test_health_wal",
    "test_content_faithful",
    "test_notify_failing",
}
# Playbook runs whose outcome several tests of a file read.
RUNS = ("course", "days", "dead", "evening", "reports", "unwritable")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", "integration: needs a PostgreSQL server, which the tests start")
    config.addinivalue_line("markers", "any_driver: the same with every driver; with one of them but where a major version is asked for")
    config.addinivalue_line(
        "markers", "every_driver: for a test of a file of any_driver: what drivers convert or how they fail is its matter"
    )


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that `-m integration` selects them, and leave out what another driver would only repeat."""
    repeated = set() if config.getoption("--pg-major") else {item for item in items if _repeats(item)}
    config.hook.pytest_deselected(items=[item for item in items if item in repeated])
    items[:] = [item for item in items if item not in repeated]
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            for group in _groups(item):
                item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _groups(item: pytest.Item) -> list[str]:
    """Return the group of tests that one process runs because what they share takes long to make; where none was given."""
    names = getattr(item, "fixturenames", ())
    if item.get_closest_marker("xdist_group") is not None:
        return []
    if item.path.stem in TOGETHER:
        return [item.path.stem]
    runs = [f"{item.path.stem} {name}" for name in RUNS if name in names]
    if runs:
        return runs[:1]
    # Five filled databases and three runs over them; a second server, which repeats whatever is written on the first.
    return [name for name in ("fleet", "standby") if name in names][:1]


def _turn(item: pytest.Item) -> int:
    """Return when a test is to run: filled systems are copied before they are too old for it; what ends last should be short.

    A runbook takes long, and a property that fails is made smaller for minutes.
    """
    names = getattr(item, "fixturenames", ())
    if HERE not in item.path.parents:
        return 3
    if {"system_databases", "published_databases"} & set(names):
        return 0
    return 1 if "ansible_runner" in names or is_hypothesis_test(getattr(item, "obj", None)) else 2


def _repeats(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    driver = call.params.get("driver") if call else None
    if driver in (None, DRIVERS[0]) or item.get_closest_marker("every_driver") is not None:
        return False
    return item.get_closest_marker("any_driver") is not None


@pytest.fixture
def _one_driver(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine in this process load `driver`: a test that uses this runs once with each.

    psycopg2 comes first where both are there, so only it has to be hidden; the ground itself needs the other one.
    """
    if driver != "psycopg2":
        monkeypatch.setitem(sys.modules, "psycopg2", None)


@pytest.fixture
def cleaner(database: Database, driver: str, monkeypatch: pytest.MonkeyPatch) -> Cleaner:
    """The clean-up engine on an empty database, with each driver."""
    return Cleaner.with_driver(database, driver, monkeypatch)
