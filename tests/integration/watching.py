"""The health checks on a small system with one store of each kind, without Ansible in between."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.children import until
from tests.integration.leaving import over

# Neither the zone of the server (Europe/Tallinn) nor that of the sessions; and one whose clocks never show an hour twice.
ZONE = "America/Bogota"
SYSTEM: dict[str, Any] = {
    "name": "shop",
    "schemas": ["vault", "Web App", "bare"],
    "time_zone": ZONE,
    "token_stores": [
        {
            "name": "wall",
            "tokens": {"table": "vault.tokens", "id": "id", "issued_at": "issued_at", "expires_at": "expires_at"},
            "revoke": {"how": "denylist", "table": "vault.denied", "id": "id", "revoked_at": "denied_at", "expires_at": "expires_at"},
        },
        {
            "name": "epoch",
            "tokens": {
                "table": 'Web App."Tok%ens.v2"',
                "id": 'I"d %s',
                "issued_at": {"column": "iat", "unit": "ms"},
                "expires_at": {"column": "exp", "unit": "s"},
            },
            "revoke": {"how": "timestamp", "column": "Revoked At"},
        },
        {
            "name": "flag",
            "tokens": {"table": "vault.flagged", "id": "id", "issued_at": "issued_at"},
            "revoke": {"how": "flag", "column": "revoked"},
        },
    ],
    "login_flows": [{"table": "vault.logins", "id": "state", "created_at": "created_at", "timeout": "15 min"}],
    "retention": {"daily": [{"table": "vault.logins", "column": "created_at", "older_than": "15 min"}]},
    "schema": {
        "tables": {
            "vault.tokens": {"columns": {"id": "uuid", "issued_at": "timestamp", "expires_at": "timestamp"}},
            "vault.denied": {"columns": {"id": "uuid", "denied_at": "timestamp", "expires_at": "timestamp"}},
            'Web App."Tok%ens.v2"': {"columns": {'I"d %s': "text", "iat": "bigint", "exp": "bigint", "Revoked At": "timestamptz"}},
            "vault.flagged": {"columns": {"id": "int", "issued_at": "timestamptz", "revoked": "boolean"}},
            "vault.logins": {"columns": {"state": "text", "created_at": "timestamp"}},
            "vault.people": {"columns": {"id": "bigint"}},
            "vault.extra": {"columns": {"id": "bigint"}, "optional": True},
        },
        "views": ["vault.overview"],
    },
}
TABLES = """
CREATE SCHEMA vault; CREATE SCHEMA "Web App"; CREATE SCHEMA bare;
CREATE DOMAIN vault.moment AS timestamp;
CREATE TABLE vault.tokens (id uuid PRIMARY KEY, issued_at vault.moment, expires_at timestamp);
CREATE INDEX ON vault.tokens (issued_at);
CREATE TABLE vault.denied (id uuid PRIMARY KEY, denied_at timestamp, expires_at timestamp);
CREATE TABLE "Web App"."Tok%ens.v2" ("I""d %s" text, iat bigint, exp bigint, "Revoked At" timestamptz);
CREATE TABLE vault.flagged (id int PRIMARY KEY, issued_at timestamptz, revoked boolean);
CREATE TABLE vault.logins (state text PRIMARY KEY, created_at timestamp);
CREATE TABLE vault.people (id bigint) PARTITION BY RANGE (id);
CREATE TABLE vault.people_low PARTITION OF vault.people FOR VALUES FROM (0) TO (100);
CREATE TABLE vault.people_high PARTITION OF vault.people FOR VALUES FROM (100) TO (1000);
CREATE VIEW vault.overview AS SELECT 1 AS one;
"""
# 120 tokens a store over the last two hours, 60 an hour and none near the end of one; one token denied long ago and alive; a login of a
# minute ago.
ISSUED = "(SELECT n, now() - n * interval '50 s' - (n > 60)::int * interval '20 min' AS t FROM generate_series(1, 120) AS n) AS s"
ROWS = f"""
INSERT INTO vault.tokens SELECT md5(t::text)::uuid, t AT TIME ZONE '{ZONE}', (t + interval '1 day') AT TIME ZONE '{ZONE}' FROM {ISSUED};
INSERT INTO vault.denied SELECT id, (now() - interval '1 h 30 min') AT TIME ZONE '{ZONE}', expires_at
  FROM vault.tokens ORDER BY issued_at LIMIT 1;
