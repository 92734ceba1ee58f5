"""Partitions that are missing ahead, by bounds of every kind; and rows that none of them took."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.watching import create_role, drop_role, eventually, finding, look, run_script, statements_in, status_of

pytestmark = pytest.mark.any_driver

COVERAGE, DEFAULTS = "partition.coverage", "partition.default_rows"
DAY = 86400
HOSTILE = 'Web App."Tok%ens.v2"'


def watch(database: Database, check: str, **more: Any) -> dict[str, Any]:
    """Return the result of one check, over all schemas."""
    return look(database, system=more.pop("system", None), checks=[check], **more)


def said(result: dict[str, Any], check: str) -> str:
    """Return the message of the check."""
    return str(next(each["message"] for each in result["checks"] if each["id"] == check))


@pytest.fixture(autouse=True)
def _one_day() -> None:
    """Begin no test so late that its days would be others at its end."""
    left = DAY - datetime.now(UTC).timestamp() % DAY
    if left < 60:
        time.sleep(left)


def day(distance: float) -> str:
    """Return the day so many days from now as a bound has it."""
    return f"{datetime.now(UTC) + timedelta(days=distance):%Y-%m-%d}"


def ranges(table: str, *bounds: tuple[str, str]) -> str:
    """Return statements that make partitions of `table` with these bounds."""
    parts = [
        f"CREATE TABLE {table}_{n} PARTITION OF {table} FOR VALUES FROM ({_bound(low)}) TO ({_bound(high)});"
        for n, (low, high) in enumerate(bounds)
    ]
    return "".join(parts)


def _bound(text: str) -> str:
    return text if re.fullmatch(r"MINVALUE|MAXVALUE|.*, .*", text) else f"'{text}'"


# --- how far they reach -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_how_far_partitions_reach(database: Database, kind: str) -> None:
    cases: list[tuple[list[tuple[float, float]], float, str, str]] = [
        ([(-30, 0), (0, 30)], 30, "ok", ""),
        ([(-30, 0), (0, 5)], 5, "warning", "then rows are refused"),
        ([(-30, 0), (0, 1)], 1, "critical", "then rows are refused"),
        ([(-30, -3)], -3, "critical", "so rows are refused"),
        # The last bound is far, and there is a hole before it.
        ([(-1, 1), (3, 300)], 1, "critical", "where there is a gap"),
        ([(-3, -1), (3, 300)], 0, "critical", "a gap from"),
        ([(3, 300)], 0, "critical", "no partition takes rows of now"),
        ([], 0, "critical", "no partition takes rows of now"),
    ]
    for n, (bounds, _days, _status, _text) in enumerate(cases):
        made = ranges(f"t{n}", *((day(low), day(high)) for low, high in bounds))
        run_script(database, f"SET TimeZone = 'UTC'; CREATE TABLE t{n} (at {kind}) PARTITION BY RANGE (at); {made}")
    result = watch(database, COVERAGE)
    found = {each["key"]: (each["severity"], each["message"]) for each in result["findings"]}
    for n, (_bounds, days, status, text) in enumerate(cases):
        key = f"{COVERAGE}[public.t{n}]"
        left = result["metrics"][key]
        # Days end at midnight.
        assert (left == 0) if days == 0 else (0 <= days * DAY - left <= DAY), key
        severity, message = found.get(key, ("ok", ""))
        assert (severity, text in message) == (status, True), key


@pytest.mark.parametrize(
    ("made", "status", "text"),
    [
        ("CREATE TABLE t (at date) PARTITION BY RANGE (at);" + ranges("t", ("2020-01-01", "MAXVALUE")), "ok", "no end"),
        ("CREATE TABLE t (at date) PARTITION BY RANGE (at);" + ranges("t", ("2020-01-01", "infinity")), "ok", "no end"),
        ("CREATE TABLE t (at date) PARTITION BY RANGE (at);" + ranges("t", ("0044-03-15 BC", "20000-01-01")), "ok", "no end"),
        ("CREATE TABLE t (at date) PARTITION BY LIST (at)", "skipped", "no table is partitioned by ranges of time"),
        ("CREATE TABLE t (at date) PARTITION BY HASH (at)", "skipped", "no table is partitioned by ranges of time"),
        ("CREATE TABLE t (id int) PARTITION BY RANGE (id)", "skipped", "1 table by ranges of numbers that no description says are times"),
        ("CREATE TABLE t (at text) PARTITION BY RANGE (at)", "skipped", "no table is partitioned by ranges of time"),
        ("CREATE TABLE t (at date)", "skipped", "no table is partitioned"),
        # The key is an expression, or more than one column.
        (
            "CREATE TABLE t (at timestamp) PARTITION BY RANGE (date_trunc('day', at));" + ranges("t", ("2020-01-01", "2021-01-01")),
            "critical",
            "",
        ),
        (
            "CREATE TABLE t (at date, n int, s text) PARTITION BY RANGE (at, s, n);"
            + ranges(
                "t",
                ("'2020-01-01', 'it''s) TO (''', 1", "'2030-01-01', MINVALUE, MINVALUE"),
                ("'2030-01-01', 'a', 1", "MAXVALUE, MAXVALUE, MAXVALUE"),
            ),
            "ok",
            "no end",
        ),
    ],
)
def test_bounds_and_keys_of_other_kinds(database: Database, made: str, status: str, text: str) -> None:
    run_script(database, made)
    result = watch(database, COVERAGE)
    assert status_of(result, COVERAGE) == status
    assert text in said(result, COVERAGE)


def test_default_partitions_take_what_has_no_other(database: Database) -> None:
    run_script(
        database,
        f"""CREATE SCHEMA "Web App"; CREATE TABLE "Web App"."Tok%ens.v2" ("a""t %s" date) PARTITION BY RANGE ("a""t %s");
        CREATE TABLE "Web App"."it's %s" PARTITION OF "Web App"."Tok%ens.v2" FOR VALUES FROM ('2020-01-01') TO ('{day(1)}');
        CREATE TABLE "Web App"."The Rest" PARTITION OF "Web App"."Tok%ens.v2" DEFAULT;
        CREATE TABLE only_default (at date) PARTITION BY RANGE (at); CREATE TABLE rest PARTITION OF only_default DEFAULT""",
    )
    result = watch(database, COVERAGE)
    found = finding(result, f"{COVERAGE}[{HOSTILE}]")
    # Nothing is refused, and so nothing is critical.
    assert found["severity"] == "warning"
    assert "rows go to the default partition Web App.The Rest" in found["message"]
    only = finding(result, f"{COVERAGE}[public.only_default]")
    assert "no partition takes rows of now; so rows go to the default partition public.rest" in only["message"]
    assert only["severity"] == "warning"


@pytest.mark.parametrize(
    ("kind", "low", "high", "then"),
    [
        ("date", "2020-01-01", "2020-02-01", "2020-03-01"),
        ("timestamp", "2019-10-01", "2020-01-01", "2020-04-01 00:00:00"),
        ("timestamptz", "2020-01-01 06:00+00", "2020-01-02 06:00+00", "2020-01-03 06:00:00+00"),
        ("timestamptz", "2020-01-31 22:00+00", "2020-02-29 22:00+00", None),
    ],
)
def test_the_action_makes_the_next_partition(database: Database, kind: str, low: str, high: str, then: str | None) -> None:
    part = f"""CREATE TABLE p PARTITION OF "T.1" FOR VALUES FROM ('{low}') TO ('{high}')"""
    run_script(database, f'CREATE TABLE "T.1" (at {kind}) PARTITION BY RANGE (at); {part}')
    action = finding(watch(database, COVERAGE), f'{COVERAGE}[public."T.1"]')["action"]
    statements = re.findall("CREATE TABLE [^;]*", action)
    assert [f"TO ('{then}')" in statement for statement in statements] == ([True] if then else [])
    for statement in statements:
        run_script(database, statement)


def test_integers_that_are_times_by_declaration(database: Database) -> None:
    now = datetime.now(UTC).timestamp()
    run_script(
        database,
        f"""CREATE SCHEMA vault; CREATE TABLE vault.tokens (id int, iat bigint) PARTITION BY RANGE (iat);
        CREATE TABLE vault.p PARTITION OF vault.tokens FOR VALUES FROM ({int(now - 9 * DAY) * 1000}) TO ({int(now + DAY) * 1000});
        CREATE TABLE vault.others (id int) PARTITION BY RANGE (id)""",
    )
    tokens = {"table": "vault.tokens", "id": "id", "issued_at": {"column": "iat", "unit": "ms"}}
    system = {
        "name": "shop",
        "schemas": ["vault"],
        "token_stores": [{"name": "s", "tokens": tokens, "revoke": {"how": "denylist", "table": "vault.d", "id": "id"}}],
    }
    result = watch(database, COVERAGE, system=system)
    assert DAY - 60 < result["metrics"][f"{COVERAGE}[vault.tokens]"] <= DAY
    found = finding(result, f"{COVERAGE}[vault.tokens]")
    assert " UTC, " in found["message"]
    for statement in re.findall("CREATE TABLE [^;]*", found["action"]):
        run_script(database, statement)
    # Ten days more.
    assert 10 * DAY < watch(database, COVERAGE, system=system)["metrics"][f"{COVERAGE}[vault.tokens]"] <= 11 * DAY
    assert status_of(watch(database, COVERAGE), COVERAGE) == "skipped"


def test_the_clock_of_a_zone_that_the_system_declares(database: Database) -> None:
    (wall,) = database.query("SELECT date_trunc('second', now() AT TIME ZONE 'Pacific/Kiritimati' + interval '1 h')::text")[0]
    run_script(database, "CREATE TABLE t (at timestamp) PARTITION BY RANGE (at);" + ranges("t", ("2020-01-01", wall)))
    system = {"name": "shop", "schemas": ["public"], "time_zone": "Pacific/Kiritimati"}
    assert 3500 < watch(database, COVERAGE, system=system)["metrics"][f"{COVERAGE}[public.t]"] <= 3600
    assert watch(database, COVERAGE)["metrics"][f"{COVERAGE}[public.t]"] > 14 * 3600


def test_sub_partitions_stand_under_their_root(database: Database) -> None:
    def tenant(name: str, until: str) -> str:
        return f"CREATE TABLE {name} PARTITION OF t FOR VALUES IN ('{name}') PARTITION BY RANGE (at);" + ranges(name, ("2020-01-01", until))

    tenants = "".join(tenant(f"s{n}", day(1 if n < 30 else 100)) for n in range(60))
    run_script(
        database,
        f"""CREATE TABLE t (tenant text, at date) PARTITION BY LIST (tenant); {tenants}
        -- Divided by the same column twice: each part need only reach to its own end, and those of the past to no end.
        CREATE TABLE y (at date) PARTITION BY RANGE (at);
        CREATE TABLE y0 PARTITION OF y FOR VALUES FROM ('2019-01-01') TO ('2020-01-01') PARTITION BY RANGE (at);
        CREATE TABLE y1 PARTITION OF y FOR VALUES FROM ('2020-01-01') TO ('{day(60)}') PARTITION BY RANGE (at);
        {ranges("y1", ("2020-01-01", day(3)), (day(3), day(60)))}
        CREATE TABLE y2 PARTITION OF y FOR VALUES FROM ('{day(60)}') TO ('{day(90)}') PARTITION BY RANGE (at)""",
    )
    result = watch(database, COVERAGE)
    (found,) = result["findings"]
    assert (found["object"], found["severity"]) == ("public.t", "critical")
    assert "public.s0 and 29 more: partitions reach to" in found["message"]
    # The part that begins in sixty days has none itself.
    assert 58 * DAY < result["metrics"][f"{COVERAGE}[public.y]"] < 61 * DAY
    run_script(database, "DROP TABLE y1_1")
    found = finding(watch(database, COVERAGE), f"{COVERAGE}[public.y]")
    assert "public.y1: partitions reach to" in found["message"]


def test_no_lock_is_waited_for_and_no_privilege_needed(database: Database, cluster: Cluster, standby: Cluster) -> None:
    run_script(database, "CREATE TABLE t (at date) PARTITION BY RANGE (at);" + ranges("t", ("2020-01-01", day(1))))
    cluster.wait_for(standby)
    login = create_role(cluster, "nobody at all")
    try:
        with database.connect() as holder:
            holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            assert status_of(watch(database, COVERAGE, login=login), COVERAGE) == "critical"
        assert status_of(watch(database, COVERAGE, cluster=standby), COVERAGE) == "critical"
    finally:
        drop_role(cluster, database, "nobody at all")


# --- rows in default partitions -----------------------------------------------------------------------------------------


def test_rows_in_default_partitions(database: Database) -> None:
    run_script(
        database,
        """CREATE SCHEMA "Web App"; CREATE TABLE "Web App"."Tok%ens.v2" (id int) PARTITION BY RANGE (id);
        CREATE TABLE "Web App"."The %s" PARTITION OF "Web App"."Tok%ens.v2" DEFAULT; INSERT INTO "Web App"."Tok%ens.v2" VALUES (1), (2);
        CREATE TABLE big (id int) PARTITION BY LIST (id); CREATE TABLE big_rest PARTITION OF big DEFAULT PARTITION BY LIST (id);
        CREATE TABLE big_rest_rest PARTITION OF big_rest DEFAULT; INSERT INTO big SELECT generate_series(1, 12000);
        CREATE TABLE clean (id int) PARTITION BY RANGE (id); CREATE TABLE clean_rest PARTITION OF clean DEFAULT; ANALYZE big_rest_rest""",
    )
    result = watch(database, DEFAULTS)
    assert {found["key"]: found["value"] for found in result["findings"]} == {
        f"{DEFAULTS}[Web App.The %s]": 2,
        f"{DEFAULTS}[public.big_rest]": 12000,
        f"{DEFAULTS}[public.big_rest_rest]": 12000,
    }
    assert result["metrics"][f"{DEFAULTS}[public.clean_rest]"] == 0
    found = finding(result, f"{DEFAULTS}[Web App.The %s]")
    assert found["severity"] == "warning"
    assert found["message"] == f"2 rows of {HOSTILE}"
    assert 'DETACH PARTITION "Web App"."The %s"' in found["action"]
    assert "more than 10,000 rows, about 12,000" in finding(result, f"{DEFAULTS}[public.big_rest]")["message"]
    # Of other schemas nothing is said.
    assert status_of(watch(database, DEFAULTS, system={"name": "shop", "schemas": ["elsewhere"]}), DEFAULTS) == "skipped"


def test_what_a_role_may_not_count_is_an_estimate_or_unknown(database: Database) -> None:
    make = "CREATE TABLE {0} (id int, x int) PARTITION BY RANGE (id); CREATE TABLE {0}_rest PARTITION OF {0} DEFAULT;"
    run_script(
        database,
        "CREATE SCHEMA vault; SET search_path = vault;"
        + "".join(make.format(name) for name in ("empty", "counted", "emptied", "secluded"))
        + "INSERT INTO counted SELECT generate_series(1, 70); INSERT INTO emptied VALUES (1); INSERT INTO secluded VALUES (1);"
        + "ALTER TABLE secluded_rest ENABLE ROW LEVEL SECURITY; ANALYZE counted_rest, secluded_rest",
    )
    # As after a crash: it holds bytes, and nobody knows of rows.
    run_script(database, "DELETE FROM vault.emptied")
    eventually(lambda: database.query("SELECT pg_stat_get_live_tuples('vault.emptied_rest'::regclass)") == [(0,)])
    login = create_role(database.cluster, 'plain "role" ä')
    try:
        result = watch(database, DEFAULTS, login=login)
        assert {found["key"]: found["severity"] for found in result["findings"]} == {
            f"{DEFAULTS}[vault.counted_rest]": "warning",
            f"{DEFAULTS}[vault.secluded_rest]": "warning",
            f"{DEFAULTS}[vault.emptied_rest]": "unknown",
        }
        assert (
            "about 70 rows of vault.counted by the server's own estimate" in finding(result, f"{DEFAULTS}[vault.counted_rest]")["message"]
        )
        assert result["metrics"][f"{DEFAULTS}[vault.empty_rest]"] == 0
        for statement in statements_in(finding(result, f"{DEFAULTS}[vault.emptied_rest]")["action"]):
            run_script(database, statement)
        # The one that is empty to the eyes of row level security stays an estimate.
        run_script(database, """GRANT SELECT ON vault.secluded_rest TO "plain ""role"" ä" """)
        result = watch(database, DEFAULTS, login=login)
        assert result["unknown"] == []
        assert result["metrics"][f"{DEFAULTS}[vault.emptied_rest]"] == 0
        assert result["metrics"][f"{DEFAULTS}[vault.secluded_rest]"] == 1
    finally:
        drop_role(database.cluster, database, 'plain "role" ä')


def test_a_locked_default_partition_hides_no_other(database: Database) -> None:
    make = "CREATE TABLE {0} (id int) PARTITION BY RANGE (id); CREATE TABLE {0}_rest PARTITION OF {0} DEFAULT; INSERT INTO {0} VALUES (1);"
    run_script(database, make.format("a") + make.format("b"))
    with database.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE a_rest IN ACCESS EXCLUSIVE MODE")
        result = watch(database, DEFAULTS)
    assert {found["key"]: (found["severity"], found["sqlstate"]) for found in result["findings"]} == {
        f"{DEFAULTS}[public.a_rest]": ("unknown", "55P03"),
        f"{DEFAULTS}[public.b_rest]": ("warning", None),
    }
