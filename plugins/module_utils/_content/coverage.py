# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup holds and what it does not, each with the reason."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, Table
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring

# What a dump of the whole database has in another form than the database itself, or not at all.
_LEFT_OUT = """
SELECT 'materialized view' AS what, pg_catalog.format('%I.%I', n.nspname, c.relname) AS object,
    'its rows are computed again when it is restored' AS why
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated
UNION ALL
SELECT 'index', pg_catalog.format('%I.%I', n.nspname, c.relname), 'it is not valid, and so not dumped: rebuild or drop it'
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND NOT (x.indisvalid AND x.indisready) AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'subscription', pg_catalog.quote_ident(s.subname), 'it is restored without its connection: enable and refresh it by hand'
FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = pg_catalog.current_database()
UNION ALL
SELECT 'foreign key', pg_catalog.format('%s %I', k.conrelid::regclass, k.conname),
    'it is switched off (DISABLE TRIGGER ALL), which a dump does not carry: it will be on'
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgisinternal AND t.tgenabled = 'D')
"""
_OTHER_DATABASES = """
SELECT 'database' AS what, pg_catalog.quote_ident(datname) AS object,
    CASE WHEN datconnlimit = -2 THEN 'it is broken (an interrupted DROP DATABASE) and can only be dropped'
        ELSE 'another database of the same server' END AS why
FROM pg_catalog.pg_database WHERE datname <> pg_catalog.current_database() AND NOT datistemplate AND (datallowconn OR datconnlimit = -2)
ORDER BY datname
"""
_OUTSIDE = """
SELECT 'partition' AS what, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS object,
    pg_catalog.format('a part of %%s, in a schema that is not in the scope', i.inhparent::regclass) AS why
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f') JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE pn.nspname = ANY (%s::name[]) AND NOT n.nspname = ANY (%s::name[])
"""


def coverage(database: Any, scope: Scope, tables: Sequence[Table]) -> Dict[str, Any]:
    """Return `included`, counts of what is in, and `left_out`, what is not, each with `what`, `object` and `why`.

    Raises DatabaseError.
    """
    included: Dict[str, int] = {}
    for table in tables:
        if table.measured:
            included[table.kind] = included.get(table.kind, 0) + 1
    left_out: List[Dict[str, str]] = [
        {"what": f"rows of {table.kind} table" if table.kind in ("foreign", "unlogged") else "rows", "object": table.name, "why": table.why}
        for table in tables
        if table.why and scope.with_rows
    ]
    with measuring(database):
        if scope.whole:
            left_out += database.rows(_LEFT_OUT)
        elif scope.schemas:
            schemas = list(scope.schemas)
            left_out += database.rows(_OUTSIDE, (schemas, schemas))
            left_out.append({"what": "objects in no schema", "object": "", "why": "large objects, extensions and such belong to no schema"})
        else:
            left_out.append({"what": "all else", "object": "", "why": "only the named tables, and what is below them, are in the scope"})
        left_out += database.rows(_OTHER_DATABASES)
    return {"included": included, "left_out": left_out}
