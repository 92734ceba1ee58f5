"""usage: python -m tests.benchmarks [--repeats N] ; prints the time of each pair and the median of their ratios."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import psycopg2
from psycopg2 import sql

from tests.benchmarks.pairs import HEADER, Pair, measure
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.runner import collections_path

sys.path.insert(0, str(collections_path()))  # the engines under test run in this process

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup, _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from tests.ground import load, schema
from tests.ground.systems import description_of

# SQL with its parameters.
Statements = list[tuple[Any, list[Any]]]
REPEATS = 5
ROWS = 200_000
RULE = {"table": "public.session", "column": "expires_at", "older_than": "0 s"}
# As in production: what the tests leave out is a good part of the cost of a change.
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "autovacuum": "off"}
# In the time zone that the system declares, whatever that of the session: what a careful person would paste.
PASTED = "DELETE FROM {} WHERE {} < now() AT TIME ZONE 'UTC' - make_interval(secs => %s)"


def fill_sessions(cluster: Cluster) -> str:
    """Create a table of sessions of which every other one has expired; return its database."""
    cluster.create_database("sessions")
    with cluster.connect("sessions") as connection:
        connection.execute(
            "CREATE TABLE session (id uuid PRIMARY KEY, user_id bigint, created_at timestamptz, expires_at timestamptz, agent text)"
        )
        connection.execute(
            "INSERT INTO session SELECT gen_random_uuid(), i %% 5000, now() - interval '1 day',"
            " now() + CASE WHEN i %% 2 = 0 THEN -1 ELSE 1 END * interval '12 hours' * (1 + i %% 7), repeat('agent ', 10)"
            " FROM generate_series(1, %s) AS i",
            [ROWS],
        )
        connection.execute("CREATE INDEX ON session (expires_at)")
        connection.execute("VACUUM ANALYZE session")
    return "sessions"


def fill_tim(cluster: Cluster, description: dict[str, Any]) -> str:
    """Create the system TIM with its usual mix of tokens; return its database."""
    cluster.create_database("tim")
    with cluster.connect("tim") as connection:
        schema.create_system(connection, description)
        load.fill(connection, description, ROWS)
        connection.execute("VACUUM ANALYZE")
    return "tim"


def clean_up(login: dict[str, Any], rules: list[dict[str, Any]], stores: list[dict[str, Any]], *, check_mode: bool = False) -> int:
    """Do what pg_cleanup does between its arguments and its result."""
    options = _cleanup.read_options({"rules": rules, "token_stores": stores})
    with connect(ConnectionOptions.from_params(login), application_name="benchmark", read_only=check_mode) as database:
        return int(_cleanup.clean_up(database, options, check_mode=check_mode)["removed"])


def check_health(login: dict[str, Any], description: dict[str, Any]) -> int:
    """Do what pg_health does for the daily tier."""
    request = _health.Request.from_params({"system": description, "tier": "daily"})
    options = _health.session_options(ConnectionOptions.from_params(login), "10 s")
    result = _health.run(lambda: connect(options, application_name="benchmark", read_only=True), request)
    return len(result["tables"])


def pasted(login: dict[str, Any], statements: Statements) -> list[tuple[int, Any]]:
    """Run statements in one session, as one pastes them; return the row count and the first value of each."""
    names = {"login_host": "host", "login_port": "port", "login_user": "user", "login_password": "password", "login_db": "dbname"}
    session = psycopg2.connect(**{names[name]: value for name, value in login.items()})
    session.autocommit = True
    results = []
    with session.cursor() as cursor:
        for statement, parameters in statements:
            cursor.execute(statement, parameters)
            results.append((cursor.rowcount, cursor.fetchone()[0] if cursor.description else None))
    session.close()
    return results


def pairs(cluster: Cluster) -> list[Pair]:
    """Fill the databases and return what is to be compared."""
    sessions = fill_sessions(cluster)
    delete: Statements = [("DELETE FROM session WHERE expires_at < now()", [])]
    count: Statements = [("SELECT count(*) FROM session WHERE expires_at < now()", [])]
    tim = description_of("tim")
    rules, stores = tim["retention"]["daily"], tim["token_stores"]
    deletes = [
        (sql.SQL(PASTED).format(parse_relation(rule["table"]).identifier(sql), sql.Identifier(rule["column"]["column"])), [_age(tim, rule)])
        for rule in rules
    ]
    tables = list(tim["schema"]["tables"])
    looks: Statements = [(sql.SQL("SELECT count(*) FROM {}").format(parse_relation(name).identifier(sql)), []) for name in tables]
    looks += [("SELECT pg_database_size(current_database())", []), ("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'", [])]
    looks += [("SELECT sum(blks_hit) / nullif(sum(blks_hit + blks_read), 0) FROM pg_stat_database", [])]
    return [
        Pair(
            f"remove {ROWS // 2:,} of {ROWS:,} sessions", sessions, lambda at: clean_up(at, [RULE], []), lambda at: pasted(at, delete)[0][0]
        ),
        Pair("the same in check mode", sessions, lambda at: clean_up(at, [RULE], [], check_mode=True), lambda at: pasted(at, count)[0][1]),
        Pair(
            f"daily retention of TIM with {ROWS:,} tokens",
            fill_tim(cluster, tim),
            lambda at: clean_up(at, rules, stores),
            lambda at: sum(count for count, _value in pasted(at, deletes)),
        ),
        Pair("daily health of TIM", "tim", lambda at: check_health(at, tim), lambda at: len(pasted(at, looks)) - 3),
    ]


def _age(description: dict[str, Any], rule: dict[str, Any]) -> float:
    """Return how old rows of `rule` must be, with the margin that deny rows are given."""
    denied = {store["revoke"].get("table") for store in description["token_stores"]}
    return float(rule["older_than_seconds"]) + (parse_duration(description["clock_skew"]) if rule["table"] in denied else 0.0)


def main() -> None:
    """Start a server, measure every pair, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"runs of each pair in turns (default {REPEATS})")
    repeats = parser.parse_args().repeats
    with Cluster(servers.find(None), settings=DURABLE) as cluster:
        print(f"PostgreSQL {cluster.installation.major} from {cluster.installation.source}, medians of {repeats} runs each in turns\n")
        print(HEADER)
        for pair in pairs(cluster):
            print(measure(cluster, pair, repeats), flush=True)


if __name__ == "__main__":
    main()
