"""The history of health checks without a server: comparing, thinning, forecasts, counters, records."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.compare import Comparison, Sight, compare, looked
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.forecast import FOR_EVER, WINDOW_DAYS, forecast, forecasts
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.model import EMPTY, OFF, THERE, History
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.record import Baseline, baseline, clean, make, usable
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.series import (
    DAILY_SECONDS,
    MOST_OBJECTS,
    MOST_SERIES,
    as_read,
    as_written,
    charted,
    gathered,
    thin,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.server import Server, identify
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.store import Handed
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Reading

NOW = 1_795_000_000.0
DAY, HOUR = 86400.0, 3600.0
PRIMARY = Server("7/primary/tim", "aaaa", {"id": "7/primary/tim"})
STANDBY = Server("7/standby/tim", "bbbb", {"id": "7/standby/tim"})


def finding(check: str, name: str, severity: str, *, aside: bool = False) -> dict[str, Any]:
    """Return a finding as a report has it."""
    given = {"check": check, "title": check, "object": name, "message": f"{name} is bad", "severity": severity}
    return {**given, **({"reason": "known"} if aside else {})}


class Model:
    """A history of runs as a person would keep it: which problems have been told and not been taken back."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.at = NOW

    def run(self, said: dict[str, list[Reading]], aside: set[str] = frozenset(), server: Server | None = PRIMARY) -> Comparison:  # type: ignore[assignment]
        """Run once, and record."""
        self.at += HOUR
        found: dict[str, Any] = {}
        for check, readings in said.items():
            for reading in readings:
                key = f"{check}[{reading.object_name}]" if reading.object_name else check
                if reading.status in ("unknown", "warning", "critical"):
                    found[key] = finding(check, reading.object_name, str(reading.status), aside=key in aside)
        before = baseline(self.records)
        sights = {check: Sight.of(readings) for check, readings in said.items()}
        done = compare(before, found, sights, self.at, server.id if server else None)
        time = datetime.fromtimestamp(self.at, UTC).isoformat()
        result: dict[str, Any] = {"metrics": {}, "time": time, "system": None, "tier": None, "status": "ok"}
        record = make(result, before, at=self.at, server=server, looked=looked(sights), findings=done.open, kept={})
        assert usable(json.loads(json.dumps(record)))
        self.records.insert(0, json.loads(json.dumps(record)))
        return done


STATUSES = st.sampled_from(["ok", "warning", "critical", "unknown", "skipped"])
READINGS = st.dictionaries(st.sampled_from(["", "a", "a.b", "c"]), STATUSES, min_size=1, max_size=3).map(
    lambda said: [Reading("said", object_name=name, status=status) for name, status in said.items()]
)
RUNS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["x", "y", "avail.z"]), READINGS, max_size=3),
        st.sets(st.sampled_from(["x[a]", "y[c]", "x"])),
        st.sampled_from([PRIMARY, PRIMARY, STANDBY, None]),
    ),
    max_size=12,
)


@given(RUNS)
@settings(max_examples=300, deadline=None)
def test_a_finding_never_vanishes_unless_it_is_resolved_or_set_aside(runs: list[Any]) -> None:
    model = Model()
    for said, aside, server in runs:
        before = baseline(model.records)
        earlier = dict(before.findings) if before else {}
        done = model.run(said, aside, server)
        now = baseline(model.records)
        assert now is not None
        gone = {each["key"] for each in done.resolved}
        for key, entry in earlier.items():
            assert (key in now.findings) != (key in gone) or (entry["suppressed"] and key not in now.findings)
            if key in gone:
                # Its check looked, saw it, and saw this server.
                readings = said[entry["check"]]
                assert not any(reading.status == "unknown" and reading.object_name == "" for reading in readings)
                assert entry["server"] in (None, server.id if server else None)
                assert not entry["suppressed"]
        for key, (change, since) in done.changes.items():
            assert change != "new" or key not in earlier or earlier[key]["suppressed"] or earlier[key].get("idle")
            assert change in (None, "new") or key in earlier
            assert key not in earlier or earlier[key].get("idle") or since == earlier[key]["first_seen"]


