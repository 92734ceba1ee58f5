"""The health checks without a server: the registry, thresholds, judgement, the shape of a result, the page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.module_utils import _health, _system
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health import report, words
from ansible_collections.pgops.runbook.plugins.module_utils._health.limits import merge
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import STATUSES, Reading, judge
from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import select
from ansible_collections.pgops.runbook.plugins.module_utils._health.suppressions import Suppressions
from ansible_collections.pgops.runbook.plugins.module_utils._health.zones import ENOUGH, SLACK, Bucket, offset_ahead, offset_behind
from tests.tools.checks_page import PAGE, page

CHECKS = _health.CHECKS
INTEGRATION = Path(__file__).resolve().parents[1] / "integration"


# --- the registry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_a_check_says_all_of_itself(check: Any) -> None:
    assert check.tier in _health.TIERS
    assert check.id.startswith(f"{check.group}.")
    for sentence in (check.title, check.looks_at, check.action, check.needs):
        assert sentence
        assert sentence == " ".join(sentence.split())
    assert check.looks_at.endswith(".")
    assert check.action.endswith(".")
    # Without a unit nothing can be compared.
    assert check.unit or (check.warning, check.critical, check.minimum) == (None, None, None)
    assert bool(check.minimum_of) == (check.minimum is not None)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_a_description_can_write_thresholds_for_every_check(check: Any) -> None:
    fact = _system.CHECKS[check.id]
    assert (fact.tier, fact.unit, fact.worse) == (check.tier, check.unit, check.worse)


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_a_test_on_a_server(check: str) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted(INTEGRATION.glob("test_health*.py")))
    assert check in tests


def test_a_fact_has_a_name_of_its_own() -> None:
    facts = {fact for check in CHECKS.values() for fact in check.facts}
    assert len({fact.name for fact in facts}) == len(facts)
    # They are asked together, without parameters.
    assert [fact.name for fact in facts if "%" in fact.statement] == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python3 -m tests.tools.checks_page"


# --- choosing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "tier", "has", "lacks"),
    [
        ([], None, "login.stuck", "size.rows"),
        ([], "daily", "size.rows", None),
        ([], "monthly", "login.stuck", None),
        (["size"], None, "size.rows", "login.stuck"),
        (["token"], "hourly", "token.revocation_rate", "token.orphaned_deny"),
    ],
)
def test_checks_are_chosen_by_name_and_tier(names: list[str], tier: str | None, has: str, lacks: str | None) -> None:
    chosen = [check.id for check in select(names, tier)]
    assert has in chosen
    assert lacks not in chosen
    assert chosen[0] == "avail.connect"


DECLARED = {
    "name": "tim",
    "schemas": ["public"],
    "thresholds": {
        "later.hourly": {"critical": 0, "action": "Call Ann."},
        "later.daily": {"warning": "1 day"},
        "other.weekly": {"warning": 1},
        "login.stuck": {"warning": 1},
    },
}


@pytest.fixture
def _not_written_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that a description may name and no code looks at."""
    later = {"later.hourly": ("hourly", "count"), "later.daily": ("daily", "seconds"), "other.weekly": ("weekly", "count")}
    for check, fact in later.items():
        monkeypatch.setitem(_system.CHECKS, check, _system.CheckFact(*fact))


@pytest.mark.usefixtures("_not_written_yet")
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["later.hourly"]),
        ({"tier": "daily"}, ["later.hourly", "later.daily"]),
        ({"tier": "monthly"}, ["later.hourly", "later.daily", "other.weekly"]),
        ({"checks": ["later.daily"]}, ["later.daily"]),
        ({"checks": ["other"]}, ["other.weekly"]),
        ({"checks": ["token"]}, []),
    ],
)
def test_what_is_declared_and_not_looked_at_is_said(params: dict[str, Any], expected: list[str]) -> None:
    request = _health.Request.from_params({"system": DECLARED, **params})
    assert [check.id for check in request.checks if check.id not in CHECKS] == expected
    # Whether or not there is a connection.
    result = refused("port", system=DECLARED, **params)
    said = {check["id"]: check for check in result["checks"] if check["id"] in expected}
    assert list(said) == expected
    for check in said.values():
        assert check["status"] == "skipped"
        assert check["message"] == "declared in the system, and no check of this version looks at it"
    if expected:
        assert f", {len(expected)} skipped" in result["summary"]
    if "later.hourly" in said:
        limits = said["later.hourly"]["thresholds"]
        assert (limits["critical"], limits["sources"], said["later.hourly"]["action"]) == (0, {"critical": "system"}, "Call Ann.")


