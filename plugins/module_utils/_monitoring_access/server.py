# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the server itself a role needs beyond what everybody may see."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._health.needs import ORDER_COLUMNS, STATISTIC_COLUMNS
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.draft import Draft, Piece
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.measure import (
    COLUMN,
    DATABASE,
    FUNCTION,
    SCHEMA,
    TABLE,
    Thing,
    measure,
)

# What of the extensions the checks ask, where they are installed. Those of amcheck only read, under the lock of a reader.
EXTENSIONS: Dict[str, Sequence[str]] = {
    "pg_stat_statements": ("pg_stat_statements", "pg_stat_statements_info"),
    "pgstattuple": ("pgstattuple_approx",),
    "amcheck": ("bt_index_check", "gin_index_check", "verify_heapam"),
}
CONFIGURATION = {"pg_hba_file_rules": "pg_hba_file_rules", "pg_file_settings": "pg_show_all_file_settings"}

_DATABASE = "SELECT d.oid::int8 AS oid FROM pg_database d WHERE d.datname = current_database()"
_RELATIONS = """
SELECT c.oid::int8 AS oid, c.relname::text AS name FROM pg_class c
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY (%(names)s::text[])
"""
_FUNCTIONS = """
SELECT p.oid::int8 AS oid, p.proname::text AS name FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%(names)s::text[]) AND p.pronargs = 0
"""
# The types of arguments by name, because only so can a function be named in a statement: looked up for the few functions that are found.
_MEMBERS = """
SELECT x.extname::text AS extension, n.nspname::text AS schema, n.oid::int8 AS namespace, o.oid::int8 AS oid, o.name,
    CASE WHEN o.arguments IS NOT NULL THEN coalesce((
        SELECT jsonb_agg(jsonb_build_array(s.nspname, t.typname) ORDER BY a.place)
        FROM unnest(o.arguments) WITH ORDINALITY AS a (type, place) JOIN pg_type t ON t.oid = a.type
        JOIN pg_namespace s ON s.oid = t.typnamespace), '[]') END AS types
FROM pg_extension x
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
JOIN (
    SELECT 'pg_class'::regclass AS class, c.oid, c.relname::text AS name, c.relnamespace AS namespace, NULL::oidvector AS arguments
    FROM pg_class c WHERE c.relname = ANY (%(names)s::text[])
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, p.proname, p.pronamespace, p.proargtypes FROM pg_proc p WHERE p.proname = ANY (%(names)s::text[])
) AS o ON o.class = d.classid AND o.oid = d.objid
JOIN pg_namespace n ON n.oid = o.namespace
WHERE x.extname = ANY (%(extensions)s::text[])
ORDER BY 1, 5, 6
"""
_MAY_READ_HBA = """
SELECT has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE') AND has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
"""
# LDAP and RADIUS need a secret of their own, and the view shows it.
_SECRETS_IN_HBA = """
SELECT EXISTS (SELECT FROM pg_hba_file_rules h, unnest(h.options) AS o (text) WHERE o.text ~ '^(ldapbindpasswd|radiussecrets)=')
"""


def ask(draft: Draft) -> None:
    """Want the connection, the statistics of columns without their values, and what extensions and configuration need."""
    sql, database = draft.sql, draft.database
    target = sql.SQL("DATABASE {}").format(sql.Identifier(database.name))
    draft.ask_one(Thing(DATABASE, database.value(_DATABASE), "CONNECT"), f"database {database.name}", target)
    _ask_statistics(draft)
    _ask_extensions(draft)
    if draft.options.configuration:
        _ask_configuration(draft)
    if draft.options.present and not draft.role.superuser:
        draft.leave("SELECT", "pg_catalog.pg_authid", "it holds the passwords of all roles, as they are stored: only a superuser may look")


