# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which claims are issued together, and how large a share of the tokens has them."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.claims import claims_column

# Few texts are written very often: they are counted as they are, and only the different ones are taken apart.
_SETS = """
WITH raw_ AS (SELECT {raw} AS claims, pg_catalog.count(*) AS tokens FROM {table} AS {token} WHERE {is_token} AND {window} GROUP BY 1),
set_ AS (SELECT {keys} AS claims, sum(tokens)::bigint AS tokens FROM raw_ GROUP BY 1),
ranked_ AS (
    SELECT claims, tokens, least(pg_catalog.row_number() OVER (ORDER BY tokens DESC, claims), {top} + 1)::int AS place FROM set_
)
SELECT place, min(claims) AS claims, pg_catalog.count(*) AS sets, sum(tokens)::bigint AS tokens FROM ranked_ GROUP BY place ORDER BY place
"""


def claim_sets(view: View) -> dict[str, Any] | None:
    """Return the most frequent sets of claims among the tokens issued in the reported days, and the others as one.

    Of all tokens, where the store does not say when they were issued; None where it has no claims.
    """
    store, inquiry, sql = view.store, view.inquiry, view.sql
    column = claims_column(store)
    key = f"token_stores[{store.name}].tokens.claims"
    if column is None or column.name in view.secrets:
        message = "the claims of a token" if column is None else f"{column.name} is one of the secrets of the store"
        inquiry.lacks("claims", store.name, key if column is None else None, message)
        return None
    reference = view.now.column(column)
    # A JSON of claims has their values in it, so that hardly two are the same.
    json = column.base in ("json", "jsonb")
    statement = sql.SQL(_SETS).format(
        raw=view.claim_set(reference) if json else reference,
        keys=sql.Identifier("raw_", "claims") if json else view.claim_set(sql.Identifier("raw_", "claims")),
        table=view.table,
        token=sql.Identifier(TOKEN),
        is_token=view.now.is_token(),
        window=_window(view),
        top=sql.Literal(inquiry.options.top),
    )
    rows = inquiry.database.rows(statement)
    shares = shares_of_hundred([row["tokens"] for row in rows])
    found = [{**row, "share_pct": share} for row, share in zip(rows, shares)]
    return {
        "since": str(inquiry.first) if store.issued else None,
        "total": sum(row["tokens"] for row in rows),
        "sets": [{name: row[name] for name in ("claims", "tokens", "share_pct")} for row in found if row["place"] <= inquiry.options.top],
        "others": next(
            ({name: row[name] for name in ("sets", "tokens", "share_pct")} for row in found if row["place"] > inquiry.options.top),
            {"sets": 0, "tokens": 0, "share_pct": 0.0},
        ),
    }


def shares_of_hundred(numbers: Sequence[int]) -> list[float]:
    """Return the share of each number in percent, with two digits, so that they sum to 100: the largest remainders are rounded up."""
    total = sum(numbers)
    if not total:
        return [0.0 for _number in numbers]
    parts = [divmod(number * 10_000, total) for number in numbers]
    left = 10_000 - sum(whole for whole, _rest in parts)
    upwards = set(sorted(range(len(parts)), key=lambda place: -parts[place][1])[:left])
    return [(whole + (place in upwards)) / 100 for place, (whole, _rest) in enumerate(parts)]


def _window(view: View) -> Any:
    issued, inquiry = view.store.issued, view.inquiry
    if issued is None:
        return view.sql.SQL("true")
    column = view.now.column(issued.column)
    return view.sql.SQL("{} AND {}").format(inquiry.since_start(issued, column), inquiry.reported(inquiry.day_of(issued, column)))