@pytest.mark.usefixtures("_not_written_yet")
def test_what_is_neither_declared_nor_looked_at_is_not_known() -> None:
    with pytest.raises(InvalidValue, match=r"'later.never' is not known"):
        _health.Request.from_params({"system": DECLARED, "checks": ["later.never"]})


@pytest.mark.parametrize("params", [{"tier": ""}, {"checks": [""]}, {"checks": ["", " "], "tier": ""}])
def test_what_is_empty_is_not_given(params: dict[str, Any]) -> None:
    assert _health.Request.from_params(params).checks == _health.Request.from_params({}).checks


def test_an_empty_timeout_and_an_empty_status_are_the_defaults() -> None:
    options = ConnectionOptions.from_params({"login_db": "tim"})
    assert _health.session_options(options, "") == _health.session_options(options, "10 s")
    assert [status for status in STATUSES if _health.fails(status, "")] == ["critical"]


# --- thresholds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "system", "call", "expected"),
    [
        ("conn.used_pct", None, None, (80, 90)),
        ("conn.used_pct", {"warning": 70, "critical": None, "action": None}, None, (70, 90)),
        ("conn.used_pct", {"warning": 70}, {"warning": "60 %"}, (60, 90)),
        ("conn.used_pct", None, {"critical": None}, (80, None)),
        # An inherited bound does not stay in the way of one that was given.
        ("conn.used_pct", {"warning": 95}, None, (95, 95)),
        ("conn.used_pct", {"critical": 50}, None, (50, 50)),
        ("cache.hit_pct", {"warning": 70}, None, (70, 70)),
        ("cache.hit_pct", None, {"critical": 95}, (95, 95)),
        ("query.longest", None, {"warning": "30 s", "critical": "1 h"}, (30, 3600)),
        ("size.database", None, {"warning": "5 GB", "critical": "10 GB"}, (5 << 30, 10 << 30)),
    ],
)
def test_the_nearest_threshold_holds(check: str, system: Any, call: Any, expected: tuple[float, float]) -> None:
    limits = merge(CHECKS[check], system, call)
    assert (limits.warning, limits.critical) == expected


def test_a_least_sample_of_bytes_is_a_size() -> None:
    assert merge(CHECKS["bloat.table"], None, {"minimum": "10 MB"}).minimum == 10 << 20
    assert merge(CHECKS["bloat.table"], {"minimum": 5}, None).minimum == 5
    with pytest.raises(InvalidValue, match=r"thresholds\[bloat.table\].minimum"):
        merge(CHECKS["bloat.table"], None, {"minimum": "much"})


def test_a_threshold_knows_its_source() -> None:
    limits = merge(CHECKS["token.revocation_rate"], {"warning": 5, "action": "Ask."}, {"critical": 40})
    assert limits.sources == {"warning": "system", "critical": "call", "minimum": "default"}
    assert limits.action == "Ask."


@pytest.mark.parametrize("value", [True, "many", [], {}])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"thresholds\[login.stuck\].warning"):
        merge(CHECKS["login.stuck"], None, {"warning": value})


