"""A zone's name means to the server what it meant to its writer, with a zone database on the control node or without."""

from __future__ import annotations

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._system import zones


@pytest.fixture(params=[True, False], ids=["zone database", "no zone database"], autouse=True)
def _zone_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(zones, "HAS_ZONEINFO", False)


@pytest.mark.parametrize(
    "name", ["UTC-5", "UTC+5", "GMT-5", "EST-5", "EST5", "<x>-5", "<+05>-5", "utc-05:30", "Foo/Bar-5", "Etc/UTC-5", "Etc/GMT+13"]
)
def test_a_zone_that_the_server_reads_with_the_opposite_sign_is_refused(name: str) -> None:
    advice = "write a name such as America/New_York, or Etc/GMT+5 for five hours behind UTC"
    assert zones.zone_fault(name) == f"{name!r} is not a time zone: the server would take its number with the opposite sign; {advice}"


@pytest.mark.parametrize(
    "name", ["UTC", "Etc/GMT+5", "Etc/GMT-14", "Etc/GMT0", "GMT0", "GMT+0", "EST5EDT", "America/Port-au-Prince", "America/New_York"]
)
def test_a_zone_with_a_sign_or_number_in_its_name_is_one(name: str) -> None:
    assert zones.zone_fault(name) is None
