# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role has, what it was given itself, and what this session may give or take, measured for many objects in one statement."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

DATABASE, SCHEMA, SEQUENCE, TABLE, COLUMN, FUNCTION = "DATABASE", "SCHEMA", "SEQUENCE", "TABLE", "COLUMN", "FUNCTION"


class Thing(NamedTuple):
    """A privilege on an object of the catalogue; `column` is one of a table's."""

    kind: str
    oid: int
    privilege: str
    column: str = ""


class State(NamedTuple):
    """How things stand with a privilege.

    `held`: the role has it, by whatever way. `may_grant`: this session may give it. `direct`: how many entries of the object's access list
    give it to the role itself, without the right to pass it on; `revocable`: how many of these a REVOKE of this session takes.
    """

    held: bool
    may_grant: bool
    direct: int
    revocable: int
    owner: str


# An entry with a grant option, and one of the owner, is never one that this module has made.
# USAGE and SELECT both show where a sequence stands.
_MEASURE = """
WITH wanted AS (
    SELECT * FROM unnest(%(kinds)s::text[], %(oids)s::oid[], %(privileges)s::text[], %(columns)s::text[])
        WITH ORDINALITY AS w (kind, oid, privilege, part, place)
),
object AS (
    SELECT w.*, d.datdba AS owner, d.datacl AS acl FROM wanted w JOIN pg_database d ON d.oid = w.oid WHERE w.kind = 'DATABASE'
    UNION ALL
    SELECT w.*, n.nspowner, n.nspacl FROM wanted w JOIN pg_namespace n ON n.oid = w.oid WHERE w.kind = 'SCHEMA'
    UNION ALL
    SELECT w.*, c.relowner, c.relacl FROM wanted w JOIN pg_class c ON c.oid = w.oid WHERE w.kind IN ('SEQUENCE', 'TABLE')
    UNION ALL
    SELECT w.*, c.relowner, a.attacl FROM wanted w JOIN pg_class c ON c.oid = w.oid
        JOIN pg_attribute a ON a.attrelid = w.oid AND a.attname = w.part WHERE w.kind = 'COLUMN'
    UNION ALL
    SELECT w.*, p.proowner, p.proacl FROM wanted w JOIN pg_proc p ON p.oid = w.oid WHERE w.kind = 'FUNCTION'
),
question AS (
    SELECT o.place, q.what, CASE o.kind
        WHEN 'DATABASE' THEN has_database_privilege(q.who, o.oid, q.privilege)
        WHEN 'SCHEMA' THEN has_schema_privilege(q.who, o.oid, q.privilege)
        WHEN 'SEQUENCE' THEN has_sequence_privilege(q.who, o.oid, q.privilege)
            OR q.what = 'held' AND has_sequence_privilege(q.who, o.oid, 'USAGE')
        WHEN 'TABLE' THEN has_table_privilege(q.who, o.oid, q.privilege)
        WHEN 'COLUMN' THEN has_column_privilege(q.who, o.oid, o.part, q.privilege)
        ELSE has_function_privilege(q.who, o.oid, q.privilege) END AS yes
    FROM object o
    CROSS JOIN LATERAL (
        SELECT 'held', r.oid, o.privilege FROM pg_roles r WHERE r.rolname = ANY (%(holders)s::text[])
        UNION ALL SELECT 'may', r.oid, o.privilege || ' WITH GRANT OPTION' FROM pg_roles r WHERE r.rolname = current_user
    ) AS q (what, who, privilege)
),
entry AS (
    SELECT o.place, CASE WHEN pg_has_role(o.owner, 'USAGE') THEN e.grantor = o.owner ELSE e.grantor = me.oid END AS own
    FROM object o CROSS JOIN LATERAL aclexplode(o.acl) AS e JOIN pg_roles me ON me.rolname = current_user
    WHERE e.grantee = (SELECT r.oid FROM pg_roles r WHERE r.rolname = %(role)s) AND e.grantee <> o.owner
        AND e.privilege_type = o.privilege AND NOT e.is_grantable
)
SELECT o.place::int AS place, pg_get_userbyid(o.owner)::text AS owner, q.held, q.may_grant,
    coalesce(e.direct, 0)::int AS direct, coalesce(e.revocable, 0)::int AS revocable
FROM object o
JOIN (
    SELECT q.place, bool_or(q.yes) FILTER (WHERE q.what = 'held') AS held, bool_or(q.yes) FILTER (WHERE q.what = 'may') AS may_grant
    FROM question q GROUP BY q.place
) AS q ON q.place = o.place
LEFT JOIN (
    SELECT e.place, count(*) AS direct, count(*) FILTER (WHERE e.own) AS revocable FROM entry e GROUP BY e.place
) AS e ON e.place = o.place
"""


def measure(database: Any, things: Sequence[Thing], role: str, holders: Sequence[str]) -> Dict[Thing, State]:
    """Return how things stand with each of `things` for `role`; those of an object that has gone meanwhile are left out.

    `holders` are the roles whose privileges the role has or will have: its own name among them.
    """
    asked: List[Thing] = list(dict.fromkeys(things))
    parameters = {
        "kinds": [thing.kind for thing in asked],
        "oids": [thing.oid for thing in asked],
        "privileges": [thing.privilege for thing in asked],
        "columns": [thing.column for thing in asked],
        "role": role,
        "holders": list(holders),
    }
    found = {}
    for row in database.rows(_MEASURE, parameters):
        place = row.pop("place")
        found[asked[place - 1]] = State(**row)
    return found
