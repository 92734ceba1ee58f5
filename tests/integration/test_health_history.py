"""What became of findings since the run before, on a real server, with the history in a schema and in a file alike."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.remembering import SCHEMA, Reading, Runs, bad, changes, in_file, resolved, unseen

pytestmark = pytest.mark.any_driver


@pytest.fixture(params=["schema", "file"])
def runs(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Runs:
    """Runs on an empty database with a history that is empty too."""
    return Runs(database, {"history_schema": SCHEMA} if request.param == "schema" else in_file(tmp_path))


A, B = "conn.used_pct", "size.rows"


def test_the_first_run_has_no_history_yet_and_the_second_compares(runs: Runs) -> None:
    first = runs({A: bad("one", "two")})
    assert changes(first) == {f"{A}[one]": None, f"{A}[two]": None}
    assert (first["history"]["previous"], first["history"]["note"], first["history"]["snapshots"]) == (
        None,
        "no history yet",
        int(first["history"]["recorded"]),
    )
    assert first["resolved"] == []
    second = runs({A: [*bad("two"), *bad("three", status="critical")]})
    assert changes(second) == {f"{A}[two]": "same", f"{A}[three]": "new"}
    (gone,) = second["resolved"]
    assert (gone["key"], gone["check"], gone["object"], gone["severity"], gone["message"]) == (
        f"{A}[one]",
        A,
        "one",
        "warning",
        "one is bad",
    )
    assert gone["title"]
    assert gone["first_seen"] == first["time"]
    assert second["history"]["previous"] == first["time"]
    assert {finding["object"]: finding["first_seen"] for finding in second["findings"]} == {"two": first["time"], "three": second["time"]}


def test_worse_and_better(runs: Runs) -> None:
    runs({A: bad("one")})
    assert changes(runs({A: bad("one", status="critical")})) == {f"{A}[one]": "worse"}
    assert changes(runs({A: bad("one")})) == {f"{A}[one]": "better"}


def test_what_an_hourly_run_does_not_look_at_stays_open(runs: Runs) -> None:
    first = runs({A: bad("one"), B: bad("table")}, "daily")
    assert first["standing"] == []
    between = runs({"conn.active": [Reading("fine")]})
    assert resolved(between) == []
    # It stands in the result all the same, so that no page of the hour turns green over it.
    assert [(each["key"], each["severity"], each["seen"]) for each in between["standing"]] == [
        (f"{A}[one]", "warning", first["time"]),
        (f"{B}[table]", "warning", first["time"]),
    ]
    assert resolved(runs({A: [Reading("fine")]})) == [f"{A}[one]"]
    later = runs({A: [Reading("fine")], B: bad("table")}, "daily")
    assert changes(later) == {f"{B}[table]": "same"}
    assert later["findings"][0]["first_seen"] == first["time"]


def test_a_check_that_looks_for_the_first_time_has_nothing_to_compare_with(runs: Runs) -> None:
    runs({A: [Reading("fine")]})
    assert changes(runs({A: bad("one"), B: bad("table")}, "daily")) == {f"{A}[one]": "new", f"{B}[table]": None}


@pytest.mark.parametrize("sight", [[unseen()], [unseen("one")], [unseen("o"), Reading("fine")][:1]])
def test_what_could_not_be_seen_is_not_gone(runs: Runs, sight: list[Reading]) -> None:
    runs({A: bad("one", "o.ne", status="critical")})
    blind = runs({A: sight})
    hidden = {f"{A}[one]", f"{A}[o.ne]"} if sight[0].object_name == "" else {f"{A}[{sight[0].object_name}]", f"{A}[o.ne]"}
    assert set(resolved(blind)) & hidden == (set() if sight[0].object_name != "one" else {f"{A}[o.ne]"})
    # It is no better for being hidden, and no worse for being seen again.
    known = {key: change for key, change in changes(blind).items() if key == f"{A}[one]"}
    assert set(known.values()) <= {"same"}
    seen = runs({A: bad("one", status="critical")})
    assert changes(seen) == {f"{A}[one]": "same" if sight[0].object_name != "o" else "new"}


def test_a_late_check_resolves_nothing(runs: Runs) -> None:
    runs({A: bad("one")})
    late = runs({A: [Reading("fine")]}, max_runtime="1 ms")
    assert late["findings"][-1]["message"].startswith("not looked at: max_runtime")
    assert resolved(late) == []
    assert changes(runs({A: bad("one")})) == {f"{A}[one]": "same"}


def test_what_is_set_aside_is_not_resolved_and_comes_back_as_new(runs: Runs) -> None:
    first = runs({A: bad("one")})
    until = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    aside: dict[str, Any] = {"suppressions": [{"finding": f"{A}[one]", "reason": "known", "until": until, "severity": "warning"}]}
    quiet = runs({A: bad("one")}, **aside)
    assert (quiet["findings"], quiet["resolved"]) == ([], [])
    (suppressed,) = quiet["suppressed"]
    assert (suppressed["change"], suppressed["first_seen"]) == (None, first["time"])
    back = runs({A: bad("one")})
    assert changes(back) == {f"{A}[one]": "new"}
    assert back["findings"][0]["first_seen"] == first["time"]
    runs({A: bad("one")}, **aside)
    # Nobody was told of it, so nobody is told that it is gone.
    assert resolved(runs({A: [Reading("fine")]})) == []


def test_where_there_is_nothing_to_judge_a_finding_rests(runs: Runs) -> None:
    runs({A: bad("one")})
    assert resolved(runs({A: [Reading("insufficient sample", status="skipped")]})) == []
    assert changes(runs({A: bad("one")})) == {f"{A}[one]": "new"}


def test_many_findings_are_bounded_and_none_is_resolved_for_want_of_room(runs: Runs) -> None:
    many = [f"table_{number:04}" for number in range(700)]
    first = runs({A: bad(*many), B: bad("worst", status="critical")})
    assert len(json.dumps(first["snapshot"])) < 120_000
    again = runs({A: bad(*many), B: bad("worst", status="critical")})
    assert resolved(again) == []
    assert changes(again)[f"{B}[worst]"] == "same"
    assert "new" not in changes(again).values()
    fewer = runs({A: bad(*many[1:]), B: bad("worst", status="critical")})
    assert resolved(fewer) == [f"{A}[table_0000]"]


def test_a_server_that_refuses_resolves_nothing(runs: Runs) -> None:
    first = runs({A: bad("one")})
    down = Runs(runs.database, runs.store, {"login_db": "no such database"})
    refused = down({A: [Reading("fine")]})
    assert resolved(refused) == []
    in_a_file = "file" in runs.store
    assert changes(refused) == {"avail.connect": "new" if in_a_file else None}
    assert (refused["snapshot"] is not None) is in_a_file
    up = runs({A: bad("one")})
    assert changes(up) == {f"{A}[one]": "same"}
    assert up["findings"][0]["first_seen"] == first["time"]
    # Only where the refused run could be recorded, its end is news.
    assert resolved(up) == (["avail.connect"] if in_a_file else [])


def test_two_runs_at_once_lose_nothing_of_each_other(runs: Runs) -> None:
    runs({A: bad("one")})
    inner: list[dict[str, Any]] = []

    def meanwhile(look: Any, limits: Any) -> list[Reading]:
        # The other run has read the same history, and is recorded first.
        inner.append(runs({B: bad("table")}, "daily"))
        return bad("one")

    outer = runs({A: meanwhile})
    assert changes(outer) == {f"{A}[one]": "same"}
    after = runs({A: bad("one"), B: bad("table")}, "daily")
    assert changes(after) == {f"{A}[one]": "same", f"{B}[table]": "same"}
    assert after["history"]["snapshots"] - int(after["history"]["recorded"]) == 3


def test_a_clock_that_goes_back_does_no_harm(runs: Runs) -> None:
    now = datetime.now(UTC)

    def at(time: datetime, said: Any) -> Any:
        def run(look: Any, limits: Any) -> Any:
            look.now = time
            return said

        return run

    metric = Reading("fine", metrics={"size.database": 5.0, "db.deadlocks_total": 7.0})
    runs({A: at(now + timedelta(days=3), [*bad("one"), metric])})
    seen: list[Any] = []

    def back(look: Any, limits: Any) -> Any:
        seen.append(look.history.rate("db.deadlocks_total", 9.0))
        return [*bad("one"), metric]

    second = runs({A: back})
    assert changes(second) == {f"{A}[one]": "same"}
    assert seen == [None]
    assert second["findings"][0]["first_seen"] <= second["time"]
    # A point of the future is not drawn.
    assert [len(points) for points in second["series"].values()] == [1]
    assert resolved(runs({A: [Reading("fine")]})) == [f"{A}[one]"]


def test_check_mode_compares_and_records_nothing(runs: Runs) -> None:
    runs({A: bad("one")})
    checked = runs({A: bad("one", "two")}, check_mode=True)
    assert changes(checked) == {f"{A}[one]": "same", f"{A}[two]": "new"}
    assert checked["history"]["recorded"] is False
    assert runs({A: [Reading("fine")]})["history"]["snapshots"] == (2 if "history_schema" in runs.store else 1)


def test_without_a_history_there_is_none(database: Database) -> None:
    result = Runs(database)({A: bad("one")})
    assert changes(result) == {f"{A}[one]": None}
    assert result["findings"][0]["first_seen"] is None
    assert result["history"] == {
        "kept_in": "none",
        "place": None,
        "previous": None,
        "snapshots": 0,
        "recorded": False,
        "note": "no history is kept",
    }
    assert (result["series"], result["forecasts"], result["resolved"], result["snapshot"]) == ({}, [], [], None)


def test_what_checks_keep_comes_back_also_after_runs_without_them(runs: Runs) -> None:
    seen: list[Any] = []

    def keeping(look: Any, limits: Any) -> Any:
        seen.append(look.history.previous and dict(look.history.previous.kept))
        look.kept["settings"] = {"fsync": "on", "nul": "a\x00b"}
        look.kept["large"] = "x" * 100_000
        return [Reading("fine")]

    first = runs({A: keeping})
    assert "too large to keep for the next run: large" in first["notices"]
    runs({B: [Reading("fine")]})
    runs({A: keeping})
    assert seen == [None, {"settings": {"fsync": "on", "nul": "ab"}}]


def test_another_server_resolves_nothing_that_only_the_first_can_show(
    cluster: Cluster, standby: Cluster, database: Database, tmp_path: Path
) -> None:
    """The host of a name changes its role, back and forth."""
    cluster.wait_for(standby)
    runs = Runs(database, in_file(tmp_path))
    seen: list[Any] = []

    def keeping(look: Any, limits: Any) -> Any:
        seen.append((dict(look.history.previous.kept), look.history.rate("db.x_total", 9.0)) if look.history.previous else None)
        look.kept["settings"] = look.database.in_recovery
        return [*bad("slot"), Reading("fine", metrics={"db.x_total": 5.0})]

    first = runs({A: keeping, "avail.role_expected": bad("", status="critical")})
    elsewhere = Runs(database, runs.store, standby.login(database.name, tcp=False))
    switched = elsewhere({A: bad("receiver"), B: keeping, "avail.role_expected": [Reading("as expected")]})
    # Of what this server shows nobody knows whether it is new.
    assert changes(switched) == {f"{A}[receiver]": None, f"{B}[slot]": None}
    assert resolved(switched) == ["avail.role_expected"]
    assert f"findings of another server stay open, because only it can show that they are gone: {A}[slot]" in switched["history"]["note"]
    back = runs({A: keeping, B: [Reading("fine")]})
    assert changes(back) == {f"{A}[slot]": "same"}
    assert back["findings"][0]["first_seen"] == first["time"]
    assert resolved(back) == []
    # What a check keeps, and counters, are those of the same server.
    assert seen[0] is None
    assert seen[1] == ({}, None)
    assert seen[2][0] == {"settings": False}
    assert resolved(runs({A: [Reading("fine")]})) == [f"{A}[slot]"]


def test_findings_of_a_check_that_no_longer_exists_are_forgotten_aloud(runs: Runs) -> None:
    runs({"gone.check": bad("one")})
    result = runs({A: [Reading("fine")]})
    assert result["notices"] == ["gone.check[one] is no longer kept: this version has no such check"]
    assert runs({A: [Reading("fine")]})["notices"] == []