INSERT INTO "Web App"."Tok%ens.v2" SELECT 'id ' || n, extract(epoch FROM t) * 1000, 4102444800, NULL FROM {ISSUED};
INSERT INTO vault.flagged SELECT n, t, false FROM {ISSUED};
INSERT INTO vault.logins VALUES ('fresh', (now() - interval '1 min') AT TIME ZONE '{ZONE}');
INSERT INTO vault.people SELECT generate_series(1, 150);
ANALYZE;
"""


# What the tests of this small system look at unless they say otherwise.
CHECKS = ["avail.connect", "avail.recovering", "schema", "conn.used_pct", "conn.active", "conn.states", "query", "token", "login.stuck"]
CHECKS += ["login.pending", "size", "table.dead_rows", "cache"]


def ago(age: str) -> str:
    """Return SQL for a moment `age` before now as the wall clock of the declared zone shows it."""
    return f"((now() - interval '{age}') AT TIME ZONE '{ZONE}')"


def ahead(distance: str) -> str:
    """Return SQL for a moment `distance` after now as the wall clock of the declared zone shows it."""
    return ago(f"-{distance}")


NOW = ago("0 s")


def run_script(database: Database, script: str) -> None:
    """Run several statements as the superuser, in a session that is over then and has told what it counted."""
    with database.connect() as connection:
        pid = connection.info.backend_pid
        connection.execute(script)  # type: ignore[call-overload]
    over(database.cluster, {pid})


def stock(database: Database) -> None:
    """Make the small system, with nothing wrong in it."""
    run_script(database, TABLES)
    run_script(database, ROWS)
    late = """SELECT count(*) FROM pg_class WHERE relnamespace IN ('vault'::regnamespace, '"Web App"'::regnamespace)
              AND relkind = 'r' AND reltuples > 0 AND pg_stat_get_last_analyze_time(oid) IS NULL"""
    eventually(lambda: database.query(late) == [(0,)])


def options(database: Database, check_timeout: str = "10 s", cluster: Cluster | None = None, **login: Any) -> ConnectionOptions:
    """Return the options of a session as pg_health opens it; `cluster` is another one with the same database, a standby."""
    place = cluster.login(database.name, tcp=False) if cluster else database.login(tcp=False)
    return _health.session_options(ConnectionOptions.from_params({**place, **login}), check_timeout)


def look(
    database: Database,
    tier: str | None = "daily",
    *,
    system: Mapping[str, Any] | str | None = "shop",
    extra: Iterable[Check] = (),
    check_timeout: str = "10 s",
    cluster: Cluster | None = None,
    login: Mapping[str, Any] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Run the checks and return the result; `extra` checks run after the first one."""
    params.setdefault("checks", CHECKS)
    request = _health.Request.from_params({"system": SYSTEM if system == "shop" else system, "tier": tier, **params})
    added = list(extra)
    checks = [*request.checks[:1], *added, *request.checks[1:]]
    request = replace(request, checks=checks, limits={**request.limits, **{check.id: _health.Limits() for check in added}})
    opening = options(database, check_timeout, cluster, **(login or {}))
    return _health.run(lambda: connect(opening, application_name="pgops.runbook/pg_health", read_only=True), request)


def status_of(result: Mapping[str, Any], check: str) -> str:
    """Return the status of one check."""
    return str(next(each["status"] for each in result["checks"] if each["id"] == check))


def finding(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the finding with this key, or fail with those that there are."""
    found = [each for each in result["findings"] if each["key"] == key]
    assert len(found) == 1, f"{key} is {len(found)} times among {[each['key'] for each in result['findings']]}"
    return dict(found[0])


def statements_in(action: str) -> list[str]:
    """Return the statements that an action tells a person to run."""
    return re.findall(r"(?:GRANT|ALTER|ANALYZE)[^;]*", action)


def create_role(cluster: Cluster, name: str, *member_of: str) -> dict[str, str]:
    """Create a role that may log in and nothing else but what membership gives; return its login options."""
    with cluster.connect() as connection:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        for group in member_of:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
    return {"login_user": name}


def drop_role(cluster: Cluster, database: Database, name: str) -> None:
    """Drop a role with its privileges in `database`."""
    with database.connect() as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is true: counters reach the server's statistics a moment after a commit."""
    until(true)
