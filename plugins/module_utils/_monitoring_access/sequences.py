# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences: where each stands, which a role that only has pg_monitor is not shown."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.draft import Draft, Piece
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.measure import SEQUENCE, Thing

# Shows where a sequence stands, as USAGE does, and draws no numbers from it, as USAGE would.
PRIVILEGE = "SELECT"
# That one statement names: more of them would be unreadable.
_LISTED = 50

_SCHEMAS = """
SELECT n.nspname::text AS schema FROM pg_namespace n
WHERE CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
ORDER BY 1
"""
_SEQUENCES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::int8 AS oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname = ANY (%(schemas)s::text[])
ORDER BY 1, 2
"""
# Who makes sequences in a schema, and whether those that come will be open to the role.
_MAKERS = """
WITH maker AS (
    SELECT DISTINCT n.oid AS namespace, n.nspname, c.relowner AS owner
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname = ANY (%(schemas)s::text[])
    UNION
    SELECT n.oid, n.nspname, d.defaclrole FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace
    WHERE d.defaclobjtype = 'S' AND n.nspname = ANY (%(schemas)s::text[])
),
given AS (
    SELECT m.namespace AS place, m.owner AS maker, d.defaclnamespace, e.grantee, e.is_grantable
    FROM maker m JOIN pg_default_acl d ON d.defaclrole = m.owner AND d.defaclobjtype = 'S' AND d.defaclnamespace IN (0, m.namespace)
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS e
    WHERE e.privilege_type IN ('USAGE', 'SELECT') AND (e.privilege_type = 'SELECT' OR %(present)s)
)
SELECT m.nspname::text AS schema, r.rolname::text AS owner, pg_has_role(m.owner, 'USAGE') AS may_act,
    EXISTS (SELECT FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace = m.namespace AND c.relowner = m.owner) AS has_some,
    EXISTS (
        SELECT FROM given g LEFT JOIN pg_roles h ON h.oid = g.grantee
        WHERE g.place = m.namespace AND g.maker = m.owner AND (g.grantee = 0 OR h.rolname = ANY (%(holders)s::text[]))
    ) OR m.owner = %(role)s::oid AS held,
    EXISTS (
        SELECT FROM given g WHERE g.place = m.namespace AND g.maker = m.owner AND g.grantee = %(role)s::oid
            AND g.defaclnamespace <> 0 AND NOT g.is_grantable
    ) AS direct
FROM maker m JOIN pg_roles r ON r.oid = m.owner
ORDER BY 1, 2
"""


def ask(draft: Draft) -> None:
    """Want to see where every sequence of the chosen schemas stands, and where those that come will."""
    schemas = _schemas(draft)
    by_schema: Dict[str, Dict[Thing, str]] = {}
    for row in draft.database.rows(_SEQUENCES, {"schemas": schemas}):
        by_schema.setdefault(row["schema"], {})[Thing(SEQUENCE, row["oid"], PRIVILEGE)] = row["name"]
    for schema, names in by_schema.items():
        draft.ask(list(names), _composer(draft, schema, names))


def _schemas(draft: Draft) -> List[str]:
    asked = list(draft.options.sequence_schemas)
    found = [row["schema"] for row in draft.database.rows(_SCHEMAS, {"all": not asked, "schemas": asked})]
    lacking = sorted(set(asked) - set(found))
    if lacking:
        hint = "Correct sequence_schemas, or leave it out for all schemas."
        raise MissingObject(f"sequence_schemas: schema {lacking[0]!r} does not exist", object_name=lacking[0], hint=hint)
    return found


def _composer(draft: Draft, schema: str, names: Dict[Thing, str]) -> Any:
    sql = draft.sql

    def compose(some: Sequence[Thing], every: Sequence[Thing]) -> List[Piece]:
        if len(some) == len(every):
            target = sql.SQL("ALL SEQUENCES IN SCHEMA {}").format(sql.Identifier(schema))
            return [Piece(PRIVILEGE, f"all sequences of schema {schema}", sql.SQL(PRIVILEGE), target)]
        pieces = []
        for start in range(0, len(some), _LISTED):
            part = some[start : start + _LISTED]
            target = sql.SQL("SEQUENCE {}").format(sql.SQL(", ").join(sql.Identifier(schema, names[thing]) for thing in part))
            shown = names[part[0]] if len(part) == 1 else f"{len(part)} of {len(every)} sequences"
            on = f"sequence {schema}.{shown}" if len(part) == 1 else f"{shown} of schema {schema}"
            pieces.append(Piece(PRIVILEGE, on, sql.SQL(PRIVILEGE), target))
        return pieces

    return compose


def plan_defaults(draft: Draft) -> None:
    """Plan that sequences which come will be open to the role, for the roles that make them and that this session may act for."""
    if not draft.options.default_privileges:
        return
    sql, role = draft.sql, draft.role
    parameters = {"schemas": _schemas(draft), "holders": draft.holders, "role": role.oid}
    form = "GRANT SELECT ON SEQUENCES TO {}" if draft.options.present else "REVOKE SELECT ON SEQUENCES FROM {}"
    for row in draft.database.rows(_MAKERS, {**parameters, "present": draft.options.present}):
        if not (row["has_some"] and not row["held"] and not role.superuser if draft.options.present else row["direct"]):
            continue
        statement = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} {}").format(
            sql.Identifier(row["owner"]), sql.Identifier(row["schema"]), sql.SQL(form).format(draft.grantee)
        )
        what, on = f"{PRIVILEGE} by default", f"sequences that {row['owner']} will make in schema {row['schema']}"
        if row["may_act"]:
            draft.do(what, on, statement)
            continue
        # Those that are there are open all the same, so that this is no reason to grant nothing.
        tell = draft.leave if draft.options.present else draft.miss
        tell(what, on, f"{draft.database.user} may not act for {row['owner']}", statement)
