"""The variables of the role retention: each reaches the module, is refused where it is wrong, and is not given where it is empty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.ground.evidence import fingerprint
from tests.ground.runner import PlaybookResult
from tests.ground.servers import CHECKOUT
from tests.ground.systems import description_of
from tests.ground.templates import SystemDatabase

Playbook = Callable[..., PlaybookResult]
Systems = Callable[..., SystemDatabase]


def host_of(database: SystemDatabase, system: Any = "tim", **variables: Any) -> dict[str, dict[str, Any]]:
    return {"tim": {"pgops_system": system, "pgops_connection": database.login(), **variables}}


def at(hours: int) -> str:
    """Return the time of day so many hours from now, by UTC."""
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%H:%M")


def with_windows(*windows: dict[str, Any]) -> dict[str, Any]:
    """Return the description of TIM with maintenance windows in it."""
    path = CHECKOUT / "roles/system/files/systems/tim.yml"
    written: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**written, "maintenance": {**written["maintenance"], "windows": list(windows)}}


def arguments_of(done: PlaybookResult) -> dict[str, Any]:
    """Return what the module was given."""
    (found,) = done.find(action="pg_cleanup")
    arguments: dict[str, Any] = found.result["invocation"]["module_args"]
    return arguments


def text_of(done: PlaybookResult) -> str:
    (printed,) = done.find(action="debug")
    return "\n".join(printed.result["summary_lines"])


def test_every_variable_reaches_the_module(system_database: Systems, run_playbook: Playbook) -> None:
    given = {
        "retention_batch_rows": "500",
        "retention_batch_time": "50 ms",
        "retention_max_rows": "1,000,000".replace(",", ""),
        "retention_max_runtime": "10 min",
        "retention_throttle": {"replica_lag": "5 s", "archive_backlog": "off"},
        "retention_vacuum": "never",
        "retention_vacuum_truncate": "true",
        "retention_allow_unindexed_references": "yes",
    }
    done = run_playbook("daily", host_of(system_database("tim")), extra_vars=given)
    assert done.rc == 0, done.stdout
    found = arguments_of(done)
    assert {name: found[name] for name in ("batch_rows", "batch_time", "max_rows", "max_runtime", "vacuum")} == {
        "batch_rows": 500,
        "batch_time": "50 ms",
        "max_rows": 1_000_000,
        "max_runtime": "10 min",
        "vacuum": "never",
    }
    assert found["throttle"] == {"replica_lag": "5 s", "archive_backlog": "off"}
    assert (found["vacuum_truncate"], found["allow_unindexed_references"]) == (True, True)


def test_what_is_empty_or_left_out_is_the_module_s_own(system_database: Systems, run_playbook: Playbook) -> None:
    options = yaml.safe_load((CHECKOUT / "roles/retention/meta/argument_specs.yml").read_text(encoding="utf-8"))
    names = set(options["argument_specs"]["main"]["options"]) - {"retention_schedule", "retention_preview"}
    database = system_database("tim")
    left_out = arguments_of(run_playbook("daily", host_of(database), check=True))
    empty = arguments_of(run_playbook("daily", host_of(database), check=True, extra_vars=dict.fromkeys(names, "")))
    assert empty == left_out
    assert (empty["batch_rows"], empty["batch_time"], empty["vacuum"], empty["window"]) == (100_000, "200 ms", "auto", None)
    assert (empty["max_rows"], empty["max_runtime"], empty["vacuum_truncate"], empty["allow_unindexed_references"]) == (
        None,
        None,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"retention_batch_rows": 0}, "batch_rows: 0 is not a number of rows"),
        ({"retention_max_rows": 0}, "max_rows: 0 is not a number of rows from 1 up"),
        ({"retention_batch_time": "0 s"}, "batch_time: 0 leaves no time"),
        ({"retention_throttle": {"replica_lagg": "5 s"}}, "throttle.replica_lagg"),
        ({"retention_vacuum": "full"}, "retention_vacuum"),
        ({"retention_window": "nightly"}, "retention_window: 'nightly' is not one of the windows of tim: it has none"),
        ({"retention_window": {"at": "22:00", "time_zone": "UTC"}}, "lasts"),
        ({"retention_window": {"at": "22:00", "lasts": "1 h", "time_zone": "Nowhere/Land"}}, "Nowhere/Land"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_changed(
    system_database: Systems, run_playbook: Playbook, variables: dict[str, Any], said: str
) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    done = run_playbook("daily", host_of(database, **variables))
    assert done.rc != 0
    assert said in done.stdout
    assert fingerprint(database) == before


def test_a_window_of_the_system_that_is_open(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    windows = [
        {"name": "nightly", "schedule": "daily", "at": at(-1), "lasts": "3 h", "time_zone": "UTC"},
        {"name": "other", "schedule": "monthly", "weekday": "sunday", "at": "03:00"},
    ]
    done = run_playbook("daily", host_of(database, with_windows(*windows), retention_window="nightly"))
    assert done.rc == 0, done.stdout
    assert arguments_of(done)["window"]["at"] == windows[0]["at"]
    (cleanup,) = done.find(action="pg_cleanup")
    assert cleanup.result["removed"] == database.expected.total("daily")


def test_a_window_that_is_closed_changes_nothing_and_warns(system_database: Systems, run_playbook: Playbook) -> None:
    database = system_database("tim")
    before = fingerprint(database)
    window = {"at": at(2), "lasts": "1 h", "time_zone": "UTC"}
    done = run_playbook("daily", host_of(database, retention_window=window))
    assert done.rc == 0, "a window is a bound of one's own"
    assert fingerprint(database) == before
    (cleanup,) = done.find(action="pg_cleanup")
    assert (cleanup.result["changed"], cleanup.result["removed"], cleanup.result["stopped"]) == (False, 0, "window")
    assert "warning: retention: its window closed before it was done" in text_of(done)


def test_a_window_is_chosen_by_its_name(system_database: Systems, run_playbook: Playbook) -> None:
    windows = [{"name": name, "schedule": "weekly", "weekday": "sunday", "at": "03:00"} for name in ("weekly", "monthly")]
    done = run_playbook("daily", host_of(system_database("tim"), with_windows(*windows), retention_window="nightly"))
    assert done.rc != 0
    assert "retention_window: 'nightly' is not one of the windows of tim: weekly, monthly" in done.stdout
    assert not done.find(action="pg_cleanup")


def test_the_systems_own_windows_say_no_end() -> None:
    """So that naming one is refused, rather than a run without an end."""
    assert [window["lasts"] for window in description_of("showtrack")["maintenance"]["windows"]] == [None, None]
