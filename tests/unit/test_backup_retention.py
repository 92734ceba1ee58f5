"""Which backups stay: the rules one by one, and what holds whatever the rules and the backups are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head
from ansible_collections.pgops.runbook.plugins.module_utils._backup.retention import Keep, RetentionPlan, plan_retention, purge, read_keep
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

NOW = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
DAY = 86400.0
_PERIOD = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m", "yearly": "%Y"}


def head(hours: float, verified: str | None = "decode", **more: object) -> Head:
    """Return a backup that was taken so many hours ago."""
    taken = NOW - timedelta(hours=hours)
    known = Head(
        folder=f"shop.full.{taken:%Y%m%dT%H%M%SZ}",
        name="full",
        database="shop",
        started_at=taken,
        finished_at=taken + timedelta(minutes=4),
        size=1,
        taken_at=taken,
        verified=verified,
    )
    return replace(known, **more)  # type: ignore[arg-type]


def kept(plan: RetentionPlan) -> list[str]:
    """Return the names of what stays."""
    return [one.folder for one, _why in plan.keep]


def hours_left(heads: list[Head], keep: Keep) -> list[float]:
    """Return how many hours ago those were taken that stay, the newest first."""
    return [round((NOW - one.taken_at).total_seconds() / 3600, 1) for one, _why in plan_retention(heads, keep, NOW).keep]


@pytest.mark.parametrize(
    ("keep", "ages", "left"),
    [
        (Keep(), [1, 25, 9999], [1, 25, 9999]),
        (Keep(age=2 * DAY), [1, 47.9, 48.1, 9999], [1, 47.9]),
        (Keep(count=2), [1, 2, 3, 4], [1, 2]),
        # However old it is, the newest stays.
        (Keep(age=DAY), [700, 800], [700]),
        (Keep(count=1, age=DAY), [1, 2, 30], [1, 2]),
        # One a day by the calendar in UTC: it is 14:00; of today 1 and 13 hours ago, of yesterday 15 and 37.
        (Keep(daily=2), [1, 13, 15, 37, 39], [1, 15]),
        # Days without a backup do not count.
        (Keep(daily=2), [1, 500], [1, 500]),
        # It is Saturday: Monday began 134 hours ago.
        (Keep(weekly=2), [1, 133, 135, 301, 303], [1, 135]),
        (Keep(monthly=2), [1, 493, 495, 1200, 1300], [1, 495]),
        (Keep(yearly=2), [1, 7789, 7791, 16500], [1, 7791]),
        (Keep(daily=1, monthly=2, count=2), [1, 2, 3, 600, 700], [1, 2, 600]),
    ],
)
def test_what_the_rules_keep(keep: Keep, ages: list[float], left: list[float]) -> None:
    assert hours_left([head(hours) for hours in ages], keep) == left


def test_what_is_not_verified_takes_nobody_s_place() -> None:
    heads = [head(1, None), head(2, None), head(3), head(4), head(5)]
    assert hours_left(heads, Keep(count=2)) == [1, 2, 3, 4]
    assert hours_left(heads, Keep(daily=1)) == [1, 2, 3]


def test_what_is_not_verified_goes_by_age_when_something_newer_is_verified() -> None:
    assert hours_left([head(10), head(20, None), head(30, None)], Keep(age=DAY)) == [10, 20]
    assert hours_left([head(30, None), head(40), head(50, None)], Keep(age=DAY)) == [30, 40]
    assert hours_left([head(30, None), head(40, None)], Keep(age=DAY)) == [30, 40]
    broken = head(50, None, broken="the verification failed")
    assert hours_left([head(10), broken], Keep(age=DAY)) == [10]


def test_a_backup_of_the_future_stays_and_counts_for_nothing() -> None:
    heads = [head(-24 * 365), head(1), head(2), head(3, None)]
    assert hours_left(heads, Keep(count=1, age=3600)) == [-24 * 365, 1]
    # Clocks differ a little.
    assert hours_left([head(-0.01), head(1)], Keep(count=1)) == [-0.0]


def test_two_of_the_same_second_are_told_apart() -> None:
    first, second = head(1), replace(head(1), folder=head(1).folder + "x")
    for heads in ([first, second], [second, first]):
        plan = plan_retention(heads, Keep(count=1), NOW)
        assert (kept(plan), [one.folder for one in plan.delete]) == ([second.folder], [first.folder])


def test_another_scope_is_counted_apart() -> None:
    heads = [head(1, kind="tables", tables=("public.a",)), head(2, kind="tables", tables=("public.a",)), head(3), head(4)]
    assert hours_left(heads, Keep(count=1)) == [1, 3]


@pytest.mark.parametrize("more", [{"database": "other"}, {"name": "hourly"}, {"system_identifier": "7"}])
def test_other_series_are_not_planned_together(more: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match="not counted together"):
        plan_retention([head(1), head(2, **more)], Keep(count=1), NOW)


BACKUPS = st.lists(
    st.tuples(st.integers(-48, 24 * 900), st.sampled_from([None, "checksum", "decode"]), st.sampled_from(["full", "tables"])),
    max_size=40,
    unique_by=lambda one: one[0],
).map(lambda drawn: [head(hours, verified, kind=kind) for hours, verified, kind in drawn])
COUNTS = st.none() | st.integers(1, 12)
RULES = st.builds(
    Keep,
    age=st.none() | st.floats(1, 400 * DAY),
    count=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=COUNTS,
)


@settings(max_examples=150, deadline=None)
@given(heads=BACKUPS, keep=RULES)
def test_what_holds_for_every_plan(heads: list[Head], keep: Keep) -> None:
    plan = plan_retention(heads, keep, NOW)
    gone = {one.folder for one in plan.delete}
    assert sorted(kept(plan) + list(gone)) == sorted(one.folder for one in heads)
    assert all(why for _one, why in plan.keep)
    for kind in ("full", "tables"):
        own = [one for one in heads if one.kind == kind]
        past = sorted((one for one in own if one.taken_at <= NOW), key=lambda one: one.taken_at, reverse=True)
        verified = [one for one in past if one.verified]
        assert not {one.folder for one in verified[:1]} & gone, "the newest verified one went"
        assert not {one.folder for one in own if one.taken_at > NOW} & gone
        assert not {one.folder for one in verified[: keep.count or 0]} & gone
        young = {one.folder for one in past if keep.age is not None and one.taken_at > NOW - timedelta(seconds=keep.age)}
        assert not young & gone
        for one in past:
            if not one.verified and one.folder in gone:
                assert keep.age is not None
                assert verified
                assert verified[0].taken_at > one.taken_at
        for rule, form in _PERIOD.items():
            # Of so many of the newest periods, the newest backup is there.
            periods = list(dict.fromkeys(one.taken_at.strftime(form) for one in verified))[: getattr(keep, rule) or 0]
            left = {one.taken_at.strftime(form) for one in verified if one.folder not in gone}
            assert set(periods) <= left
        # And nothing stays that no rule wants.
        rules = [getattr(keep, rule) or 0 for rule in _PERIOD]
        most = len(young & {one.folder for one in verified}) + (keep.count or 0) + sum(rules) + 1
        assert not keep.given or len([one for one in verified if one.folder not in gone]) <= most


@settings(max_examples=75, deadline=None)
@given(heads=BACKUPS, keep=RULES)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(heads: list[Head], keep: Keep) -> None:
    left = [one for one, _why in plan_retention(heads, keep, NOW).keep]
    assert plan_retention(left, keep, NOW).delete == []
    # The order in which they are listed says nothing.
    assert plan_retention(heads[::-1], keep, NOW) == plan_retention(heads, keep, NOW)


@settings(max_examples=75, deadline=None)
@given(heads=BACKUPS, keep=RULES, spoilt=st.integers(0, 39))
def test_what_stops_to_be_verified_takes_no_other_along(heads: list[Head], keep: Keep, spoilt: int) -> None:
    if spoilt < len(heads):
        gone = {one.folder for one in plan_retention(heads, keep, NOW).delete}
        heads = [replace(one, verified=None) if number == spoilt else one for number, one in enumerate(heads)]
        later = {one.folder for one in plan_retention(heads, keep, NOW).delete} - {heads[spoilt].folder}
        assert later <= gone


def test_purge_touches_only_what_is_planned(tmp_path: Path) -> None:
    heads = [head(1), head(2), head(3)]
    for one in heads:
        (tmp_path / one.folder / "database").mkdir(parents=True)
        (tmp_path / one.folder / "database" / "toc.dat").write_bytes(b"toc")
    (tmp_path / "notes").mkdir()
    (tmp_path / "other.full.20200101T000000Z").mkdir()
    plan = plan_retention(heads, Keep(count=1), NOW)
    before = {path.name for path in tmp_path.iterdir()}
    gone = purge(tmp_path, plan)
    assert gone.names == [heads[2].folder, heads[1].folder]
    assert gone.faults == []
    assert before - {path.name for path in tmp_path.iterdir()} == set(gone.names)
    # One that is gone already, and one whose hidden name is taken, are told and keep no other from going.
    again = purge(tmp_path, RetentionPlan([], [heads[2], heads[0]]))
    assert again.names == [heads[0].folder]
    assert [fault.split(" could")[0] for fault in again.faults] == [heads[2].folder]


def test_rules_are_read() -> None:
    assert read_keep(None) == Keep()
    assert read_keep({"age": "30 days", "count": "3", "daily": 7, "weekly": None, "monthly": ""}) == Keep(age=30 * DAY, count=3, daily=7)
    for wrong, words in (
        ({"days": 3}, "'days' is no rule; there are age, count"),
        ({"count": 0}, "keep.count: 0 is not a number"),
        ({"daily": True}, "keep.daily"),
        ({"daily": "-1"}, "keep.daily"),
        ({"age": "soon"}, "keep.age: 'soon' is not a duration"),
    ):
        with pytest.raises(InvalidValue, match=words):
            read_keep(wrong)