def test_what_gets_hidden_is_no_better_and_what_is_seen_again_no_worse() -> None:
    model = Model()
    model.run({"x": [Reading("", object_name="a", status="critical")]})
    assert model.run({"x": [Reading("", object_name="a", status="unknown")]}).changes["x[a]"][0] == "same"
    assert model.run({"x": [Reading("", object_name="a", status="critical")]}).changes["x[a]"][0] == "same"
    assert model.run({"x": [Reading("", object_name="a", status="warning")]}).changes["x[a]"][0] == "better"


def test_what_nobody_can_judge_is_forgotten_in_the_end() -> None:
    model = Model()
    model.run({"x": [Reading("", object_name="a", status="warning")]})
    assert "x[a]" in model.run({"x": [Reading("fine")]}, server=STANDBY).open
    model.at += 31 * DAY
    assert model.run({"x": [Reading("fine")]}, server=STANDBY).open == {}
    # But not what nobody has looked for.
    model.run({"y": [Reading("", object_name="a", status="warning")]})
    model.at += 300 * DAY
    assert set(model.run({"x": [Reading("fine")]}).open) == {"y[a]"}


def test_runs_that_did_not_know_of_each_other_are_taken_together() -> None:
    model = Model()
    model.run({"x": [Reading("", object_name="a", status="warning")]})
    shared = list(model.records)
    model.run({"y": [Reading("", object_name="b", status="warning")]})
    (mine, *_rest) = model.records
    model.records = shared
    model.run({"x": [Reading("fine")]})
    model.records.insert(1, mine)
    together = baseline(model.records)
    assert together is not None
    assert set(together.findings) == {"y[b]"}
    assert len(together.runs) == 2
    assert model.run({"y": [Reading("", object_name="b", status="warning")]}).changes["y[b]"][0] == "same"
    # One that is superseded has no say any more.
    merged = baseline(model.records)
    assert merged is not None
    assert len(merged.runs) == 1


def test_what_a_result_lists_is_known_again_however_many_there_are_beside_it() -> None:
    """A result lists the worst by their value, a record has room for a part: who was told of one is not told of it as new in every run."""
    found = {f"x[{number:03d}]": finding("x", f"{number:03d}", "warning") for number in range(150)}
    listed = sorted(found)[-20:]
    records: list[dict[str, Any]] = []
    said = []
    for at in (NOW, NOW + HOUR, NOW + 2 * HOUR):
        before = baseline(records)
        done = compare(before, found, {"x": Sight(True)}, at, None)
        said.append({done.changes[key][0] for key in listed})
        time = datetime.fromtimestamp(at, UTC).isoformat()
        result = {
            "metrics": {},
            "time": time,
            "system": None,
            "tier": None,
            "status": "warning",
            "findings": [{"key": key} for key in listed],
        }
        records.insert(0, make(result, before, at=at, server=None, looked=["x"], findings=done.open, kept={}))
        assert len(records[0]["findings"]) == 100
    assert said == [{None}, {"same"}, {"same"}]


# --- series -------------------------------------------------------------------------------------------------------------

POINTS = st.lists(st.tuples(st.floats(NOW - 500 * DAY, NOW + DAY), st.floats(-1e12, 1e12)), max_size=300)


@given(POINTS)
def test_thinning_keeps_the_first_and_the_last_and_is_bounded(points: list[tuple[float, float]]) -> None:
    kept = thin(points, NOW)
    known = sorted(point for point in points if NOW - DAILY_SECONDS < point[0] <= NOW + 300)
    assert set(kept) <= set(known)
    assert kept == sorted(kept)
    assert (kept[:1], kept[-1:]) == (known[:1], known[-1:])
    assert len(kept) <= 49 + 402 + 1
    # Thinning again takes nothing away but what was the first only.
    assert set(thin(kept, NOW)) == set(kept)