@pytest.mark.parametrize("check", ["login.stuck", "conn.used_pct", "query.longest", "size.database"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", float("nan"), float("inf"), "1e999", "9" * 400])
def test_what_is_not_finite_is_refused(check: str, value: Any) -> None:
    # Nothing lies beyond them: the check would be ok for ever.
    with pytest.raises(InvalidValue, match=rf"thresholds\[{check}\].critical"):
        merge(CHECKS[check], None, {"critical": value})
    with pytest.raises(InvalidValue, match=r"thresholds\[cache.hit_pct\].minimum"):
        merge(CHECKS["cache.hit_pct"], None, {"minimum": value})


@pytest.mark.parametrize(
    ("check", "amount", "status"),
    [
        ("conn.used_pct", 80, "ok"),
        ("conn.used_pct", 80.1, "warning"),
        ("conn.used_pct", 90, "warning"),
        ("conn.used_pct", 90.1, "critical"),
        ("conn.used_pct", None, "ok"),
        ("cache.hit_pct", 90, "ok"),
        ("cache.hit_pct", 89.9, "warning"),
        ("cache.hit_pct", 79.9, "critical"),
        ("login.stuck", 0, "ok"),
        ("login.stuck", 1, "warning"),
        ("conn.active", 10**6, "ok"),
    ],
)
def test_a_value_is_judged_by_what_lies_beyond(check: str, amount: float | None, status: str) -> None:
    assert judge(CHECKS[check], merge(CHECKS[check], None, None), amount)[0] == status


# --- zones --------------------------------------------------------------------------------------------------------------


def buckets(offset: float, per_half_hour: float, since_last: float = 60) -> list[Bucket]:
    """Return the half hours of a steady service whose clock runs `offset` seconds ahead."""
    step = 1800 / per_half_hour
    moments = [offset - since_last - n * step for n in range(int((offset + 3600) / step) + 1)]
    halves: dict[int, list[float]] = {}
    for moment in moments:
        halves.setdefault(int((moment - SLACK) // 1800), []).append(moment)
    return [Bucket(number, len(inside), max(inside)) for number, inside in sorted(halves.items()) if number >= -2]


@settings(deadline=None)
@given(half_hours=st.integers(1, 52), rate=st.integers(4, 400), since_last=st.integers(0, 590))
def test_every_zone_ahead_is_found(half_hours: int, rate: int, since_last: int) -> None:
    offset = half_hours * 1800
    # The counts of a slow service depend on where its few rows fall.
    if 1800 / rate <= 600 - since_last / 2:
        assert offset_ahead(buckets(offset, rate, since_last), 3) == offset


@settings(deadline=None)
@given(rate=st.integers(20, 400), stray=st.lists(st.floats(301, 90000), max_size=4))
def test_a_few_stray_rows_are_no_zone(rate: int, stray: list[float]) -> None:
    past = [Bucket(-2, rate, -1801.0), Bucket(-1, rate, -1.0)]
    assert offset_ahead(past + [Bucket(int((moment - SLACK) // 1800), 1, moment) for moment in stray], 3) is None


def test_rows_ahead_of_nothing_are_no_zone() -> None:
    # Three tokens dated ahead in a store that is idle, near a whole number of half hours by chance.
    assert offset_ahead([Bucket(2, 3, 5390.0)], 3) is None


@settings(deadline=None)
@given(half_hours=st.integers(1, 52), rows=st.integers(ENOUGH, 5000), share=st.floats(0, 0.99))
def test_a_clock_that_may_be_behind_is_told_from_one_that_is_just_idle(half_hours: int, rows: int, share: float) -> None:
    usual = min(600, 3 * 3600 / rows)
    assert offset_behind(half_hours * 1800 + share * usual, rows) == half_hours * 1800
    assert offset_behind(half_hours * 1800 + usual + 1, rows) is None
    assert offset_behind(half_hours * 1800, ENOUGH - 1) is None
    assert offset_behind(share * 600, rows) is None
    assert offset_behind(27 * 3600, rows) is None


# --- the result ---------------------------------------------------------------------------------------------------------


def result_of(*readings: tuple[str, Reading]) -> dict[str, Any]:
    """Return the result of checks that read this."""
    found: dict[str, list[Reading]] = {}
    for check, reading in readings:
        found.setdefault(check, []).append(reading)
    limits = {check: merge(CHECKS[check], None, None) for check in found}
    run = report.Run({"name": "tim"}, "hourly", limits, Suppressions(), datetime(2026, 11, 21, tzinfo=UTC), {})
    return report.report(run, [(CHECKS[check], each) for check, each in found.items()]).result


@pytest.mark.parametrize(
    ("statuses", "status", "code"),
    [
        (["ok", "skipped"], "ok", 0),
        (["ok", "unknown"], "unknown", 3),
        (["unknown", "warning"], "warning", 1),
        (["warning", "critical", "unknown"], "critical", 2),
        # Nothing was looked at: that is not ok.
        (["skipped"], "unknown", 3),
    ],
)
def test_the_worst_status_is_the_results(statuses: list[str], status: str, code: int) -> None:
    result = result_of(*[(check, Reading("so", status=each)) for check, each in zip(CHECKS, statuses, strict=False)])
    assert (result["status"], result["exit_code"]) == (status, code)


@pytest.mark.parametrize(
    ("fail_on", "failing"),
    [("critical", {"critical"}), ("warning", {"critical", "warning"}), ("unknown", {"critical", "warning", "unknown"}), ("never", set())],
)
def test_what_fails_a_task(fail_on: str, failing: set[str]) -> None:
    assert {status for status in STATUSES if _health.fails(status, fail_on)} == failing


def test_the_summary_is_one_line_worst_first() -> None:
    result = result_of(
        ("login.stuck", Reading("two\nlines", 1.0, "a")),
        ("login.pending", Reading("many", 200.0, "a")),
        ("conn.used_pct", Reading("too many", 99.0)),
        ("conn.states", Reading("not seen", status="unknown")),
        ("query.longest", Reading("quick", 1.0)),
    )
    assert result["summary"] == (
        "tim critical: 1 critical, 2 warning, 1 unknown: "
        "conn.used_pct too many; login.stuck[a] two lines; login.pending[a] many; and 1 more"
    )
    assert [found["severity"] for found in result["findings"]] == ["critical", "warning", "warning", "unknown"]
    assert result["unknown"] == ["conn.states"]


def test_a_finding_carries_what_it_was_compared_with() -> None:
    (found,) = result_of(("query.longest", Reading("long", 400.0)))["findings"]
    expected = {"key": "query.longest", "check": "query.longest", "severity": "warning", "object": "", "value": 400.0, "unit": "seconds"}
    assert {name: found[name] for name in expected} == expected
    assert (found["warning"], found["critical"], found["threshold"], found["threshold_source"]) == (300, 600, 300, "default")
    assert found["action"] == CHECKS["query.longest"].action


def test_findings_of_one_check_are_bounded_and_the_worst_are_kept() -> None:
    result = result_of(*[("login.pending", Reading("many", 101.0 + n, f"t{n}")) for n in range(100)])
    assert len(result["findings"]) == report.FINDINGS_PER_CHECK
    assert result["findings"][0]["object"] == "t99"
    assert result["checks"][0]["value"] == 200
    assert result["checks"][0]["objects"] == 100
    assert result["checks"][0]["findings_total"] == 100
    assert result["summary"].endswith("and 97 more")
    mixed = [
        Reading("many", 101.0, "a"),
        Reading("few", 1.0, "b"),
        Reading("no", status="unknown", object_name="c"),
        Reading("-", status="skipped"),
    ]
    assert result_of(*[("login.pending", reading) for reading in mixed])["checks"][0]["findings_total"] == 2
    lowest = result_of(("cache.hit_pct", Reading("a", 70.0, "a")), ("cache.hit_pct", Reading("b", 10.0, "b")))
    assert lowest["checks"][0]["value"] == 10


# --- refused ------------------------------------------------------------------------------------------------------------


def refused(layer: str, **params: Any) -> dict[str, Any]:
    """Return the result of a run whose connection is refused."""

    def open_database() -> Any:
        raise ConnectError(f"no way in to db1:5432 (layer: {layer}).", layer=layer)

    return _health.run(open_database, _health.Request.from_params(params or {"tier": "hourly"}))


def test_a_server_that_starts_up_is_a_warning() -> None:
    result = refused("starting_up")
    assert result["status"] == "warning"
    assert [found["key"] for found in result["findings"]] == ["avail.recovering"]
    assert result["findings"][0]["layer"] == "starting_up"
    assert "no way in to db1:5432 (layer: starting_up)." in result["findings"][0]["message"]


@pytest.mark.parametrize(
    "layer",
    [
        "name",
        "port",
        "tls",
        "authentication",
        "authorization",
        "database",
        "shutting_down",
        "too_many_connections",
        "session",
        "service",
        "unknown",
    ],
)
def test_every_other_refusal_is_critical(layer: str) -> None:
    result = refused(layer)
    assert (result["status"], result["server"], result["round_trips"]) == ("critical", {}, 0)
    (found,) = result["findings"]
    assert (found["key"], found["layer"]) == ("avail.connect", layer)
    assert found["action"]
    assert found["message"] == f"no way in to db1:5432 (layer: {layer})."
    assert set(result["unknown"]) == {check["id"] for check in result["checks"]} - {"avail.connect"}


def test_a_refusal_is_reported_although_other_checks_were_chosen() -> None:
    def open_database() -> Any:
        raise ConnectError("no way in", layer="starting_up")

    result = _health.run(open_database, _health.Request.from_params({"checks": ["token"]}))
    assert result["findings"][0]["key"] == "avail.recovering"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-21 03:18:58.500268+00", "2026-11-21 03:18:58 UTC"),
        ("2026-11-21 03:18:58+00", "2026-11-21 03:18:58 UTC"),
        ("infinity", "infinity"),
    ],
)
def test_a_moment_is_said_to_the_second(text: str, said: str) -> None:
    assert words.moment(text) == said
