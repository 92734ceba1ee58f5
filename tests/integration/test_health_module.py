"""pg_health as an operator runs it: through Ansible, with either driver, in all that a task can end in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.modules import pg_health
from tests.ground.cluster import PASSWORD_ROLE, Cluster
from tests.ground.databases import Database
from tests.ground.servers import CHECKOUT
from tests.ground.set_aside import SET_ASIDE
from tests.integration.watching import NOW, SYSTEM, ago, create_role, drop_role, run_script, stock

Run = Callable[..., dict[str, Any]]
ALWAYS_RETURNED = {
    "status",
    "exit_code",
    "summary",
    "checks",
    "findings",
    "metrics",
    "unknown",
    "tables",
    "server",
    "timing_ms",
    "round_trips",
    "time",
    "system",
    "tier",
    "notices",
    "suppressed",
    "resolved",
    "history",
    "series",
    "forecasts",
    "details",
    "snapshot",
}
NOT_LOOKED_AT = "declared in the system, and no check of this version looks at it"
# As the role health hands it on.
ASIDE = {"suppressions": SET_ASIDE["health_suppressions"], "thresholds": SET_ASIDE["health_thresholds"]}


@pytest.fixture
def shop(database: Database) -> Database:
    """The small system with nothing wrong in it."""
    stock(database)
    return database


@pytest.fixture
def stuck(shop: Database) -> Database:
    """The small system with one stuck login: a warning."""
    run_script(shop, f"INSERT INTO vault.logins SELECT 'old', {ago('2 h')}")
    return shop


@pytest.mark.parametrize("check", [False, True])
def test_all_is_well(shop: Database, run_module: Run, driver: str, check: bool) -> None:
    result = run_module("pg_health", {"system": SYSTEM, "tier": "daily", **ASIDE}, connection=shop.login(), check=check)
    assert set(result) >= ALWAYS_RETURNED
    assert (result["failed"], result["changed"], result["status"], result["exit_code"]) == (False, False, "ok", 0)
    assert result["findings"] == []
    assert result["server"]["driver"] == driver
    assert re.fullmatch(r"shop ok: \d+ ok, \d+ skipped", result["summary"])


def undocumented(returned: Any, documented: Mapping[str, Any], path: str = "") -> set[str]:
    """Return the keys that a result has and its documentation does not. Free mappings have no documentation of their own."""
    missing = set()
    for name, value in returned.items():
        entry, place = documented.get(name), f"{path}{name}"
        if entry is None:
            missing.add(place)
            continue
        inner = entry.get("contains")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and inner:
                missing |= undocumented(each, inner, f"{place}.")
    return missing


@pytest.mark.any_driver
def test_all_that_is_returned_is_documented(stuck: Database, run_module: Run) -> None:
    documented = yaml.safe_load(pg_health.RETURN)
    documented["suppressed"]["contains"].update(documented["findings"]["contains"])
    documented["details"]["contains"]["slowest"]["contains"] = documented["details"]["contains"]["statements"]["contains"]
    arguments = {"system": SYSTEM, "tier": "monthly", "history_schema": "pgops", "fail_on": "never", **ASIDE}
    run_script(stuck, "CREATE TABLE vault.big AS SELECT generate_series(1, 20000) AS n; CREATE INDEX ON vault.big (n); ANALYZE")
    with stuck.connect():
        run_module("pg_health", arguments, connection=stuck.login())
        run_script(stuck, "DELETE FROM vault.logins; DELETE FROM vault.big WHERE n % 10 > 0")
        result = run_module("pg_health", arguments, connection=stuck.login())
    for name in ("findings", "suppressed", "resolved", "series", "details", "snapshot", "tables"):
        assert result[name], name
    assert result["history"]["recorded"] is True
    of_every_task = {"changed", "failed", "invocation", "_ansible_no_log"}
    assert undocumented(result, documented) <= of_every_task


def test_each_list_for_a_report_is_documented() -> None:
    named = yaml.safe_load(pg_health.RETURN)["details"]["contains"]
    sources = [path.read_text(encoding="utf-8") for path in (CHECKOUT / "plugins" / "module_utils" / "_health").rglob("*.py")]
    assert {name for text in sources for name in re.findall(r'look\.details(?:\.setdefault\(|\[)"(\w+)"', text)} == set(named)


@pytest.mark.any_driver
@pytest.mark.parametrize(("fail_on", "failed"), [("critical", False), ("warning", True), ("unknown", True), ("never", False)])
def test_fail_on_says_which_status_fails(stuck: Database, run_module: Run, fail_on: str, failed: bool) -> None:
    result = run_module("pg_health", {"system": SYSTEM, "fail_on": fail_on, **ASIDE}, connection=stuck.login())
    assert result["failed"] is failed
    # A failed task returns everything as well.
    assert set(result) >= ALWAYS_RETURNED
    assert [found["key"] for found in result["findings"]] == ["login.stuck[vault.logins]"]
    assert result["exit_code"] == 1
    if failed:
        assert result["msg"] == result["summary"]
        words = r"shop warning: 1 warning, \d+ skipped: login.stuck\[vault.logins\] 1 login pending for more than 1 h, the oldest since "
        assert re.match(words, result["msg"])
        assert "\n" not in result["msg"]


@pytest.mark.any_driver
def test_what_is_critical_fails_by_default(shop: Database, run_module: Run) -> None:
    run_script(shop, "DROP TABLE vault.denied")
    result = run_module("pg_health", {"system": SYSTEM, **ASIDE}, connection=shop.login())
    assert result["failed"] is True
    assert result["status"] == "critical"
    words = r"shop critical: 1 critical, 1 unknown, \d+ skipped: schema.present\[vault.denied\] the table does not exist"
    assert re.match(words, result["msg"])


# Whatever is beside these: the tier grows.
SEES_THE_SERVER = {"conn.states", "conn.clients", "conn.idle", "conn.idle_in_transaction", "query.longest", "transaction.longest"}
SEES_THE_SERVER |= {"wal.dir_size"}
# The server is shared: the standby of another test may follow it.
OF_STANDBYS = {"repl.standbys", "repl.lag_bytes", "repl.lag_time"}


@pytest.mark.any_driver
@pytest.mark.parametrize(("member_of", "unknown"), [([], SEES_THE_SERVER), (["pg_monitor"], set())])
def test_what_a_role_may_not_see_is_unknown(shop: Database, run_module: Run, member_of: list[str], unknown: set[str]) -> None:
    login = {**shop.login(), **create_role(shop.cluster, "watcher", *member_of)}
    try:
        with shop.connect():
            result = run_module("pg_health", {"system": SYSTEM, "fail_on": "unknown", **ASIDE}, connection=login)
    finally:
        drop_role(shop.cluster, shop, "watcher")
    assert result["failed"] is True
    assert set(result["unknown"]) - OF_STANDBYS == unknown | {"token.revocation_rate", "login.stuck", "login.pending"}
    assert all("GRANT" in found["action"] for found in result["findings"])


@pytest.mark.any_driver
def test_checks_and_thresholds_of_the_call(stuck: Database, run_module: Run) -> None:
    arguments = {
        "system": SYSTEM,
        "checks": ["login.stuck", "query"],
        "thresholds": {"login.stuck": {"critical": 0, "action": "Call Ann."}},
    }
    result = run_module("pg_health", arguments, connection=stuck.login())
    assert [check["id"] for check in result["checks"]] == ["avail.connect", "query.longest", "login.stuck"]
    (found,) = result["findings"]
    assert (found["severity"], found["threshold"], found["threshold_source"], found["action"]) == ("critical", 0, "call", "Call Ann.")


@pytest.mark.any_driver
def test_without_a_system_the_server_is_looked_at(database: Database, run_module: Run) -> None:
    result = run_module("pg_health", {"tier": "daily", **ASIDE}, connection=database.login())
    assert result["failed"] is False
    assert result["summary"].startswith(f"{database.name} ok")
    assert {check["id"] for check in result["checks"] if check["status"] == "ok"} >= {"conn.used_pct", "query.longest", "size.database"}


@pytest.mark.any_driver
def test_what_is_empty_counts_as_not_given(shop: Database, run_module: Run) -> None:
    empty = {"system": SYSTEM, "check_timeout": "", "tier": "", "fail_on": "", "checks": "", **ASIDE}
    result = run_module("pg_health", empty, connection=shop.login())
    assert (result["failed"], result["status"]) == (False, "ok")
    assert {check["tier"] for check in result["checks"]} == {"hourly"}
    run_script(shop, "DROP TABLE vault.denied")
    assert run_module("pg_health", empty, connection=shop.login())["failed"] is True


@pytest.mark.any_driver
def test_what_is_declared_and_not_looked_at_is_in_the_result(shop: Database, run_module: Run) -> None:
    thresholds = {"login.failed": {"critical": 0}}
    result = run_module("pg_health", {"system": {**SYSTEM, "thresholds": thresholds}, **ASIDE}, connection=shop.login())
    assert re.fullmatch(r"shop ok: \d+ ok, \d+ skipped", result["summary"])
    check = result["checks"][-1]
    assert (check["id"], check["status"], check["message"]) == ("login.failed", "skipped", NOT_LOOKED_AT)


# --- refused ------------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_critical(run_module: Run, free_port: int) -> None:
    connection = {"login_host": "127.0.0.1", "login_port": free_port, "login_db": "tim"}
    result = run_module("pg_health", {"system": SYSTEM}, connection=connection)
    assert set(result) >= ALWAYS_RETURNED
    assert (result["failed"], result["status"], result["exit_code"]) == (True, "critical", 2)
    # One cause, one finding; that nothing else was seen stands in the list.
    (found,) = result["findings"]
    assert (found["key"], found["layer"], found["severity"]) == ("avail.connect", "port", "critical")
    assert len(result["unknown"]) == len(result["checks"]) - 1
    assert "Traceback" not in str(result)
    assert result["msg"].startswith("shop critical: 1 critical, ")
    lenient = run_module("pg_health", {"system": SYSTEM, "fail_on": "never"}, connection=connection)
    assert (lenient["failed"], lenient["status"]) == (False, "critical")


def test_a_refusal_names_its_layer(cluster: Cluster, database: Database, run_module: Run) -> None:
    with cluster.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS needs_password")
        connection.execute("DROP ROLE IF EXISTS password_required")
        connection.execute("CREATE ROLE password_required")
        connection.execute("CREATE ROLE needs_password LOGIN PASSWORD 'right' IN ROLE password_required")
    try:
        assert PASSWORD_ROLE == "password_required"
        for change, layer in (
            ({"login_user": "needs_password", "login_password": "wrong-and-secret"}, "authentication"),
            ({"login_db": "no such database"}, "database"),
        ):
            result = run_module("pg_health", {"checks": ["conn"], "fail_on": "never"}, connection={**database.login(), **change})
            assert [(found["key"], found["layer"]) for found in result["findings"]] == [("avail.connect", layer)]
            assert "wrong-and-secret" not in str(result)
    finally:
        with cluster.connect() as connection:
            connection.execute("DROP ROLE needs_password, password_required")


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that is bound and on which nobody listens."""
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


