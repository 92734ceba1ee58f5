# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would make the server refuse to drop a partition, asked before the first change and in check mode too."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

_NOT_OWNED = """
SELECT n.nspname AS schema, c.relname AS name, pg_catalog.pg_get_userbyid(c.relowner) AS owner
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[]) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY n.nspname, c.relname
"""
# `going` is what the server drops along with a table: its parts, types, indexes, constraints, triggers, sequences and so on.
# What depends on any of that and is not itself among it is in the way. The parts of a foreign key of another table that refers to
# the parent are not: they end with the detachment.
_DEPENDENTS = """
WITH RECURSIVE going(top, class, oid) AS (
    SELECT t, 'pg_catalog.pg_class'::pg_catalog.regclass::oid, t FROM pg_catalog.unnest(%s::oid[]) AS t
    UNION
    SELECT g.top, d.classid, d.objid FROM going g JOIN pg_catalog.pg_depend d ON d.refclassid = g.class AND d.refobjid = g.oid
    WHERE d.deptype IN ('a', 'i', 'P', 'S')
),
hindering(top, class, oid) AS (
    SELECT DISTINCT g.top, coalesce(o.refclassid, d.classid), coalesce(o.refobjid, d.objid)
    FROM going g
    JOIN pg_catalog.pg_depend d ON d.refclassid = g.class AND d.refobjid = g.oid AND d.deptype = 'n'
    LEFT JOIN pg_catalog.pg_depend o ON o.classid = d.classid AND o.objid = d.objid AND o.deptype = 'i'
    WHERE (d.classid, d.objid) NOT IN (SELECT w.class, w.oid FROM going w WHERE w.top = g.top)
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint k
            WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid AND k.conparentid <> 0
        )
    UNION
    SELECT g.top, d.refclassid, d.refobjid
    FROM going g JOIN pg_catalog.pg_depend d ON d.classid = g.class AND d.objid = g.oid AND d.deptype = 'e'
)
SELECT h.top::pg_catalog.int8 AS top, pg_catalog.pg_describe_object(h.class, h.oid, 0) AS object FROM hindering h ORDER BY 2, 1
"""


def require_owned(database: Any, tables: Sequence[int]) -> None:
    """Require that the role owns all of `tables` (oids), itself or as a member of their owners. Raises DatabaseError."""
    found = database.rows(_NOT_OWNED, (sorted(set(tables)),)) if tables else []
    if found:
        name, owner = RelationName(found[0]["schema"], found[0]["name"]), found[0]["owner"]
        message = f"the role {database.user!r} does not own {name}, and only the owner of a table may detach or drop its partitions"
        hint = f"Use the role {owner!r}, or one that is a member of it and inherits its rights."
        raise DatabaseError(message, object_name=str(name), sqlstate="42501", hint=hint)


def require_independent(database: Any, partitions: Mapping[int, RelationName]) -> None:
    """Require that nothing depends on any of `partitions` (names by oid) that would not go with it. Raises InvalidValue."""
    found = database.rows(_DEPENDENTS, (list(partitions),)) if partitions else []
    if found:
        name = partitions[int(found[0]["top"])]
        objects = ", ".join(row["object"] for row in found if row["top"] == found[0]["top"])
        message = f"partition {name} cannot be dropped because other objects depend on it: {objects}"
        hint = "Let them refer to the whole table instead, or drop them; nothing is dropped along with a partition."
        raise InvalidValue(message, object_name=str(name), sqlstate="2BP01", hint=hint)
