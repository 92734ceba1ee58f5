"""The monitoring access on real databases, without Ansible in between, and what may be compared before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access import OPERATION, arrange, read_options
from tests.ground.cluster import Cluster
from tests.ground.databases import Database

DEFAULTS: dict[str, Any] = {
    "state": "present",
    "system": None,
    "sequence_schemas": [],
    "default_privileges": True,
    "token_ids": True,
    "row_counts": True,
    "configuration": True,
    "integrity": True,
    "history_schema": None,
    "partial": False,
}
# Every access list of a database and the memberships of its server; an empty one is what the server takes it for.
ACCESS = """
SELECT 'class', c.oid::regclass::text, NULL,
    coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))::text
    FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL SELECT 'column', a.attrelid::regclass::text, a.attname, a.attacl::text FROM pg_attribute a WHERE a.attacl IS NOT NULL
UNION ALL SELECT 'default', d.defaclrole::regrole::text, d.defaclnamespace::text || d.defaclobjtype::text, d.defaclacl::text
    FROM pg_default_acl d
UNION ALL SELECT 'schema', n.nspname, NULL, coalesce(n.nspacl, acldefault('n', n.nspowner))::text
    FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
UNION ALL SELECT 'function', p.oid::regprocedure::text, NULL, coalesce(p.proacl, acldefault('f', p.proowner))::text FROM pg_proc p
UNION ALL SELECT 'database', d.datname, NULL, coalesce(d.datacl, acldefault('d', d.datdba))::text
    FROM pg_database d WHERE d.datname = current_database()
UNION ALL SELECT 'member', m.member::regrole::text, m.roleid::regrole::text, m.admin_option::text FROM pg_auth_members m
    WHERE m.member = %s::regrole
"""


def access(database: Database, role: str) -> set[tuple[Any, ...]]:
    """Return all access lists of a database, and what `role` is a member of."""
    with database.connect() as connection:
        return set(connection.execute(ACCESS, ['"' + role.replace('"', '""') + '"']))


def grant(
    database: Database,
    role: str,
    *,
    check: bool = False,
    cluster: Cluster | None = None,
    login: Mapping[str, Any] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Run the engine and return its result; `cluster` is another one with the same database, a standby."""
    place = cluster.login(database.name, tcp=False) if cluster else database.login(tcp=False)
    options = ConnectionOptions.from_params({**place, **(login or {})})
    with connect(options, application_name=f"pgops.runbook/{OPERATION}", read_only=check) as session:
        return arrange(session, read_options({**DEFAULTS, "role": role, **given}), check_mode=check)


def lacking(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the findings of pg_health that a privilege would end, less what is a superuser's alone."""
    return [
        (found["key"], found["message"])
        for found in result["findings"]
        if found["severity"] == "unknown"
        and (found["sqlstate"] == "42501" or "GRANT " in (found["action"] or "") or "may not" in found["message"])
        and found["check"] != "security.md5"
    ]


@contextmanager
def roles(database: Database, **attributes: str) -> Iterator[None]:
    """Have roles, by name with their attributes, and drop them afterwards with what they own and were given in `database`."""
    with database.connect() as connection:
        for name, attribute in attributes.items():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN {}").format(sql.Identifier(name), sql.SQL(attribute)))
        try:
            yield
        finally:
            for name in attributes:
                connection.execute(sql.SQL("REASSIGN OWNED BY {} TO postgres").format(sql.Identifier(name)))
            for name in attributes:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            for name in attributes:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
