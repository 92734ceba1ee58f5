"""What the page about a recovery drill says, whatever the result holds."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_drill import MOST_LISTED, drill_page

BACKUP = {"id": "shop.full.20261121T020000Z", "database": "shop", "taken_at": "2026-11-21T02:00:00+00:00", "bytes": 3 << 20}
PASSED: dict[str, Any] = {
    "passed": True,
    "in": "cluster",
    "backup": BACKUP,
    "tables": 5,
    "rows": 2700,
    "rto": {"seconds": 12.3, "target_seconds": 3600.0, "met": True},
    "rpo": {"seconds": 7200.0, "target_seconds": 900.0, "met": False},
    "phases": [{"name": "fetch", "began": 0.0, "seconds": 2.0}, {"name": "restore", "began": 2.0, "seconds": 8.0}],
    "differences": [],
    "checks": [{"id": "schema.present", "title": "Schema", "status": "ok", "message": "all there"}],
    "notices": ["slow"],
}


def page(**changes: Any) -> dict[str, Any]:
    return drill_page({**PASSED, **changes}, host="db1", system="shop")


def test_a_drill_that_passed_says_what_came_back_and_how_long_it_took() -> None:
    seen = page()
    assert (seen["status"], seen["word"]) == ("ok", "Recovered")
    assert seen["sentence"] == "5 tables with 2,700 rows came back as the backup says."
    assert [(one["target"], one["measured"], one["said"]) for one in seen["targets"]] == [
        ("1 h", "12.3 s", "met"),
        ("15 min", "2 h", "missed"),
    ]
    assert [(one["name"], one["took"], one["x"], one["width"]) for one in seen["phases"]] == [
        ("fetch", "2 s", 0, 20),
        ("restore", "8 s", 20, 80),
    ]
    facts = {fact["name"]: fact["text"] for fact in seen["facts"]}
    assert facts["Backup"] == BACKUP["id"]
    assert (facts["Taken"], facts["Size"], facts["Restored into"]) == ("21 Nov 2026 02:00 UTC", "3 MB", "a server made for it")


def test_a_drill_that_failed_names_the_table_first() -> None:
    differences = [
        {"kind": "table_grants", "table": "vault.t", "what": "missing", "message": f"vault.t: {number}"} for number in range(300)
    ]
    seen = page(passed=False, differences=differences)
    assert (seen["status"], seen["sentence"]) == ("critical", "vault.t: 0")
    assert seen["differences"][0] == {"what": "missing", "kind": "table grants", "table": "vault.t", "message": "vault.t: 0"}
    assert (len(seen["differences"]), seen["differences_more"]) == (MOST_LISTED, 100)
    assert page(passed=False, msg="no server could be made")["sentence"] == "no server could be made"
    assert page(passed=False, reasons=["too slow", "x"], differences=differences)["sentence"] == "too slow"


def test_what_has_no_target_and_what_was_not_measured_is_told_as_that() -> None:
    nothing = {"seconds": None, "target_seconds": 60.0, "met": False}
    seen = page(rto={"seconds": 3.0, "target_seconds": None, "met": None}, rpo=nothing)
    assert [(one["status"], one["said"]) for one in seen["targets"]] == [("skipped", "no target"), ("unknown", "not measured")]


@pytest.mark.parametrize("raw", [None, {}, [], "odd", {"passed": "yes", "phases": [1], "checks": {}, "backup": "b", "rto": 3}])
def test_what_is_missing_or_odd_is_never_a_pass(raw: Any) -> None:
    seen = drill_page(raw, host="db1")
    assert seen["status"] == "critical"
    assert seen["phases"] == seen["checks"] == []
    assert [one["said"] for one in seen["targets"]] == ["no target", "no target"]


def test_texts_of_others_are_escaped() -> None:
    bad = "<script>alert('x')</script>"
    hostile = {"kind": bad, "table": bad, "what": bad, "message": bad}
    checks = [{"id": bad, "title": bad, "status": bad, "message": bad}]
    left = [{"what": bad, "object": bad, "why": bad}, bad]
    seen = drill_page(
        {"passed": False, "differences": [hostile], "checks": checks, "left_out": left, "notices": [bad], "in": bad}, host=bad, system=bad
    )
    assert "<" not in str(seen)
    assert "&lt;script&gt;" in str(seen)
