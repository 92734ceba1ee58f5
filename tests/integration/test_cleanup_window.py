"""A window is open by the server's clock and zone database, whatever its clocks are changed to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.window import Window, closes_at, opens_next, read_window
from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database as Session
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults
from tests.ground.databases import Database
from tests.integration.throttling import opened

pytestmark = [pytest.mark.usefixtures("_one_driver"), pytest.mark.any_driver]

H, MIN = 3600.0, 60.0


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A session of the collection's own; what it calls is not what its search_path has."""
    with opened(database) as made:
        made.execute("SET search_path = public, pg_catalog")
        yield made


def window(at: str, lasts: str, schedule: str = "daily", weekday: str | None = None, time_zone: str = "Europe/Tallinn") -> Window:
    faults = Faults()
    read = read_window({"at": at, "lasts": lasts, "schedule": schedule, "weekday": weekday, "time_zone": time_zone}, faults)
    assert read is not None, faults.found
    return read


def instant(text: str) -> Instant:
    """Return a moment of UTC."""
    return Instant(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000)


# Tallinn is two hours ahead of UTC in winter and three in summer; the clocks change at 01:00 UTC on 29 March and 25 October 2026.
NIGHT = window("22:00", "8 h")
EARLY = window("01:00", "4 h")
SKIPPED = window("03:30", "1 h")
TWICE = window("03:30", "1 h")
WEEKEND = window("20:00", "2 days", "weekly", "saturday")
FIRST_SUNDAY = window("02:00", "3 h", "monthly", "sunday")
WHOLE_DAY = window("12:00", "24 h")
CASES: list[tuple[str, Window, str, float | None, str | None]] = [
    ("before it opens", NIGHT, "2026-06-10 18:59:59", None, "2026-06-10 22:00"),
    ("as it opens", NIGHT, "2026-06-10 19:00:00", 8 * H, "2026-06-11 22:00"),
    ("at midnight", NIGHT, "2026-06-10 21:00:00", 6 * H, "2026-06-11 22:00"),
    ("the day after", NIGHT, "2026-06-11 02:59:00", MIN, "2026-06-11 22:00"),
    ("as it closes", NIGHT, "2026-06-11 03:00:00", None, "2026-06-11 22:00"),
    ("in winter", NIGHT, "2026-01-10 20:00:00", 8 * H, "2026-01-11 22:00"),
    ("over new year", NIGHT, "2026-12-31 22:30:00", 5.5 * H, "2027-01-01 22:00"),
    # The clock is set from 03:00 to 04:00: eight hours later it is 07:00.
    ("spring, before the change", NIGHT, "2026-03-29 00:59:59", 3 * H + 1, "2026-03-29 22:00"),
    ("spring, after it", NIGHT, "2026-03-29 01:00:00", 3 * H, "2026-03-29 22:00"),
    ("spring, closing at 07:00", NIGHT, "2026-03-29 03:59:59", 1, "2026-03-29 22:00"),
    ("spring, closed at 07:00", NIGHT, "2026-03-29 04:00:00", None, "2026-03-29 22:00"),
    ("spring, early", EARLY, "2026-03-28 23:00:00", 4 * H, "2026-03-30 01:00"),
    ("spring, early, closed at 06:00", EARLY, "2026-03-29 03:00:00", None, "2026-03-30 01:00"),
    # 03:30 never comes; it is an hour and a half after 02:00.
    ("spring, a time that is skipped", SKIPPED, "2026-03-29 01:29:59", None, "2026-03-29 04:30"),
    ("spring, a time that is skipped, open", SKIPPED, "2026-03-29 01:30:00", H, "2026-03-30 03:30"),
    # The clock is set from 04:00 to 03:00: eight hours later it is 05:00.
    ("autumn, before the change", NIGHT, "2026-10-25 00:59:00", 2 * H + MIN, "2026-10-25 22:00"),
    ("autumn, closing at 05:00", NIGHT, "2026-10-25 02:59:59", 1, "2026-10-25 22:00"),
    ("autumn, closed at 05:00", NIGHT, "2026-10-25 03:00:00", None, "2026-10-25 22:00"),
    ("autumn, early", EARLY, "2026-10-24 22:00:00", 4 * H, "2026-10-26 01:00"),
    ("autumn, early, closed at 04:00", EARLY, "2026-10-25 02:00:00", None, "2026-10-26 01:00"),
    # 03:30 comes twice, at 00:30 and at 01:30 UTC.
    ("autumn, the first of two", TWICE, "2026-10-25 00:30:00", None, "2026-10-25 03:30"),
    ("autumn, the second of two", TWICE, "2026-10-25 01:30:00", H, "2026-10-26 03:30"),
    ("autumn, the second of two, closed", TWICE, "2026-10-25 02:30:00", None, "2026-10-26 03:30"),
    ("weekly, before it", WEEKEND, "2026-06-13 16:59:59", None, "2026-06-13 20:00"),
    ("weekly, opening", WEEKEND, "2026-06-13 17:00:00", 48 * H, "2026-06-20 20:00"),
    ("weekly, two days later", WEEKEND, "2026-06-15 16:00:00", H, "2026-06-20 20:00"),
    ("weekly, closed", WEEKEND, "2026-06-15 17:00:00", None, "2026-06-20 20:00"),
    ("weekly, over the change", WEEKEND, "2026-03-30 17:00:00", H, "2026-04-04 20:00"),
    ("weekly, over the change, closed", WEEKEND, "2026-03-30 18:00:00", None, "2026-04-04 20:00"),
    ("monthly, the first such day", FIRST_SUNDAY, "2026-03-01 00:30:00", 2.5 * H, "2026-04-05 02:00"),
    ("monthly, another such day", FIRST_SUNDAY, "2026-03-08 00:30:00", None, "2026-04-05 02:00"),
    ("monthly, the seventh", FIRST_SUNDAY, "2026-06-07 00:00:00", 2 * H, "2026-07-05 02:00"),
    ("monthly, the first day is UTC's last of the month before", FIRST_SUNDAY, "2026-02-01 00:00:00", 3 * H, "2026-03-01 02:00"),
    ("monthly, at the end of the year", FIRST_SUNDAY, "2026-12-31 12:00:00", None, "2027-01-03 02:00"),
    ("a whole day", WHOLE_DAY, "2026-06-10 08:59:59", 1, "2026-06-10 12:00"),
    ("a whole day, opening again", WHOLE_DAY, "2026-06-10 09:00:00", 24 * H, "2026-06-11 12:00"),
    # This one has 23 hours: the next opening is before the closing.
    ("a whole day in spring", WHOLE_DAY, "2026-03-29 09:00:00", 24 * H, "2026-03-30 12:00"),
    ("a whole day in autumn, closed for an hour", WHOLE_DAY, "2026-10-25 09:30:00", None, "2026-10-25 12:00"),
]


