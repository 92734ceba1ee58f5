"""The documentation of pg_cleanup is true: its RETURN names every key of a real result with its type, its EXAMPLES run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.modules.pg_cleanup import EXAMPLES, RETURN
from tests.ground.databases import Database
from tests.ground.runner import AnsibleRunner
from tests.integration.cleaning import STORE, TABLES
from tests.integration.watching import create_role, drop_role, run_script

Run = Callable[..., dict[str, Any]]
DOCUMENTED = yaml.safe_load(RETURN)
TYPES: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}
# What Ansible itself puts into every result.
ANSIBLE = {"changed", "failed", "msg", "invocation", "exception", "deprecations", "_ansible_no_log"}

APPLICATION = """
CREATE TABLE mail (id int PRIMARY KEY, at timestamptz, gone_at timestamptz);
CREATE TABLE parts (id int, mail int CONSTRAINT held REFERENCES mail);
INSERT INTO parts VALUES (1, NULL);
CREATE TABLE kept (LIKE mail);
CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER look BEFORE DELETE ON mail FOR EACH ROW EXECUTE FUNCTION pass();
CREATE TRIGGER arrive BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION pass();
CREATE TABLE months (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE month PARTITION OF months FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
CREATE TABLE rest PARTITION OF months DEFAULT;
CREATE TABLE people (id int, at timestamptz, gone_at timestamptz);
"""
ROWS = """
INSERT INTO mail SELECT n, 'epoch' FROM generate_series(1, 30000) AS n;
INSERT INTO months VALUES ('2020-01-05Z');
INSERT INTO people SELECT n, 'epoch', CASE WHEN n < 5 THEN timestamptz 'epoch' END FROM generate_series(1, 10) AS n;
INSERT INTO app.denied VALUES (md5('a')::uuid, 'epoch', 'epoch'), (md5('b')::uuid, 'epoch', 'infinity');
"""
RULES = [
    {"table": "app.denied", "column": "denied_at", "older_than": "0 s"},
    {"table": "mail", "column": "at", "older_than": "1 h", "action": "archive", "archive": {"table": "kept"}},
    {"table": "people", "column": "at", "older_than": "1 h", "action": "soft_delete", "mark": {"column": "gone_at"}},
    {"name": "purged", "table": "people", "column": "gone_at", "older_than": "1 h", "action": "purge"},
    {"table": "months", "column": "at", "older_than": "1 day", "action": "drop_partitions"},
]
ALL = {"rules": RULES, "token_stores": [STORE]}
OLD = {"rules": RULES[1:2]}


def unlike(given: dict[str, Any], documented: dict[str, Any], seen: set[str], path: str = "") -> list[str]:
    """Return where a mapping differs from its documentation; a key is None only where that is said. `seen` gets what had a value."""
    faults = [f"{path}{key}: not documented" for key in given if key not in documented]
    for key, facts in documented.items():
        here = f"{path}{key}"
        if key not in given:
            faults.append(f"{here}: missing")
        elif given[key] is None:
            faults += [f"{here}: None"] if "None" not in str(facts["description"]) else []
        else:
            faults += unlike_value(given[key], facts, seen, here)
    return faults


def unlike_value(given: Any, facts: dict[str, Any], seen: set[str], path: str) -> list[str]:
    kind = facts["type"]
    if not isinstance(given, TYPES[kind]) or (isinstance(given, bool) and kind != "bool"):
        return [f"{path}: {given!r} is no {kind}"]
    if kind == "list":
        inner = {"type": facts["elements"], "contains": facts.get("contains")}
        return [fault for each in given for fault in unlike_value(each, inner, seen, f"{path}[]")]
    seen.add(path)
    return unlike(given, facts["contains"], seen, f"{path}.") if facts.get("contains") else []


def every(documented: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths of all keys that a result can have a value for."""
    found = set()
    for key, facts in documented.items():
        here = f"{path}{key}" + ("[]" if facts["type"] == "list" else "")
        found.add(here)
        found |= every(facts.get("contains") or {}, f"{here}.")
    return found


@pytest.fixture
def app(database: Database) -> Iterator[Database]:
    run_script(database, TABLES + APPLICATION + ROWS)
    create_role(database.cluster, "cleaner")
    # Not all privileges: from PostgreSQL 17 on one of them lets others vacuum.
    run_script(database, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, app TO cleaner")
    run_script(database, "GRANT USAGE ON SCHEMA app TO cleaner")
    yield database
    drop_role(database.cluster, database, "cleaner")


def test_a_result_is_what_is_documented(run_module: Run, app: Database) -> None:
    stranger = {**app.login(), "login_user": "cleaner"}
    results = [run_module("pg_cleanup", ALL, connection=app.login(), check=True)]
    results.append(run_module("pg_cleanup", {**ALL, "max_rows": 1}, connection=app.login()))
    with app.connect(application_name="reader") as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM mail")
        tight = {"oldest_transaction": "0 s", "max_pause": "0.5 s"}
        results.append(run_module("pg_cleanup", {**OLD, "throttle": tight}, connection=app.login()))
        results.append(run_module("pg_cleanup", ALL, connection=app.login()))
        run_script(app, "INSERT INTO mail SELECT n, 'epoch' FROM generate_series(1, 30000) AS n")
        results.append(run_module("pg_cleanup", OLD, connection=stranger))
    results.append(run_module("pg_cleanup", ALL, connection=app.login()))
    run_script(app, "INSERT INTO mail VALUES (1, 'epoch'); ALTER TABLE kept ADD CHECK (id > 1) NOT VALID")
    results.append(run_module("pg_cleanup", OLD, connection=app.login()))
    results.append(run_module("pg_cleanup", {"rules": [{**RULES[0], "older_than": "-1 h"}]}, connection=app.login()))

    seen: set[str] = set()
    stops = []
    for result in results:
        stops.append(result.get("stopped"))
        given = {key: found for key, found in result.items() if key not in ANSIBLE}
        if "stopped" in given:
            given.setdefault("warnings", [])  # Ansible leaves an empty list of them out
        failure = {"error"} if result["failed"] else set()
        planned = set(DOCUMENTED) - {"error", "errors"} if "stopped" in result else {"errors", "notices"}
        assert unlike(given, {key: DOCUMENTED[key] for key in DOCUMENTED if key in planned | failure}, seen) == []
    assert stops == ["check_mode", "max_rows", "throttled", "done", "done", "done", "error", None]
    assert every(DOCUMENTED) - seen == set(), "documented, and never given a value here"
    dead = results[3]["rules"][1]["vacuumed"][0]
    assert (dead["done"], dead["dead_rows"], dead["held_by"][0]["name"]) == (True, 30000, "reader")


# The systems of the examples. What is not built in is made here: a shop with rows that go and rows that stay.
SYSTEMS = {"tim": "tim", "oauth": "oauth2_server"}
OAUTH = """
CREATE SCHEMA archive;
UPDATE tokens SET expires_at = now() - interval '31 days' WHERE token_id IN (SELECT token_id FROM tokens WHERE revoked_at IS NULL LIMIT 9);
"""
SHOP = """
CREATE TABLE notifications (id int, status text, pinned boolean DEFAULT false, created_at timestamptz, deleted_at timestamptz);
INSERT INTO notifications SELECT n, s, n = 2, now() - n * interval '50 days', CASE n WHEN 4 THEN now() - interval '31 days' END
  FROM generate_series(1, 4) AS n, unnest('{read, dismissed, unread}'::text[]) AS s;
CREATE TABLE logins (user_id int, at timestamptz);
INSERT INTO logins SELECT n % 2, now() - n * interval '30 days' FROM generate_series(1, 100) AS n;
CREATE TABLE audit_logs (created_at timestamptz) PARTITION BY RANGE (created_at);
CREATE TABLE audit_logs_2020_01 PARTITION OF audit_logs FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z');
CREATE TABLE audit_logs_now PARTITION OF audit_logs FOR VALUES FROM ('2020-02-01Z') TO (MAXVALUE);
INSERT INTO audit_logs VALUES ('2020-01-05Z'), (now());
"""
# What the examples on the shop do to how many rows: removed, marked.
DONE = {"Mark notifications": (3, 2), "Keep the last ten": (80, 0), "Drop the months": (1, 0)}


def open_at_night(database: Database) -> bool:
    night = "SELECT (now() AT TIME ZONE 'Europe/Tallinn')::time >= '22:00' OR (now() AT TIME ZONE 'Europe/Tallinn')::time < '04:00'"
    return bool(database.query(night)[0][0])


@pytest.mark.parametrize("task", yaml.safe_load(EXAMPLES), ids=lambda task: task["name"])
def test_an_example_does_what_its_name_says(
    task: dict[str, Any], database: Database, system_database: Callable[..., Any], ansible_runner: AnsibleRunner
) -> None:
    given = task["pgops.runbook.pg_cleanup"]
    system = SYSTEMS.get(given["login_db"])
    place = system_database(system) if system else database
    run_script(place, {"tim": "", "oauth": OAUTH, "shop": SHOP}[given["login_db"]])
    known = {"system_description": place.description} if system else {}
    play = [
        {"hosts": "all", "gather_facts": False, "vars": known, "tasks": [{**task, "pgops.runbook.pg_cleanup": {**given, **place.login()}}]}
    ]
    nights = {open_at_night(place)}
    (first,) = ansible_runner.play(play, {"localhost": {}}).tasks
    (again,) = ansible_runner.play(play, {"localhost": {}}).tasks
    nights.add(open_at_night(place))
    assert (first.status, again.status) == ("ok", "ok"), first.result
    assert first.result["matched"] > 0
    if "window" in given:
        assert first.result["stopped"] in {"done" if night else "window" for night in nights}
        return
    assert (first.result["changed"], first.result["stopped"]) == (True, "done")
    assert (again.result["changed"], again.result["stopped"]) == (False, "done")
    assert first.result["rules"][-1]["removed"] > 0
    if given["login_db"] == "oauth":
        assert first.result["archived"] == first.result["rules"][0]["removed"] > 0
    if not system:
        expected = next(numbers for name, numbers in DONE.items() if task["name"].startswith(name))
        assert (first.result["removed"], first.result["marked"]) == expected