def test_thinning_leaves_a_point_an_hour_and_then_one_a_day() -> None:
    every_minute = [(NOW - minute * 60.0, float(minute)) for minute in range(10 * 24 * 60)]
    kept = thin(every_minute, NOW)
    assert 48 <= sum(at > NOW - 48 * HOUR for at, _value in kept) <= 49
    assert 8 <= sum(at <= NOW - 48 * HOUR for at, _value in kept) <= 10


def test_series_are_bounded_and_come_back_as_they_were_written() -> None:
    metrics = {f"{base}[{number}]": float(number) for base in ("seq.exhaustion", "repl.lag_time", "disk.free_pct") for number in range(50)}
    metrics.update({"size.database": 1.5, "secret.number": 1.0, "conn.states[idle]": float("nan")})
    chosen = charted(metrics)
    assert len(chosen) == 3 * MOST_OBJECTS + 1
    assert "size.database" in chosen
    rows = [(NOW - hours * HOUR, metrics) for hours in range(100)]
    series = gathered(rows, NOW)
    assert len(series) <= MOST_SERIES
    written = {metric: as_written(points) for metric, points in series.items()}
    assert as_read(json.loads(json.dumps(written))) == series
    assert as_read({"size.database": [["x", 1], [1], "no", [5, 1.5], [2, 1]], "other": 7, "conn.slots": []}) == {
        "size.database": [(2.0, 1.0), (5.0, 1.5)]
    }


# --- forecasts ----------------------------------------------------------------------------------------------------------


def line(days: int, value: Any) -> list[tuple[float, float]]:
    """Return a point a day up to now; `value` takes the number of the day."""
    return [(NOW - (days - day) * DAY, float(value(day))) for day in range(days + 1)]


def test_a_straight_line_runs_out_when_it_does() -> None:
    found = forecast("seq.exhaustion[s]", line(10, lambda day: 50 + day), 100.0)
    assert found is not None
    assert (found.now, found.per_day, found.days_left, found.points) == (60, pytest.approx(1), pytest.approx(40), 11)
    down = forecast("disk.free_bytes[/]", line(10, lambda day: 1000 - 10 * day), 0.0)
    assert down is not None
    assert (down.per_day, down.days_left) == (pytest.approx(-10), pytest.approx(90))
    unlimited = forecast("size.database", line(10, lambda day: 50 + day), None)
    assert unlimited is not None
    assert (unlimited.limit, unlimited.days_left) == (None, None)


# The same examples in each run: of a hundred thousand months a few end in noise that no one could tell from a trend of three days.
@given(st.integers(0, 10**6), st.floats(0.2, 3.0))
@settings(deadline=None, derandomize=True)
def test_noise_does_not_move_a_forecast_far(seed: int, slope: float) -> None:
    noise = random.Random(seed)
    found = forecast("size.database", line(30, lambda day: 1000 + slope * day + noise.uniform(-0.5, 0.5)), 2000.0)
    assert found is not None
    assert found.per_day == pytest.approx(slope, abs=0.1)


@pytest.mark.parametrize("at", [2, 8, 15, 22, 28])
@pytest.mark.parametrize("jump", [-500, 500])
def test_one_clean_up_or_import_does_not_fool_it(at: int, jump: int) -> None:
    found = forecast("size.database", line(30, lambda day: 1000 + 10 * day + (jump if day >= at else 0)), 5000.0)
    assert found is not None
    assert found.per_day == pytest.approx(10, rel=0.05)


def hourly(value: Any, days: int = 30) -> list[tuple[float, float]]:
    """Return points as they are kept, one an hour for two days and one a day before; `value` takes the day, of which hours are parts."""
    every = [(NOW - hour * HOUR, float(value(days - hour / 24))) for hour in range(days * 24, -1, -1)]
    return thin(every, NOW)


