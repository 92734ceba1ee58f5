# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest tokens that are active."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN

# The rows are chosen first, so that nothing is worked out for those that are not shown.
_NEWEST = """
SELECT {fields} FROM (
    SELECT * FROM {table} AS {token} WHERE {is_token} AND {alive} AND NOT {revoked} ORDER BY {order} LIMIT {most}
) AS {token} ORDER BY {order}
"""


def newest_active(view: View) -> list[dict[str, Any]] | None:
    """Return the tokens that were issued last and are active; None where the store does not say when a token was issued."""
    inquiry, issued, sql = view.inquiry, view.store.issued, view.sql
    if issued is None:
        inquiry.lacks("newest", view.store.name, f"token_stores[{view.store.name}].tokens.issued_at", "which tokens are the newest")
        return None
    order = sql.SQL("{} DESC NULLS LAST, {} DESC" if issued.column.nullable else "{} DESC, {} DESC")
    statement = sql.SQL(_NEWEST).format(
        fields=view.fields(status=False),
        table=view.table,
        token=sql.Identifier(TOKEN),
        is_token=view.now.is_token(),
        alive=view.alive,
        revoked=view.revoked(),
        order=order.format(view.now.column(issued.column), view.now.column(view.store.id)),
        most=sql.Literal(inquiry.options.newest),
    )
    return inquiry.database.rows(statement)