@pytest.mark.parametrize(("one", "now", "left", "next_"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_window(session: Session, one: Window, now: str, left: float | None, next_: str) -> None:
    assert closes_at(session, one, instant(now)) == (None if left is None else pytest.approx(left, abs=0.001))
    assert opens_next(session, one, instant(now)) == f"{next_} (Europe/Tallinn)"


@pytest.mark.parametrize(
    ("zone", "now", "left"),
    [
        ("Pacific/Kiritimati", "2026-06-09 10:00:00", 2 * H),
        ("Etc/GMT+12", "2026-06-11 12:00:00", 2 * H),
        ("Asia/Kathmandu", "2026-06-09 18:15:00", 2 * H),
        ("UTC", "2026-06-10 00:00:00", 2 * H),
        ("UTC", "2026-06-09 23:59:59", None),
    ],
)
def test_the_day_is_that_of_the_zone(session: Session, zone: str, now: str, left: float | None) -> None:
    assert closes_at(session, window("00:00", "2 h", time_zone=zone), instant(now)) == left


@pytest.mark.parametrize("schedule", ["daily", "weekly", "monthly"])
def test_it_is_as_python_has_it_around_a_change(session: Session, schedule: str) -> None:
    """Find the openings by the interpreter's own zone database, at every quarter of an hour or every hour of some days."""
    zoneinfo = pytest.importorskip("zoneinfo")
    zone = zoneinfo.ZoneInfo("Europe/Tallinn")
    one = window("02:15", "5 h", schedule, None if schedule == "daily" else "sunday")
    begin = datetime(2026, 3, 26, tzinfo=UTC) if schedule == "daily" else datetime(2026, 3, 20, tzinfo=UTC)
    for number in range(4 * 24 * 5 if schedule == "daily" else 200):
        now = begin + timedelta(minutes=15 * number if schedule == "daily" else 60 * number)
        opens = [
            local.astimezone(UTC)
            for day in range(-10, 2)
            for local in [datetime.combine((now.astimezone(zone) + timedelta(days=day)).date(), datetime.min.time(), zone)]
            for local in [local.replace(hour=2, minute=15)]
            if schedule == "daily" or (local.weekday() == 6 and (schedule == "weekly" or local.day <= 7))
        ]
        lefts = [(opened_ + timedelta(hours=5) - now).total_seconds() for opened_ in opens if opened_ <= now]
        expected = max((left for left in lefts if left > 0), default=None)
        assert closes_at(session, one, Instant(int(now.timestamp()) * 1_000_000)) == expected, now


def test_the_clock_is_the_servers(session: Session) -> None:
    now = datetime.now(UTC)
    begun = now - timedelta(minutes=30)
    left: Any = closes_at(session, window(f"{begun:%H:%M}", "1 h", time_zone="UTC"))
    assert left == pytest.approx(1800 - now.second, abs=10)
    ahead = now + timedelta(minutes=30)
    closed = window(f"{ahead:%H:%M}", "1 h", time_zone="UTC")
    assert closes_at(session, closed) is None
    assert opens_next(session, closed) == f"{ahead:%Y-%m-%d %H:%M} (UTC)"


def test_a_zone_that_the_server_does_not_know(session: Session) -> None:
    unknown = Window("daily", None, "22:00", H, "Europe/Nowhere")
    for ask in (closes_at, opens_next):
        with pytest.raises(InvalidValue, match=r"window\.time_zone: the server does not know the time zone 'Europe/Nowhere'") as caught:
            ask(session, unknown)
        assert caught.value.object_name == "window.time_zone"