@pytest.mark.parametrize("kept", [line, lambda days, value: hourly(value, days)])
@pytest.mark.parametrize("fresh", [3, 5, 8, 11])
def test_a_fresh_trend_is_not_hidden_by_the_quiet_days_before(kept: Any, fresh: int) -> None:
    """The disk was never touched for weeks, and then something writes 200 a day."""
    found = forecast("disk.free_bytes[/]", kept(30, lambda day: 200 + 200 * min(fresh, 30 - day)), 0.0)
    assert found is not None
    assert (found.per_day, found.days_left) == (pytest.approx(-200), pytest.approx(1))
    assert found.since >= NOW - 3.1 * DAY
    assert 4 <= found.points <= 14


def test_a_fresh_trend_after_a_clean_up_is_seen() -> None:
    found = forecast("disk.free_bytes[/]", line(30, lambda day: 100 if day < 26 else 1000 - 200 * (day - 26)), 0.0)
    assert found is not None
    assert found.days_left == pytest.approx(1)


@pytest.mark.parametrize("kept", [line, lambda days, value: hourly(value, days)])
@pytest.mark.parametrize("at", [27.5, 28.5, 29.5, 29.99])
@pytest.mark.parametrize("jump", [-500, 500])
@pytest.mark.parametrize("lasts", [0.9, 100])
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_one_spike_or_step_of_these_days_is_no_trend(kept: Any, at: float, jump: int, lasts: float, noise: float) -> None:
    drawn = random.Random(1)
    points = kept(30, lambda day: 1000 + (jump if at <= day < at + lasts else 0) + drawn.uniform(-noise, noise))
    found = forecast("disk.free_bytes[/]", points, 0.0)
    assert found is not None
    assert found.days_left is None or found.days_left > 300


def test_three_points_and_one_step_are_no_trend() -> None:
    for values in ((1000, 1000, 500), (1000, 999, 500), (1000, 400, 399), (1000, 200, 1000)):
        found = forecast("disk.free_bytes[/]", line(2, lambda day, values=values: values[day]), 0.0)
        assert found is not None
        assert found.days_left is None or found.days_left > 300
    found = forecast("disk.free_bytes[/]", line(2, lambda day: 600 - 200 * day), 0.0)
    assert found is not None
    assert found.days_left == pytest.approx(1)


def test_the_hours_of_a_day_are_no_trend() -> None:
    for now in range(24):
        found = forecast("disk.free_bytes[/]", hourly(lambda day, now=now: 1000 + 50 * math.sin((day + now / 24) * 2 * math.pi)), 0.0)
        assert found is not None
        assert found.days_left is None or found.days_left > 200


def test_what_is_cleaned_up_every_week_does_not_grow() -> None:
    found = forecast("size.database", line(28, lambda day: 1000 + 10 * (day % 7)), 5000.0)
    assert found is not None
    assert abs(found.per_day) < 1
    assert found.days_left is None or found.days_left > 1000


@pytest.mark.parametrize("value", [lambda day: 50, lambda day: 80 - day, lambda day: 50 + (day % 2)])
def test_what_does_not_grow_does_not_run_out(value: Any) -> None:
    found = forecast("seq.exhaustion[s]", line(20, value), 100.0)
    assert found is not None
    assert found.days_left is None


@pytest.mark.parametrize(
    "points",
    [[(NOW, 1.0)], [(NOW - HOUR * hour, 1.0 * hour) for hour in range(20, -1, -1)], [(NOW - DAY, 1.0), (NOW, 2.0)], []],
)
def test_too_little_history_says_nothing(points: list[tuple[float, float]]) -> None:
    assert forecast("size.database", points, 100.0) is None


@given(st.lists(st.floats(0, 1e15), min_size=3, max_size=60), st.sampled_from([0.0, 100.0, 1e15, None]))
@settings(deadline=None)
def test_a_forecast_is_always_sane(values: list[float], limit: float | None) -> None:
    found = forecast("size.database", line(len(values) - 1, lambda day: values[day]), limit)
    assert found is not None
    assert found.days_left is None or 0 <= found.days_left <= FOR_EVER
    assert found.points <= WINDOW_DAYS + 1
    assert NOW - (WINDOW_DAYS + 1) * DAY <= found.since <= NOW


