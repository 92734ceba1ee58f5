"""The role report: a folder that is there stays as it is, how long a plugin and a fleet page hold, by the schedule that wrote them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.ground.runner import AnsibleRunner
from tests.integration import reporting
from tests.integration.test_report import page, report, run_plugin

pytestmark = pytest.mark.any_driver

DAY = 86400.0


def test_a_folder_that_is_there_keeps_its_mode_and_one_that_is_made_gets_it(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    there = tmp_path / "out"
    there.mkdir()
    there.chmod(0o1777)
    for _run in range(2):
        assert report(ansible_runner, tmp_path, {"a": reporting.well()}, report_formats="json").rc == 0
        assert there.stat().st_mode & 0o7777 == 0o1777
    given = {"report_formats": "json", "report_folder": str(tmp_path / "made")}
    for mode, kept in (("0711", 0o711), ("0700", 0o711)):
        assert report(ansible_runner, tmp_path, {"a": reporting.well()}, report_folder_mode=mode, **given).rc == 0
        assert (tmp_path / "made").stat().st_mode & 0o7777 == kept
    # What is no folder is none to write to.
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    refused = report(ansible_runner, tmp_path, {"a": reporting.well()}, report_formats="json", report_folder=str(tmp_path / "file"))
    assert refused.rc == 2
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_the_plugin_holds_until_the_next_run_of_its_schedule(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    most = {"hourly": 7200.0, "daily": 26 * 3600.0, "weekly": 8 * DAY, "monthly": 32 * DAY, "chosen": 7200.0}
    results: dict[str, Any] = {}
    for tier, seconds in most.items():
        for word, age in (("within", seconds - 600), ("after", seconds + 600)):
            results[f"{tier}-{word}"] = {
                **reporting.well(),
                "tier": tier if tier != "chosen" else None,
                "time": reporting.iso(time.time() - age),
            }
    expected = {name: 3 * name.endswith("after") for name in results}
    given = {"report_formats": "nagios", "report_fleet": False}
    assert report(ansible_runner, tmp_path, dict(results), **given).rc == 0
    assert {name: run_plugin(tmp_path / "out" / f"{name}.nagios.sh")[0] for name in results} == expected
    # What is given wins.
    monthly = {"monthly-within": results["monthly-within"]}
    assert report(ansible_runner, tmp_path, monthly, report_nagios_max_age="2 h", **given).rc == 0
    code, said = run_plugin(tmp_path / "out" / "monthly-within.nagios.sh")
    assert (code, "more than 7200 s" in said) == (3, True)


def test_the_fleet_page_says_until_when_it_holds(ansible_runner: AnsibleRunner, tmp_path: Path) -> None:
    older = {**reporting.well(), "time": reporting.iso(reporting.NOW - DAY)}
    done = report(ansible_runner, tmp_path, {"a": reporting.well(), "b": older}, report_formats="html", report_stale_after="26 h")
    assert done.rc == 0, done.stdout
    words = page(tmp_path / "out", "fleet").words
    said = time.strftime("%-d %b %Y %H:%M UTC", time.gmtime(reporting.NOW + 26 * 3600))
    assert f"valid until {said}" in words
    # Of nothing that was ever looked at, nothing holds.
    assert report(ansible_runner, tmp_path, {"a": {}, "b": {}}, report_formats="html", report_folder=str(tmp_path / "none")).rc == 0
    assert "valid until" not in page(tmp_path / "none", "fleet").words
