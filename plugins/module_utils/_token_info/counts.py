# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many tokens there are, by status and by type: one query for each store."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import DENY, View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN

# All tokens are counted once, and the revoked ones once more, because a condition is a join where it stands alone.
_COUNTS = """
WITH part_ AS (
    SELECT {kind} AS kind, pg_catalog.count(*) AS total, pg_catalog.count(*) FILTER (WHERE NOT {alive}) AS dead,
        pg_catalog.count(*) FILTER (WHERE NOT {accepted}) AS gone, 0 AS revoked, 0 AS revoked_dead, 0 AS revoked_gone
    FROM {table} AS {token} WHERE {is_token} GROUP BY 1
    UNION ALL
    SELECT {kind}, 0, 0, 0, pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT {alive}),
        pg_catalog.count(*) FILTER (WHERE NOT {accepted})
    FROM {table} AS {token} WHERE {is_token} AND {revoked} GROUP BY 1
), kind_ AS (
    SELECT kind, sum(total) AS total, sum(dead) AS dead, sum(gone) AS gone, sum(revoked) AS revoked,
        sum(revoked_dead) AS revoked_dead, sum(revoked_gone) AS revoked_gone,
        least(pg_catalog.row_number() OVER (ORDER BY sum(total) DESC, kind), {top} + 1) AS place
    FROM part_ GROUP BY kind
)
SELECT place::int, min(kind) AS kind, pg_catalog.count(*) AS kinds, sum(total)::bigint AS total,
    sum(total - dead - revoked + revoked_dead)::bigint AS active, sum(total - gone - revoked + revoked_gone)::bigint AS accepted,
    sum(dead - revoked_dead)::bigint AS expired, sum(revoked)::bigint AS revoked
FROM kind_ GROUP BY place
UNION ALL
SELECT 0, NULL, 0, {orphans}, 0, 0, 0, 0
ORDER BY 1
"""
NUMBERS = ("total", "active", "accepted", "expired", "revoked")


def count_tokens(view: View) -> dict[str, Any]:
    """Return `counts` by status and `types`, a row for each of the most frequent types and one for all others."""
    sql = view.sql
    statement = sql.SQL(_COUNTS).format(
        kind=view.text("type"),
        alive=view.alive,
        accepted=view.accepted_by_time,
        revoked=view.revoked(),
        table=view.table,
        token=sql.Identifier(TOKEN),
        is_token=view.now.is_token(),
        orphans=_denied_without_token(view),
        top=sql.Literal(view.inquiry.options.top),
    )
    orphans, *kinds = view.inquiry.database.rows(statement)
    counts: dict[str, Any] = {name: sum(row[name] for row in kinds) for name in NUMBERS}
    counts["denied_without_token"] = orphans["total"] if view.store.deny else None
    return {"counts": _known(view, counts), "types": _types(view, kinds)}


def note_what_is_not_counted(view: View) -> None:
    """Note the statuses that the store keeps no trace of."""
    inquiry, name = view.inquiry, view.store.name
    if not view.keeps_revoked:
        how = "its row is deleted" if view.store.how == "delete" else "a limit is moved, and none is declared"
        inquiry.lacks("counts", name, None, f"revoked: nothing of a revoked token stays behind, {how}")
    if not view.expires:
        key = f"token_stores[{name}].tokens.expires_at"
        inquiry.lacks("counts", name, key, "expired: the description says neither expires_at, nor expires_in, nor lifetime")


def _known(view: View, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers without a 0 for what nobody has counted."""
    blank = [*(["revoked"] if not view.keeps_revoked else []), *(["expired"] if not view.expires else [])]
    return {**numbers, **dict.fromkeys(blank)}


def _types(view: View, kinds: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    if view.store.token_column("type") is None:
        return None
    top = view.inquiry.options.top
    return [
        {
            "type": row["kind"] if row["place"] <= top else None,
            "others": 0 if row["place"] <= top else row["kinds"],
            **_known(view, {name: row[name] for name in NUMBERS}),
        }
        for row in kinds
    ]


def _denied_without_token(view: View) -> Any:
    sql, deny = view.sql, view.store.deny
    if deny is None:
        return sql.SQL("0")
    own = sql.Identifier(DENY, deny.id.name)
    form = "(SELECT pg_catalog.count(*) FROM {} AS {} WHERE {} IS NOT NULL AND NOT EXISTS (SELECT FROM {} AS {} WHERE {}))"
    return sql.SQL(form).format(
        deny.relation.name.identifier(sql),
        sql.Identifier(DENY),
        own,
        view.table,
        sql.Identifier(TOKEN),
        same_id(sql, (deny.id, own), (deny.key, view.now.column(deny.key))),
    )