def _ask_statistics(draft: Draft) -> None:
    sql = draft.sql
    relation = draft.database.rows(_RELATIONS, {"names": ["pg_statistic"]})[0]

    def compose(some: Sequence[Thing], _every: Sequence[Thing]) -> List[Piece]:
        columns = [thing.column for thing in some]
        privilege = sql.SQL("SELECT ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
        return [Piece(f"SELECT ({', '.join(columns)})", "pg_catalog.pg_statistic", privilege, _catalogue(sql, "TABLE", "pg_statistic"))]

    draft.ask([Thing(COLUMN, relation["oid"], "SELECT", column) for column in sorted({*STATISTIC_COLUMNS, *ORDER_COLUMNS})], compose)


def _ask_extensions(draft: Draft) -> None:
    sql, seen = draft.sql, set()
    chosen = {name: objects for name, objects in EXTENSIONS.items() if name != "amcheck" or draft.options.integrity}
    parameters = {"extensions": list(chosen), "names": [one for objects in chosen.values() for one in objects]}
    for row in draft.database.rows(_MEMBERS, parameters):
        if row["name"] not in chosen[row["extension"]]:
            continue
        name, on = sql.Identifier(row["schema"], row["name"]), f"{row['schema']}.{row['name']}"
        if row["schema"] not in seen:
            seen.add(row["schema"])
            target = sql.SQL("SCHEMA {}").format(sql.Identifier(row["schema"]))
            draft.ask_one(Thing(SCHEMA, row["namespace"], "USAGE"), f"schema {row['schema']}", target)
        if row["types"] is None:
            draft.ask_one(Thing(TABLE, row["oid"], "SELECT"), on, sql.SQL("TABLE {}").format(name))
        else:
            types = sql.SQL(", ").join(sql.Identifier(*pair) for pair in row["types"])
            on += "(" + ", ".join(pair[1] for pair in row["types"]) + ")"
            draft.ask_one(Thing(FUNCTION, row["oid"], "EXECUTE"), f"function {on}", sql.SQL("FUNCTION {}({})").format(name, types))


def _ask_configuration(draft: Draft) -> None:
    views = {row["name"]: row["oid"] for row in draft.database.rows(_RELATIONS, {"names": list(CONFIGURATION)})}
    functions = {row["name"]: row["oid"] for row in draft.database.rows(_FUNCTIONS, {"names": list(CONFIGURATION.values())})}
    for view, function in CONFIGURATION.items():
        if view not in views or function not in functions:
            continue
        execute = Thing(FUNCTION, functions[function], "EXECUTE")
        pair = (
            (Thing(TABLE, views[view], "SELECT"), f"pg_catalog.{view}", _catalogue(draft.sql, "TABLE", view)),
            (execute, f"function pg_catalog.{function}()", _catalogue(draft.sql, "FUNCTION", function)),
        )
        if view == "pg_hba_file_rules" and draft.options.present and _has_secrets(draft):
            state = measure(draft.database, [execute], draft.role.name, draft.holders)[execute]
            for thing, on, target in pair:
                privilege = draft.sql.SQL(thing.privilege)
                statement = draft.change(Piece("", "", privilege, target))
                reason = "lines of pg_hba.conf hold a password or secret of LDAP or RADIUS, which it would show"
                if state.held:
                    reason = "the role sees it already, with a password or secret of LDAP or RADIUS that is in pg_hba.conf by now"
                    statement = draft.sql.SQL("REVOKE {} ON {} FROM {}").format(privilege, target, draft.grantee)
                draft.leave(thing.privilege, on, reason, statement)
            continue
        for thing, on, target in pair:
            draft.ask_one(thing, on, target)


def _has_secrets(draft: Draft) -> bool:
    """Return whether pg_hba.conf holds a secret; where this session may not look, it may not grant either."""
    return bool(draft.database.value(_MAY_READ_HBA) and draft.database.value(_SECRETS_IN_HBA))


def _catalogue(sql: Any, kind: str, name: str) -> Any:
    form = {"TABLE": "TABLE {}", "FUNCTION": "FUNCTION {}()"}[kind]
    return sql.SQL(form).format(sql.Identifier("pg_catalog", name))
