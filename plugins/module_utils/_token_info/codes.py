# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The codes of the last hour. A code is a secret for as long as it is open, and its fingerprint tells it from others."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import shown
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.inquiry import Inquiry

HOUR = 3600.0
_ROW = "code_"
_CODES = """
SELECT {fields}, {used} AS is_used, {dead} AS is_expired, pg_catalog.count(*) OVER () AS total,
    pg_catalog.count(*) FILTER (WHERE {used}) OVER () AS used, pg_catalog.count(*) FILTER (WHERE NOT {used} AND {dead}) OVER () AS expired
FROM {table} AS code_ WHERE {created} OPERATOR(pg_catalog.>=) {since} ORDER BY {created} DESC, {id} LIMIT {most}
"""


def codes_of_the_last_hour(inquiry: Inquiry, written: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """Return the codes that one table got in the last hour, the newest first; None where it does not say when a code was given out."""
    relation, sql, database = inquiry.relation(written), inquiry.sql, inquiry.database
    times = {name: _time(relation, written, name, path) for name in ("created_at", "expires_at", "used_at")}
    created, expires, used = times["created_at"], times["expires_at"], times["used_at"]
    if created is None or created.kind == "date":
        inquiry.lacks("codes", str(relation.name), f"{path}.created_at", "when a code was given out, to the hour")
        return None
    for name, what in (("used_at", "which codes were used"), ("expires_at", "which codes have expired")):
        if times[name] is None:
            inquiry.lacks("codes", str(relation.name), f"{path}.{name}", what)
    column = sql.Identifier(_ROW, created.column.name)
    dead = sql.SQL("coalesce({} OPERATOR(pg_catalog.<) {}, false)")
    statement = sql.SQL(_CODES).format(
        fields=_fields(inquiry, relation, written, times),
        used=sql.SQL("({} IS NOT NULL)").format(sql.Identifier(_ROW, used.column.name)) if used else sql.SQL("false"),
        dead=dead.format(sql.Identifier(_ROW, expires.column.name), _instant.constant(database, expires, inquiry.as_of))
        if expires
        else sql.SQL("false"),
        table=relation.name.identifier(sql),
        created=column,
        since=_instant.constant(database, created, inquiry.as_of.before(HOUR)),
        id=sql.Identifier(_ROW, written["id"]),
        most=sql.Literal(inquiry.options.newest),
    )
    rows = database.rows(statement)
    first = rows[0] if rows else {"total": 0, "used": 0, "expired": 0}
    return {
        "table": str(relation.name),
        "total": first["total"],
        "used": first["used"] if used else None,
        "expired": first["expired"] if expires else None,
        "newest": [_code(row) for row in rows],
    }


def _code(row: Mapping[str, Any]) -> dict[str, Any]:
    status = "used" if row["is_used"] else "expired" if row["is_expired"] else "open"
    return {**{name: row[name] for name in ("code", "created_at", "expires_at", "used_at", "subject", "client")}, "status": status}


def _time(relation: Relation, written: Mapping[str, Any], name: str, path: str) -> TimeColumn | None:
    return time_column(relation, written[name], f"{path}.{name}") if written.get(name) else None


def _fields(inquiry: Inquiry, relation: Relation, written: Mapping[str, Any], times: Mapping[str, TimeColumn | None]) -> Any:
    sql, secrets = inquiry.sql, (written["id"],)
    parts = {"code": shown.fingerprint(sql, relation.column(written["id"]), sql.Identifier(_ROW, written["id"]))}
    for name, time in times.items():
        at = sql.Identifier(_ROW, time.column.name) if time else None
        parts[name] = shown.moment(inquiry.database, time, at) if time else sql.SQL("NULL::text")
    for name in ("subject", "client"):
        column = relation.column(written[name]) if written.get(name) else None
        parts[name] = shown.text(sql, column, sql.Identifier(_ROW, column.name), secrets) if column else sql.SQL("NULL::text")
    return sql.SQL(", ").join(sql.SQL("{} AS {}").format(value, sql.Identifier(name)) for name, value in parts.items())
