# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema in which the history of the checks is kept."""

from __future__ import annotations

from typing import Any, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._health.history.schema_store import TABLE as SNAPSHOTS
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.draft import Draft, Piece
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.measure import SCHEMA, TABLE, Thing

# By this the module knows again what it has made.
COMMENT = "History of health checks, made by pgops.runbook.pg_monitoring_access"
PRIVILEGES = ("USAGE", "CREATE")
# On the table of the history, where another role has made it.
RECORDING = ("SELECT", "INSERT", "DELETE")

_SCHEMA = """
SELECT n.oid::int8 AS oid, pg_has_role(n.nspowner, 'USAGE') AS owned, obj_description(n.oid, 'pg_namespace') = %(comment)s AS made_here,
    EXISTS (
        SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n'
    ) AS holds_something
FROM pg_namespace n WHERE n.nspname = %(schema)s
"""
_TABLE = "SELECT c.oid::int8 AS oid FROM pg_class c WHERE c.relnamespace = %(schema)s::oid AND c.relname = %(table)s AND c.relkind = 'r'"


def plan(draft: Draft) -> None:
    """Want the schema, and that the role may make tables in it; take it away again where it is empty and was made here."""
    name = draft.options.history_schema
    if not name:
        return
    sql = draft.sql
    schema: Any = sql.Identifier(name)
    found = draft.database.row(_SCHEMA, {"schema": name, "comment": COMMENT})
    on = f"schema {name}"
    target = sql.SQL("SCHEMA {}").format(schema)
    if found is None:
        if draft.options.present:
            _make(draft, on, target)
        return
    if draft.options.present or not (found["made_here"] and not found["holds_something"]):
        for privilege in PRIVILEGES:
            draft.ask_one(Thing(SCHEMA, found["oid"], privilege), on, target)
        _ask_table(draft, name, found["oid"])
        if not draft.options.present and found["made_here"]:
            draft.leave("DROP SCHEMA", on, "it holds the history, or something else", sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
        return
    statement = sql.SQL("DROP {}").format(target)
    if found["owned"]:
        draft.do("DROP SCHEMA", on, statement)
    else:
        draft.miss("DROP SCHEMA", on, f"{draft.database.user} does not own it", statement)


def _ask_table(draft: Draft, schema: str, oid: int) -> None:
    sql = draft.sql
    target = sql.SQL("TABLE {}").format(sql.Identifier(schema, SNAPSHOTS))

    def compose(some: Sequence[Thing], _every: Sequence[Thing]) -> List[Piece]:
        what = ", ".join(thing.privilege for thing in some)
        return [Piece(what, f"{schema}.{SNAPSHOTS}", sql.SQL(what), target)]

    for row in draft.database.rows(_TABLE, {"schema": oid, "table": SNAPSHOTS}):
        draft.ask([Thing(TABLE, row["oid"], privilege) for privilege in RECORDING], compose)


def _make(draft: Draft, on: str, target: Any) -> None:
    sql = draft.sql
    statements = [
        ("CREATE SCHEMA", sql.SQL("CREATE {}").format(target)),
        ("COMMENT", sql.SQL("COMMENT ON {} IS {}").format(target, sql.Literal(COMMENT))),
    ]
    statements += [(what, sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(what), target, draft.grantee)) for what in PRIVILEGES]
    may = draft.database.value("SELECT has_database_privilege(current_database(), 'CREATE')")
    for what, statement in statements:
        if may:
            draft.do(what, on, statement)
        else:
            draft.miss(what, on, f"{draft.database.user} may not create schemas in database {draft.database.name}", statement)
