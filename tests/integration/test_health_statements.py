"""The slowest statements: found, compared with the run before, and shown without what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._health import statements
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import THERE, History, Snapshot
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits
from ansible_collections.pgops.runbook.plugins.module_utils._health.statement_text import shown
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.watching import create_role, drop_role, finding, look, options, run_script, status_of

pytestmark = pytest.mark.any_driver
SECRET = "tok-4f9a"


@pytest.fixture(scope="module")
def loaded(installation: servers.Installation) -> Iterator[Cluster]:
    """A server that counts statements."""
    with_contrib = servers.with_features(installation.major)
    with Cluster(with_contrib, settings={"autovacuum": "off", "shared_preload_libraries": "pg_stat_statements"}) as server:
        yield server


@pytest.fixture
def shop(loaded: Cluster) -> Iterator[Database]:
    """A database whose statements are counted from now on, in a schema of an odd name."""
    with Database.create(loaded, "shop") as made:
        run_script(made, 'CREATE SCHEMA "Odd % Stats"; CREATE EXTENSION pg_stat_statements SCHEMA "Odd % Stats"')
        made.query('SELECT "Odd % Stats".pg_stat_statements_reset()')
        yield made


def watch(database: Database, *checks: str, **params: Any) -> dict[str, Any]:
    return look(database, "daily", checks=list(checks) or ["stat"], **{"system": None, **params})


def tells_of_the_longest(message: str, shop: Database) -> bool:
    """Tell whether a finding is about the longest alone of the pauses that the server counts."""
    longest = """SELECT max_exec_time / 1000 FROM "Odd % Stats".pg_stat_statements WHERE query LIKE 'SELECT pg_sleep%'"""
    seconds, _unit, rest = message.partition(" s on average over ")
    # The text has three digits.
    return rest.startswith("1 call") and shop.query(longest) == [(pytest.approx(float(seconds), rel=0.01),)]


def test_a_slow_statement_is_found_with_its_numbers(shop: Database) -> None:
    # Those of the check itself are counted too, and take their time on a busy machine.
    for _turn in range(3):
        shop.query(f"SELECT pg_sleep(0.6), '{SECRET}' AS token /* {SECRET} */")
    result = watch(shop, thresholds={"stat.slow": {"warning": "500 ms", "minimum": 3}})
    assert [found["severity"] for found in result["findings"]] == ["warning"]
    found = result["findings"][0]
    mean = """SELECT mean_exec_time / 1000 FROM "Odd % Stats".pg_stat_statements WHERE query LIKE 'SELECT pg_sleep%' AND calls = 3"""
    assert shop.query(mean) == [(pytest.approx(found["value"], abs=0.001),)]
    assert found["value"] >= 0.6
    assert "over 3 calls" in found["message"]
    assert "SELECT pg_sleep($1)" in found["message"]
    assert SECRET not in str(result)
    rows = {row["queryid"]: row for row in result["details"]["statements"]}
    assert rows[found["object"]]["calls"] == 3
    assert 50 < rows[found["object"]]["share_pct"] <= 100
    assert result["details"]["slowest"][0]["queryid"] == found["object"]
    # Too few calls are not judged.
    assert watch(shop, thresholds={"stat.slow": {"warning": "500 ms", "minimum": 4}})["findings"] == []


def test_without_thresholds_the_slowest_is_told(shop: Database) -> None:
    shop.query("SELECT pg_sleep(0.02)")
    result = watch(shop, thresholds={"stat.slow": {"minimum": 1}})
    assert status_of(result, "stat.slow") == "ok"
    assert result["metrics"]["stat.slow"] >= 0.02


def test_a_password_in_a_statement_never_shows(shop: Database) -> None:
    create_role(shop.cluster, "hidden_words")
    try:
        run_script(shop, f"ALTER ROLE hidden_words PASSWORD '{SECRET}'")
        result = watch(shop, thresholds={"stat.slow": {"warning": 0, "minimum": 1}})
        assert "ALTER ROLE" in str(result["details"])
        assert SECRET not in str(result)
    finally:
        drop_role(shop.cluster, shop, "hidden_words")


def test_statements_of_others_that_are_not_seen_are_unknown(shop: Database) -> None:
    login = create_role(shop.cluster, "one_of_many")
    try:
        run_script(shop, 'GRANT USAGE ON SCHEMA "Odd % Stats" TO one_of_many')
        shop.query("SELECT 1")
        result = watch(shop, "stat.slow", login=login)
        assert result["unknown"] == ["stat.slow"]
        run_script(shop, result["findings"][0]["action"].partition(": ")[2])
        assert watch(shop, "stat.slow", login=login)["unknown"] == []
    finally:
        drop_role(shop.cluster, shop, "one_of_many")


def test_an_extension_that_is_not_there_is_skipped_unless_it_is_declared(database: Database) -> None:
    assert {status_of(watch(database), check) for check in ("stat.slow", "stat.evictions")} == {"skipped"}
    result = watch(database, system={"name": "shop", "extensions": ["pg_stat_statements"]})
    assert result["unknown"] == ["stat.slow", "stat.evictions"]
    assert "CREATE EXTENSION pg_stat_statements" in finding(result, "stat.slow")["action"]


def test_an_extension_that_is_not_loaded_says_so(installation: servers.Installation, database: Database) -> None:
    if not installation.has_contrib:
        pytest.skip("this server has no contrib")
    run_script(database, "CREATE EXTENSION pg_stat_statements")
    found = finding(watch(database, "stat.slow"), "stat.slow")
    assert (found["severity"], "shared_preload_libraries" in found["action"]) == ("unknown", True)


# --- since the run before -------------------------------------------------------------------------------------------------


def run(database: Database, history: History) -> tuple[Look, list[str]]:
    """Look at the statements as a run with this history does; return what it keeps and what it says."""
    with connect(options(database), application_name="pgops.runbook/pg_health", read_only=True) as session:
        seen = Look(session, None, _health.Expected(), history)
        readings = list(statements.CHECKS[0].run(seen, Limits(warning=0.05, minimum=1)))
        return seen, [reading.message for reading in readings]


def test_only_what_happened_since_the_run_before_counts(shop: Database) -> None:
    shop.query("SELECT pg_sleep(0.2)")
    first, said = run(shop, History())
    assert any("over 1 call" in message for message in said)
    before = Snapshot(datetime.now(UTC), {}, kept=dict(first.kept))
    second, said = run(shop, History(THERE, before))
    assert not any("pg_sleep" in message for message in said), said
    shop.query("SELECT pg_sleep(2.0)")
    _third, said = run(shop, History(THERE, Snapshot(datetime.now(UTC), {}, kept=dict(second.kept))))
    assert any(tells_of_the_longest(message, shop) and " 1 call since " in message and " UTC" in message for message in said), said


def test_after_a_reset_the_counters_begin_anew(shop: Database) -> None:
    shop.query("SELECT pg_sleep(0.1)")
    first, _said = run(shop, History())
    shop.query('SELECT "Odd % Stats".pg_stat_statements_reset()')
    shop.query("SELECT pg_sleep(0.07)")
    _second, said = run(shop, History(THERE, Snapshot(datetime.now(UTC), {}, kept=dict(first.kept))))
    assert any(tells_of_the_longest(message, shop) for message in said), said


def test_statistics_that_are_thrown_away_are_counted(installation: servers.Installation) -> None:
    complete = servers.with_features(installation.major)
    settings = {"autovacuum": "off", "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": 100}
    with Cluster(complete, settings=settings) as server, Database.create(server, "shop") as shop:
        run_script(shop, "CREATE EXTENSION pg_stat_statements")
        with shop.connect() as connection:
            for number in range(300):
                connection.execute(f"SELECT 1{', 1' * number}")  # type: ignore[call-overload]
        result = watch(shop, "stat.evictions")
    if complete.major < 14:
        assert status_of(result, "stat.evictions") == "skipped"
    else:
        assert result["metrics"]["stat.evictions_total"] > 0


# --- what is shown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM t1 WHERE a = $1 AND b = 'x''y'", "SELECT * FROM t1 WHERE a = $1 AND b = ?"),
        ("SELECT 1.5e-3, .5, x2, 0xFF", "SELECT ?, ?, x2, ?"),
        (r"SELECT E'it\'s', U&'d\0061', B'01', 1", "SELECT ?, ?, ?, ?"),
        ("SELECT $$tok$$, $a$tok $$ tok$a$, $1", "SELECT ?, ?, $1"),
        ("SELECT /* tok 'x */ a -- 'tok\n, \"it's 5\" FROM t", 'SELECT a , "it\'s 5" FROM t'),
        ("  (select 'tok')", "(select ?)"),
        ("SELECT 'never ends", "SELECT ?"),
        ("SELECT /* never ends 'tok'", "SELECT"),
        ("SELECT $$never ends", "SELECT ?"),
        ("CREATE ROLE x PASSWORD 'tok'", "CREATE ROLE ..."),
        ("COMMIT", "COMMIT"),
        ('SELECT ümlaut1 FROM "T 1"', 'SELECT ümlaut1 FROM "T 1"'),
        (None, None),
    ],
)
def test_a_text_is_shown_without_its_constants(text: str | None, expected: str | None) -> None:
    assert shown(text) == expected


def test_a_long_text_is_cut() -> None:
    text = shown("SELECT " + ", ".join(f"column_{n}" for n in range(200)))
    assert text is not None
    assert (len(text), text[-3:]) == (300, "...")
