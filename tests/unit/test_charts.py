"""The arithmetic of charts and the words of reports: pure functions, so every odd case is here."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import Scale, nice_ticks, number, points, runs, stack, thin, time_ticks
from ansible_collections.pgops.runbook.plugins.plugin_utils._charts_drawing import Ahead, Limit, bars, events, history
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import (
    amount,
    epoch,
    file_name,
    for_markdown,
    moment,
    statements,
    tidy,
)

HOUR, DAY = 3600, 86400
START = 1795000000 // HOUR * HOUR
VALUES = st.floats(-1e150, 1e150)


def hours(count: int, *missing: int) -> list[tuple[float, float]]:
    return [(START + hour * HOUR, float(hour)) for hour in range(count) if hour not in missing]


def test_a_scale_maps_and_keeps_inside() -> None:
    scale = Scale(0, 50, 200, 0)
    assert [scale.at(value) for value in (0, 25, 50, 80, -3)] == [200, 100, 0, 0, 200]
    assert Scale(7, 7, 0, 100).at(7) == 50, "all equal is the middle"


@pytest.mark.parametrize(
    ("low", "high", "unit", "ticks"),
    [
        (0, 97, None, [0, 25, 50, 75, 100]),
        (0, 0, None, [0, 0.25, 0.5, 0.75, 1]),
        (-3, 12, None, [-5, 0, 5, 10, 15]),
        (5, 5, None, [4.5, 4.75, 5, 5.25, 5.5]),
        (0, 3 * 1024**3, "bytes", [0, 1024**3, 2 * 1024**3, 3 * 1024**3]),
        (0, 200, "seconds", [0, 60, 120, 180, 240]),
        (12, 0, None, [0, 5, 10, 15]),
    ],
)
def test_ticks_are_what_a_person_would_choose(low: float, high: float, unit: str | None, ticks: list[float]) -> None:
    assert nice_ticks(low, high, 5, unit) == ticks


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES, st.sampled_from([None, "bytes", "seconds", "percent"]), st.integers(2, 8))
def test_ticks_enclose_any_values_and_are_few(one: float, other: float, unit: str | None, most: int) -> None:
    ticks = nice_ticks(one, other, most, unit)
    low, high = min(one, other), max(one, other)
    slack = 1e-9 * max(abs(low), abs(high))
    assert 2 <= len(ticks) <= most + 2
    assert ticks == sorted(ticks)
    assert all(map(math.isfinite, ticks))
    assert low == high or (ticks[0] <= low + slack and ticks[-1] >= high - slack)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4 * 10**9), st.integers(0, 4 * 10**9))
def test_ticks_of_time_are_few_and_inside(start: int, length: int) -> None:
    ticks = time_ticks(start, start + length, 6)
    assert len(ticks) <= 6
    assert all(start <= time <= start + length for time, _label in ticks)


def test_ticks_of_time_say_the_day() -> None:
    assert [label for _time, label in time_ticks(1795046400 - 2 * HOUR, 1795046400 + 2 * HOUR, 6)] == [
        "18 Nov 22:00",
        "23:00",
        "19 Nov",
        "01:00",
        "02:00",
    ]
    assert time_ticks(START, START, 6)[0][0] == START


@pytest.mark.parametrize(
    ("series", "lengths"),
    [
        ([], []),
        (hours(1), [1]),
        (hours(2), [2]),
        (hours(48), [48]),
        (hours(48, 5), [5, 42]),
        (hours(48, 5, 20, 21), [5, 14, 26]),
        (hours(48, 5, 7), [5, 1, 40]),
        # Old days are kept one by one, and hourly points follow: no gap.
        ([(START - day * DAY, 1.0) for day in range(30, 0, -1)] + hours(24), [54]),
        # Somebody looked by hand in between: the next full hour is not late.
        ([*hours(10), *[(START + 9 * HOUR + second, 1.0) for second in (60, 120, 200)], *hours(20)[10:]], [23]),
    ],
)
def test_a_missing_hour_is_a_gap(series: list[tuple[float, float]], lengths: list[int]) -> None:
    assert [len(run) for run in runs(series)] == lengths


def test_thinning_keeps_ends_and_peaks() -> None:
    series = [(float(place), 1000.0 if place == 777 else math.sin(place)) for place in range(5000)]
    few = thin(series, 100)
    assert len(few) <= 100
    assert (few[0], few[-1]) == (series[0], series[-1])
    assert (777.0, 1000.0) in few
    assert thin(series[:3], 100) == series[:3]


@pytest.mark.parametrize("value", [None, True, "x", "", [], math.nan, math.inf, 1e200, "nan", {}, b"3"])
def test_what_is_no_number_is_none(value: Any) -> None:
    assert number(value) is None


def test_points_are_sorted_and_odd_ones_left_out() -> None:
    given = [[30, 1], [10, "2.5"], "x", None, [1], [20, None], [30, 7], [-5, 1], [math.inf, 1], [1, 2, 3]]
    assert points(given) == [(10.0, 2.5), (30.0, 7.0)]
    assert points(None) == points("abc") == points({"a": 1}) == []


def test_a_stack_counts_a_missing_state_as_none() -> None:
    assert stack([[(1, 4.0)], [(1, 2.0), (2, -3.0)]]) == [(1, [4.0, 2.0]), (2, [0.0, 0.0])]


@pytest.mark.parametrize("series", [[], [("a", [])], [("a", [(START, 3.0)])]])
def test_fewer_than_two_moments_are_no_history(series: Any) -> None:
    for stacked in (False, True):
        chart = history(series, stacked=stacked)
        assert not chart["enough"]
        assert chart["desc"].startswith("no history yet")
    assert "now a 3" in history([("a", [(START, 3.0)])])["desc"]


@settings(max_examples=150, deadline=None)
@example(series=[[(0, 0.0), (1, 5e-324)]], stacked=False, unit=None)  # too close to each other for a step between them
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 10**10), VALUES), max_size=30), max_size=4),
    st.booleans(),
    st.sampled_from([None, "bytes", "seconds", "percent", "count"]),
)
def test_any_series_is_drawn_inside_its_frame(series: list[Any], stacked: bool, unit: str | None) -> None:
    named = [(str(place), points([list(pair) for pair in one])) for place, one in enumerate(series)]
    limits = [Limit("warning over", 80.0, "warning"), Limit("critical over", 1e149, "critical")]
    chart = history(named, unit=unit, stacked=stacked, limits=limits)
    if not chart["enough"]:
        return
    drawn = [path for layer in chart["layers"] for path in layer["paths"]]
    places = [tuple(map(float, pair)) for path in drawn for pair in re.findall(r"(-?[\d.e+-]+),(-?[\d.e+-]+)", path)]
    assert all(-2 <= across <= 1002 and 0 <= down <= chart["height"] for across, down in places)
    assert all(0 <= tick["x"] <= 100 for tick in chart["ticks"])
    assert "nan" not in str(chart)
    assert "inf" not in str(drawn)


def test_a_line_breaks_at_a_gap_and_a_point_by_itself_is_a_dot() -> None:
    chart = history([("lag", hours(30, 10, 20, 22))], unit="seconds")
    (layer,) = chart["layers"]
    assert len(layer["paths"]) == 3
    assert len(layer["dots"]) == 1
    assert "3 gaps without a look" in chart["desc"]


def test_a_forecast_goes_on_where_the_line_ends() -> None:
    line = [(START + day * DAY, 100.0 + day) for day in range(11)]
    chart = history([("size", line)], ahead=Ahead(1.0, START + 15 * DAY), from_zero=False)
    (path,) = chart["layers"][0]["paths"]
    assert chart["ahead"].startswith("M" + path.rpartition("L")[2] + "L1000,")
    assert chart["now"] == pytest.approx(100 * 10 / 15, abs=0.01)


def test_a_limit_far_above_is_only_said() -> None:
    chart = history([("a", hours(5))], limits=[Limit("critical over", 900.0, "critical"), Limit("most", 97.0, "most")])
    assert [limit["kind"] for limit in chart["limits"]] == ["most"]
    assert "critical over 900" in chart["desc"]


def test_labels_of_limits_do_not_touch() -> None:
    chart = history([("a", hours(5))], limits=[Limit("w", 3.9, "warning"), Limit("c", 4.0, "critical")])
    first, second = chart["limits"]
    assert second["label_y"] - first["label_y"] >= 13


def test_bars_and_events_bear_nothing_and_one() -> None:
    assert bars([])["enough"] is False
    (row,) = bars([{"name": "a", "value": 0.0, "text": "t"}])["rows"]
    assert row["width"] == 0
    (row,) = bars([{"name": "a", "value": 50.0, "text": "t", "part": 25.0, "warning": 40.0}], most=100)["rows"]
    assert (row["width"], row["part"], row["marks"]) == (50, 25, [{"x": 40, "kind": "warning"}])
    assert events([], 0, 1)["enough"] is False
    (row,) = events([{"time": 5, "value": 0, "kind": "plain", "name": "n", "text": "t"}], 5, 5)["rows"]
    assert row["x"] == 50


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (None, "bytes", "-"),
        (0, "bytes", "0 B"),
        (1536, "bytes", "1.5 kB"),
        (-3 * 1024**3, "bytes", "-3 GB"),
        (0.25, "seconds", "250 ms"),
        (59, "seconds", "59 s"),
        (3600, "seconds", "1 h"),
        (7500, "seconds", "2 h 5 min"),
        (-90, "seconds", "-1 min 30 s"),
        (3 * DAY + 3 * HOUR, "seconds", "3 d 3 h"),
        (82.54, "percent", "82.5 %"),
        (1234567, "count", "1,234,567"),
        (0.0004, None, "0.0004"),
        (1e140, None, "1e+140"),
        (1e300, None, "-"),
        ("nonsense", "percent", "-"),
    ],
)
def test_amounts(value: Any, unit: str | None, said: str) -> None:
    assert amount(value, unit) == said


def test_moments() -> None:
    assert epoch("2026-11-21T10:00:41.5+02:00") == epoch("2026-11-21T08:00:41Z") == epoch("2026-11-21 08:00:41") == 1795248041
    assert [epoch(odd) for odd in (None, 3, "", "yesterday", "2026-13-01", "2026-11-21T10:00:41+99:99x")] == [None] * 6
    assert moment("2026-11-21T10:00:41Z") == "21 Nov 2026 10:00 UTC"
    assert (moment("soon"), moment(None), moment(1795248041)) == ("soon", "-", "21 Nov 2026 08:00 UTC")


def test_texts_of_others_are_one_line_and_bounded() -> None:
    assert tidy(" a\n\tb\x00\x1b[1m\u202ec\u2028d ") == "a b [1m c d"
    assert len(tidy("x" * 9999, 50)) == 50
    assert tidy(None) == ""
    assert for_markdown("a|b`c*<d>[e](f)_g\\") == "a\\|b\\`c\\*&lt;d&gt;\\[e\\](f)\\_g\\\\"


def test_statements_are_found_and_nothing_else() -> None:
    assert statements("As a superuser: GRANT SELECT ON a TO b;") == ["GRANT SELECT ON a TO b;"]
    assert statements("""First: ALTER TABLE "a;b" SET x = 'c;d'; ANALYZE "a;b";""") == [
        """ALTER TABLE "a;b" SET x = 'c;d';""",
        'ANALYZE "a;b";',
    ]
    assert statements("Look which statements read much, then at shared_buffers.") == []
    assert statements("SELECT on the columns that it reads") == []
    assert statements(None) == []


def test_file_names_are_safe_and_differ() -> None:
    assert file_name("db1.example.com") == "db1.example.com"
    odd = ["../../etc/passwd", "a/b", "a:b", "a b", "", ".", "..", "-x", "ö", "fleet", "FLEET", "x" * 300, "x" * 301, "a\nb"]
    made = [file_name(name) for name in odd]
    assert len(set(made)) == len(odd)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name) for name in made)
