# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who registered on each day, and by which providers of identities."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import shown
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.inquiry import Inquiry

_ROW = "registration_"
# Rows of days first, then rows of providers, the most frequent ones by themselves.
_REGISTRATIONS = """
WITH group_ AS (
    SELECT day, provider, pg_catalog.count(*) AS users
    FROM (SELECT {own_day} AS day, {provider} AS provider FROM {table} AS registration_ WHERE {window}) AS row_
    WHERE {reported} GROUP BY 1, 2
), provider_ AS (
    SELECT provider, sum(users) AS users, least(pg_catalog.row_number() OVER (ORDER BY sum(users) DESC, provider), {top} + 1)::int AS place
    FROM group_ WHERE NOT {ahead} GROUP BY provider
)
SELECT {day} AS day, NULL AS provider, 0 AS place, sum(users)::bigint AS users, pg_catalog.count(DISTINCT provider) AS providers
FROM group_ GROUP BY 1
UNION ALL
SELECT NULL, min(provider), place, sum(users)::bigint, pg_catalog.count(provider) FROM provider_ GROUP BY place
ORDER BY place, day
"""


def registrations_per_day(inquiry: Inquiry, written: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the registrations of each day with how many providers were used, and the most used providers, of one table."""
    relation, sql = inquiry.relation(written), inquiry.sql
    time = time_column(relation, written["created_at"], f"{path}.created_at")
    reference, day = sql.Identifier(_ROW, time.column.name), sql.Identifier("day")
    provider = relation.column(written["provider"]) if written.get("provider") else None
    if provider is None:
        inquiry.lacks("registrations", str(relation.name), f"{path}.provider", "the provider that a user came from")
    statement = sql.SQL(_REGISTRATIONS).format(
        own_day=inquiry.day_of(time, reference),
        provider=shown.text(sql, provider, sql.Identifier(_ROW, provider.name), ()) if provider else sql.SQL("NULL::text"),
        table=relation.name.identifier(sql),
        window=inquiry.since_start(time, reference),
        reported=inquiry.reported(day),
        ahead=sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(inquiry.reported_day(day), sql.Literal(inquiry.tomorrow)),
        day=inquiry.reported_day(day),
        top=sql.Literal(inquiry.options.top),
    )
    rows = inquiry.database.rows(statement)
    found = {row["day"]: row for row in rows if row["day"]}
    days = [_day(one, found.get(one), provider is not None) for one in inquiry.days]
    return {
        "table": str(relation.name),
        "total": sum(one["registrations"] for one in days),
        "ahead": found[inquiry.tomorrow]["users"] if inquiry.tomorrow in found else 0,
        "days": days,
        "providers": _providers(inquiry, [row for row in rows if not row["day"]]) if provider else None,
    }


def _day(day: str, row: Mapping[str, Any] | None, known: bool) -> dict[str, Any]:
    users, providers = (row["users"], row["providers"]) if row else (0, 0)
    return {"day": day, "registrations": users, "providers_used": providers if known else None}


def _providers(inquiry: Inquiry, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    top = inquiry.options.top
    return [
        {
            "provider": row["provider"] if row["place"] <= top else None,
            "others": 0 if row["place"] <= top else row["providers"],
            "registrations": row["users"],
        }
        for row in rows
    ]
