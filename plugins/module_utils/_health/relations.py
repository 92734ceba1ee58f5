# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which relations a check of the whole database looks at, how large a few of them are, and what an extension offers."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import LOCK_NOT_AVAILABLE
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

# Opens each relation, and so waits behind an exclusive lock on it until lock_timeout.
_FILES = "SELECT o::int8 AS relation, pg_relation_size(o)::int8 AS bytes FROM unnest(%(relations)s::oid[]) AS o"

_FUNCTION = """
SELECT n.nspname AS schema, has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(n.oid, 'USAGE') AS allowed
FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_proc p ON p.oid = d.objid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE e.extname = %(extension)s AND p.proname = %(function)s AND oidvectortypes(p.proargtypes) = %(arguments)s
"""


def counted_indexes(number: int) -> str:
    """Return the number with its noun."""
    return counted(number, "index", "indexes")


def scope(look: Look) -> Dict[str, Any]:
    """Return the parameters that choose relations by schema: those of the system, or all but the server's own where there is none."""
    schemas = list(look.system.get("schemas") or ())
    return {"schemas": schemas, "all": not schemas}


def name_of(row: Any) -> str:
    """Return the name of the relation of a row with nspname and relname, as findings have it."""
    return str(RelationName(row["nspname"], row["relname"]))


def part_of(schema: str, table: str, part: str) -> str:
    """Return the name of a column or constraint of a table, as findings have it."""
    # The name of a schema of its own: it is written like any other part.
    written = str(RelationName("x", part))[2:]
    return f"{RelationName(schema, table)}.{written}"


def file_bytes(look: Look, oids: Sequence[int]) -> Dict[int, int | None]:
    """Return the exact bytes of a few relations by oid, None for what is locked or gone: in one statement unless a lock stops that."""
    if not oids:
        return {}
    try:
        return _file_bytes(look, oids)
    except DatabaseError as error:
        if error.sqlstate != LOCK_NOT_AVAILABLE:
            raise
    found: Dict[int, int | None] = {}
    for oid in oids:
        try:
            found.update(_file_bytes(look, [oid]))
        except DatabaseError as error:  # noqa: PERF203  (the next one may be free)
            if error.sqlstate != LOCK_NOT_AVAILABLE:
                raise
            found[oid] = None
    return found


def _file_bytes(look: Look, oids: Sequence[int]) -> Dict[int, int | None]:
    return {row["relation"]: row["bytes"] for row in look.rows(_FILES, {"relations": list(oids)})}


def extension_function(look: Look, extension: str, function: str, arguments: str) -> Dict[str, Any] | None:
    """Return the schema of a function of an extension, and whether the role may call it; None where the database has no such function."""
    found: List[Dict[str, Any]] = look.rows(_FUNCTION, {"extension": extension, "function": function, "arguments": arguments})
    return found[0] if found else None
