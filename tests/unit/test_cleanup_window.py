"""What a window has to say, and on which days it opens."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.window import FORM, Window, opening_days, read_window
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults

NIGHT: dict[str, Any] = {"schedule": "daily", "at": "22:00", "lasts": "8 h", "time_zone": "Europe/Tallinn"}
WEEKEND: dict[str, Any] = {**NIGHT, "schedule": "weekly", "weekday": "saturday", "lasts": "2 days"}


def read(written: Any) -> Window:
    faults = Faults()
    window = read_window(written, faults)
    assert faults.found == []
    assert window is not None
    return window


def test_a_window_is_read() -> None:
    assert read(NIGHT) == Window("daily", None, "22:00", 8 * 3600.0, "Europe/Tallinn")
    assert read(WEEKEND) == Window("weekly", 5, "22:00", 2 * 86400.0, "Europe/Tallinn")
    assert read({**WEEKEND, "schedule": "monthly", "at": 1320}).weekday == 5
    assert read({key: value for key, value in NIGHT.items() if key != "schedule"}) == read(NIGHT)


def test_a_maintenance_window_of_a_description_will_do() -> None:
    assert read({**WEEKEND, "name": "weekend"}) == read(WEEKEND)


def test_a_normalised_window_is_read_again_as_it_is() -> None:
    assert read(FORM.read(WEEKEND, "window", Faults())) == read(WEEKEND)


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"lasts": None}, "window.lasts", "is missing"),
        ({"time_zone": None}, "window.time_zone", "is missing"),
        ({"at": None}, "window.at", "is missing"),
        ({"lasts": "0 s"}, "window.lasts", "leaves no time"),
        ({"lasts": "soon"}, "window.lasts", "is not a duration"),
        ({"lasts": "25 h"}, "window.lasts", "a daily window opens again after 1 day"),
        ({"lasts": "8 days", "schedule": "weekly", "weekday": "monday"}, "window.lasts", "a weekly window opens again after 7 days"),
        ({"lasts": "29 days", "schedule": "monthly", "weekday": "monday"}, "window.lasts", "a monthly window opens again after 28 days"),
        ({"schedule": "weekly"}, "window.weekday", "is missing"),
        ({"schedule": "monthly"}, "window.weekday", "is missing"),
        ({"weekday": "monday"}, "window.weekday", "this one opens daily"),
        ({"schedule": "weekly", "weekday": "mon"}, "window.weekday", "'mon' is not one of monday"),
        ({"schedule": "hourly"}, "window.schedule", "'hourly' is not one of daily, weekly, monthly"),
        ({"at": "25:00"}, "window.at", "is not a time of day"),
        ({"time_zone": "Europe/Talinn"}, "window.time_zone", "is not a known time zone; did you mean Europe/Tallinn?"),
        ({"until": "06:00"}, "window.until", "unknown key"),
    ],
)
def test_a_wrong_window_is_named(change: dict[str, Any], path: str, said: str) -> None:
    faults = Faults()
    assert read_window({**NIGHT, **change}, faults) is None
    assert any(fault.startswith(f"{path}: ") and said in fault for fault in faults.found), faults.found


def test_a_window_is_a_mapping() -> None:
    faults = Faults()
    assert read_window("22:00", faults) is None
    assert faults.found[0].startswith("window: '22:00' is not a window: write a mapping with")


def test_a_daily_window_opens_every_day() -> None:
    days = opening_days(read(NIGHT), date(2026, 3, 1))
    assert days == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]


@pytest.mark.parametrize("day", range(1, 8))
def test_a_weekly_window_opens_on_its_day(day: int) -> None:
    days = opening_days(read(WEEKEND), date(2026, 3, day))
    assert {each.isoweekday() for each in days} == {6}
    assert min(days) <= date(2026, 3, day) <= max(days)


def test_a_monthly_window_opens_on_the_first_such_day() -> None:
    monthly = read({**NIGHT, "schedule": "monthly", "weekday": "sunday"})
    assert opening_days(monthly, date(2026, 3, 1)) == [date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 5)]
    assert opening_days(monthly, date(2026, 12, 31)) == [date(2026, 12, 6), date(2027, 1, 3)]
    assert opening_days(read({**NIGHT, "schedule": "monthly", "weekday": "saturday"}), date(2026, 1, 31))[-1] == date(2026, 3, 7)


@pytest.mark.parametrize("weekday", ["monday", "sunday"])
@pytest.mark.parametrize("written", [{"schedule": "monthly", "lasts": "28 days"}, {"schedule": "weekly", "lasts": "7 days"}])
def test_the_days_reach_from_one_that_may_be_open_to_the_next(written: dict[str, Any], weekday: str) -> None:
    window = read({**NIGHT, **written, "weekday": weekday})
    for number in range(366 * 5):
        today = date.fromordinal(date(2026, 1, 1).toordinal() + number)
        days = opening_days(window, today)
        assert days[-1] > today
        every = [day for day in days if (today - day).days * 86400 <= window.seconds and day <= today]
        assert every or window.schedule == "monthly"
