# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened on each day: tokens issued, tokens revoked. Days on which nothing did are there with 0."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import DENY, View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN

_ISSUED = """
SELECT {day} AS day, pg_catalog.count(*) AS tokens
FROM (SELECT {own_day} AS day FROM {table} AS {token} WHERE {is_token} AND {window}) AS issued_
WHERE {reported} GROUP BY 1
"""
_REVOKED = """
SELECT {day} AS day, pg_catalog.count(*) AS revocations, pg_catalog.count(hours) AS timed, sum(hours)::float8 AS hours
FROM (
    SELECT day, CASE WHEN pg_catalog.isfinite(revoked) AND pg_catalog.isfinite(issued)
        THEN extract(epoch FROM revoked - issued) / 3600 END AS hours
    FROM ({rows}) AS revoked_
) AS timed_
WHERE {reported} GROUP BY 1
"""
# A deny row is one revocation, however many rows the token has. Numbered, because neither list nor view need have a key.
_DENIED = """
SELECT day, revoked, min({issued}) AS issued
FROM (
    SELECT pg_catalog.row_number() OVER () AS number, {own_day} AS day, {revoked} AS revoked, {id}
    FROM {deny} AS {alias} WHERE {window}
) AS {alias}
LEFT JOIN {table} AS {token} ON {same} AND {is_token}
GROUP BY number, day, revoked
"""
_MARKED = "SELECT {own_day} AS day, {revoked} AS revoked, {issued} AS issued FROM {table} AS {token} WHERE {is_token} AND {window}"


def issued_per_day(view: View) -> dict[str, Any] | None:
    """Return the tokens issued on each day, and how many are dated after today; None where the store does not record it."""
    inquiry, issued, sql = view.inquiry, view.store.issued, view.sql
    if issued is None:
        inquiry.lacks("issued", view.store.name, f"token_stores[{view.store.name}].tokens.issued_at", "when a token was issued")
        return None
    column, day = view.now.column(issued.column), sql.Identifier("day")
    statement = sql.SQL(_ISSUED).format(
        day=inquiry.reported_day(day),
        own_day=inquiry.day_of(issued, column),
        table=view.table,
        token=sql.Identifier(TOKEN),
        is_token=view.now.is_token(),
        window=inquiry.since_start(issued, column),
        reported=inquiry.reported(day),
    )
    found = {row["day"]: row["tokens"] for row in inquiry.database.rows(statement)}
    days = [{"day": one, "tokens": found.get(one, 0)} for one in inquiry.days]
    return {"total": sum(one["tokens"] for one in days), "ahead": found.get(inquiry.tomorrow, 0), "days": days}


def revoked_per_day(view: View) -> dict[str, Any] | None:
    """Return the revocations of each day with the mean hours from issue to revocation; None where the store does not record them."""
    inquiry, store, sql = view.inquiry, view.store, view.sql
    time = store.deny.revoked_at if store.deny else store.revoked_at
    if time is None:
        _note_no_time(view)
        return None
    if store.issued is None:
        inquiry.lacks("revocations", store.name, f"token_stores[{store.name}].tokens.issued_at", "hours from issue to revocation")
    day = sql.Identifier("day")
    statement = sql.SQL(_REVOKED).format(
        day=inquiry.reported_day(day), reported=inquiry.reported(day), rows=_denied(view, time) if store.deny else _marked(view, time)
    )
    found = {row["day"]: row for row in inquiry.database.rows(statement)}
    days = [{"day": one, **_revocations([found[one]] if one in found else [])} for one in inquiry.days]
    inside = [row for one, row in found.items() if one != inquiry.tomorrow]
    ahead = found[inquiry.tomorrow]["revocations"] if inquiry.tomorrow in found else 0
    return {**_revocations(inside), "ahead": ahead, "days": days}


def _revocations(rows: list[dict[str, Any]]) -> dict[str, Any]:
    count, timed = (sum(row[name] for row in rows) for name in ("revocations", "timed"))
    hours = sum(row["hours"] or 0.0 for row in rows)
    return {"revocations": count, "mean_hours": round(hours / timed, 2) if timed else None, "without_issue": count - timed}


def _note_no_time(view: View) -> None:
    store, message = view.store, "when a token was revoked"
    key = f"token_stores[{store.name}].revoke.revoked_at" if store.deny else None
    if not store.deny:
        message += {
            "flag": ": a flag does not tell",
            "delete": ": the row is deleted, and no trace stays in the store",
        }.get(store.how, ": a limit does not tell which tokens there were")
    view.inquiry.lacks("revocations", store.name, key, message)


def _denied(view: View, time: TimeColumn) -> Any:
    sql, inquiry, deny = view.sql, view.inquiry, view.store.deny
    if deny is None:
        raise AssertionError(f"{view.store.name} has no deny list")
    column = sql.Identifier(DENY, time.column.name)
    own = sql.Identifier(DENY, deny.id.name)
    return sql.SQL(_DENIED).format(
        issued=view.now.issued_at(),
        own_day=inquiry.day_of(time, column),
        revoked=_instant.start_of(inquiry.database, time, column),
        id=own,
        deny=deny.relation.name.identifier(sql),
        alias=sql.Identifier(DENY),
        window=inquiry.since_start(time, column),
        table=view.table,
        token=sql.Identifier(TOKEN),
        same=same_id(sql, (deny.id, own), (deny.key, view.now.column(deny.key))),
        is_token=view.now.is_token(),
    )


def _marked(view: View, time: TimeColumn) -> Any:
    sql, inquiry, column = view.sql, view.inquiry, view.now.column(time.column)
    return sql.SQL(_MARKED).format(
        own_day=inquiry.day_of(time, column),
        revoked=_instant.start_of(inquiry.database, time, column),
        issued=view.now.issued_at(),
        table=view.table,
        token=sql.Identifier(TOKEN),
        is_token=view.now.is_token(),
        window=inquiry.since_start(time, column),
    )