# --- wrong options: nothing is connected to -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"checks": ["tokens"]}, "did you mean token?"),
        ({"checks": ["token.orphaned_deny"], "tier": "hourly"}, "none of token.orphaned_deny is in the tier hourly"),
        ({"thresholds": {"login.stuk": {"warning": 1}}}, "did you mean login.stuck?"),
        ({"thresholds": {"login.stuck": {"warn": 1}}}, "did you mean warning?"),
        ({"thresholds": {"login.stuck": 5}}, "not a mapping"),
        ({"thresholds": {"query.longest": {"warning": "5 parsecs"}}}, "thresholds[query.longest].warning: '5 parsecs' is not seconds"),
        ({"thresholds": {"login.stuck": {"warning": 9, "critical": 5}}}, "the warning 9 lies beyond the critical 5"),
        ({"thresholds": {"schema.present": {"warning": 1}}}, "nothing to compare"),
        (
            {"system": {**SYSTEM, "token_stores": [{**SYSTEM["token_stores"][0], "revoke": {"how": "denlyist"}}]}},
            "token_stores[0].revoke.how: 'denlyist'",
        ),
        ({"check_timeout": "soon"}, "check_timeout: 'soon' is not a duration"),
        ({"tier": "yearly"}, "value of tier must be one of"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_connected_to(
    ansible_runner: Any, free_port: int, arguments: dict[str, Any], words: str
) -> None:
    result = ansible_runner.module("pg_health", arguments, connection={"login_host": "127.0.0.1", "login_port": free_port})
    assert result["failed"] is True
    assert words in result["msg"]
    assert "findings" not in result


@pytest.mark.any_driver
def test_a_flood_is_bounded(shop: Database, run_module: Run) -> None:
    tables = {**SYSTEM["schema"]["tables"], **{f"vault.gone{n}": {"columns": {"id": "int"}} for n in range(50)}}
    result = run_module("pg_health", {"system": {**SYSTEM, "schema": {"tables": tables}}, **ASIDE}, connection=shop.login())
    assert len(result["findings"]) == 20
    check = next(check for check in result["checks"] if check["id"] == "schema.present")
    assert (check["objects"], check["findings_total"]) == (50, 50)
    assert "47 more" in check["message"]
    assert len(result["msg"]) < 500


def test_the_time_of_a_login_does_not_depend_on_the_callers_zone(shop: Database, run_module: Run) -> None:
    run_script(shop, f"DELETE FROM vault.logins; INSERT INTO vault.logins SELECT 'new', {NOW}")
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        result = run_module("pg_health", {"system": SYSTEM, "checks": ["login"]}, connection=shop.login(), env={"PGTZ": zone, "TZ": zone})
        assert result["status"] == "ok"
