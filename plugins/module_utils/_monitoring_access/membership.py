# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Membership in pg_monitor, by which the server shows sessions, statistics and settings of everybody, and no rows."""

from __future__ import annotations

from typing import Any, List

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.draft import Draft, Role

MONITOR = "pg_monitor"

_ROLE = """
SELECT r.oid::int8 AS oid, r.rolname::text AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypasses_rls, r.rolinherit AS inherits
FROM pg_roles r WHERE r.rolname = %(role)s
"""
# Since PostgreSQL 16 a membership says itself whether it is inherited, and several roles may have granted it.
_STANDING = """
SELECT pg_has_role(%(role)s::oid, 'pg_monitor', 'USAGE') AS effective,
    pg_has_role(%(role)s::oid, 'pg_monitor', 'MEMBER') AS member,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = 'pg_auth_members'::regclass AND a.attname = 'inherit_option') AS by_grant,
    pg_has_role('pg_monitor', 'USAGE WITH ADMIN OPTION') AS administers,
    (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) AS superuser,
    (SELECT r.rolcreaterole FROM pg_roles r WHERE r.rolname = current_user) AS creates_roles
"""
_GRANTS = """
SELECT g.rolname::text AS grantor, m.grantor::int8 AS oid, coalesce(pg_has_role(g.oid, 'USAGE'), true) AS may_act
FROM pg_auth_members m LEFT JOIN pg_roles g ON g.oid = m.grantor
WHERE m.member = %(role)s::oid AND m.roleid = (SELECT p.oid FROM pg_roles p WHERE p.rolname = 'pg_monitor') AND NOT m.admin_option
ORDER BY 1
"""
_INITDB = 10  # The oid of the superuser whom initdb made: what a superuser grants is granted by it.


def look(database: Any, name: str) -> Role:
    """Return the role that monitors. Raises MissingObject, with the way to make it."""
    found = database.row(_ROLE, {"role": name})
    if found is None:
        quoted = database.text(database.sql.Identifier(name))
        hint = f"Make it first, as with community.postgresql.postgresql_user or the statement CREATE ROLE {quoted} LOGIN;"
        raise MissingObject(f"role {name!r} does not exist", object_name=name, hint=hint)
    return Role(**found)


def plan(draft: Draft) -> None:
    """Plan the membership, and count its privileges as the role's own where it has or gets it."""
    standing = draft.database.row(_STANDING, {"role": draft.role.oid})
    may = standing["superuser"] or standing["administers"] or (standing["creates_roles"] and not standing["by_grant"])
    if not draft.options.present:
        _plan_end(draft, standing, may)
        return
    inherited = standing["by_grant"] or draft.role.inherits
    if inherited or standing["effective"]:
        draft.holders.append(MONITOR)
    if standing["effective"]:
        return
    sql = draft.sql
    if not inherited:
        statement = sql.SQL("ALTER ROLE {} INHERIT").format(draft.grantee)
        draft.leave("INHERIT", f"role {draft.role.name}", f"without it the role does not have what {MONITOR} has", statement)
        if standing["member"]:
            return
    form = "GRANT {} TO {} WITH INHERIT TRUE" if standing["by_grant"] else "GRANT {} TO {}"
    statement = sql.SQL(form).format(sql.Identifier(MONITOR), draft.grantee)
    _say(draft, may, statement)


def _plan_end(draft: Draft, standing: Any, may: bool) -> None:
    sql = draft.sql
    statements: List[Any] = []
    for row in draft.database.rows(_GRANTS, {"role": draft.role.oid}):
        statement = sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(MONITOR), draft.grantee)
        if standing["by_grant"] and row["grantor"] and not (standing["superuser"] and row["oid"] == _INITDB):
            statement = sql.SQL("{} GRANTED BY {}").format(statement, sql.Identifier(row["grantor"]))
        statements.append((statement, may and (row["may_act"] or not standing["by_grant"])))
    for statement, possible in statements:
        _say(draft, possible, statement)


def _say(draft: Draft, may: bool, statement: Any) -> None:
    if may:
        draft.do("membership", f"role {MONITOR}", statement)
    else:
        change = "grant" if draft.options.present else "revoke"
        draft.miss("membership", f"role {MONITOR}", f"{draft.database.user} may not {change} it: a superuser may", statement)