def test_forecasts_of_a_result_know_their_limits() -> None:
    metrics = {"size.database": 60.0, "disk.free_bytes[/]": 940.0, "seq.exhaustion[s]": 30.0, "conn.active": 5.0, "xid.age_pct": None}
    history = History(THERE, None, {metric: line(9, lambda day: day)[:-1] for metric in metrics}, now=NOW)
    found = forecasts(metrics, history.forecast)
    assert [each["metric"] for each in found[:2]] == ["seq.exhaustion[s]", "size.database"]
    assert {each["metric"]: each["limit"] for each in found} == {
        "size.database": 1000.0,
        "disk.free_bytes[/]": 0.0,
        "seq.exhaustion[s]": 100.0,
    }
    assert all(set(each) == {"metric", "title", "unit", "now", "per_day", "limit", "days_left", "points", "since"} for each in found)
    assert found[0]["since"] == datetime.fromtimestamp(NOW - 9 * DAY, UTC).isoformat()
    # Which of two disks the database stands on is not known.
    assert forecasts({**metrics, "disk.free_bytes[/var]": 1.0}, history.forecast)[-1]["limit"] in (None, 0.0)


# --- counters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        ({"x_total": (NOW - 100, 50.0, "m")}, (1.5, 100)),
        ({}, None),
        ({"x_total": (NOW - 100, 500.0, "m")}, None),
        ({"x_total": (NOW - 100, 50.0, "other")}, None),
        ({"x_total": (NOW + 100, 50.0, "m")}, None),
        ({"x_total": (NOW, 50.0, "m")}, None),
    ],
)
def test_a_rate_is_known_only_where_the_counter_went_on(counters: Any, expected: Any) -> None:
    history = History(THERE, counters=counters, mark="m", now=NOW)
    assert history.rate("x_total", 200.0) == expected
    assert history.rate("x_total", 200.0, datetime.fromtimestamp(NOW, UTC)) == expected


def test_the_mark_changes_with_whatever_may_set_counters_back() -> None:
    server = {"in_recovery": False, "database": "tim", "started": "a", "version": "16"}
    answer = {"system_identifier": "7", "counters": "x"}
    marks = [
        identify(each, said).mark
        for each, said in [
            (server, answer),
            ({**server, "started": "b"}, answer),
            ({**server, "in_recovery": True}, answer),
            ({**server, "database": "tmi"}, answer),
            (server, {**answer, "system_identifier": "8"}),
            (server, {**answer, "counters": "y"}),
            (server, None),
        ]
    ]
    assert len(set(marks)) == len(marks)
    assert identify(server, answer).id == "7/primary/tim"


def test_why_there_is_nothing_to_compare_with() -> None:
    assert History(OFF).absence.startswith("no history is kept")
    assert History(EMPTY).absence == "no history yet"


# --- records ------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_is_recorded_can_be_written_anywhere(value: Any) -> None:
    text = json.dumps(clean({"x": value}), ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text
    assert text.encode("utf-8")


@given(st.dictionaries(st.sampled_from(["version", "run", "time", "after", "findings", "metrics", "kept", "looked"]), JSON))
def test_a_record_that_is_none_of_ours_is_not_used(damage: dict[str, Any]) -> None:
    model = Model()
    model.run({"x": [Reading("", object_name="a", status="warning")]})
    record = {**model.records[0], **damage}
    found = baseline([record])
    assert found is None or isinstance(found, Baseline)
    assert baseline([{}, [], None, "x", model.records[0]]) is not None


def test_a_history_that_is_none_is_refused() -> None:
    for wrong in ({"a": 1}, {"records": 5}, {"place": "/x", "history": {}}):
        with pytest.raises(InvalidValue, match="not what pg_health_history returns"):
            Handed(wrong)
    with pytest.raises(InvalidValue, match="not the snapshot"):
        file_store.snapshot({"version": 1})


def test_a_moment_without_a_zone_is_no_moment() -> None:
    model = Model()
    model.run({})
    local = (datetime.now() - timedelta(hours=1)).isoformat()
    assert not usable({**model.records[0], "time": local})
