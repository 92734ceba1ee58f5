# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients that tokens are issued to: active is one with a token that is."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import require_comparable, same_id
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import shown
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.inquiry import Inquiry
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN

_CLIENT = "client_"
_CLIENTS = """
SELECT {fields}, {active_tokens} AS active_tokens, {last} AS last_issued_at,
    pg_catalog.count(*) OVER () AS listed, (SELECT pg_catalog.count(*) FROM {table}) AS total
FROM {table} AS client_ {active}
ORDER BY {order} LIMIT {most}
"""
# The tokens are counted before they meet the clients: a group for each client and not a row for each token.
_ACTIVE = """
JOIN (SELECT id, sum(tokens)::bigint AS tokens, max(last) AS last FROM ({stores}) AS store_ GROUP BY id) AS active_
    ON active_.id OPERATOR(pg_catalog.=) {id}
"""
_OF_STORE = """
SELECT {id} AS id, group_.tokens, group_.last
FROM (
    SELECT {client} AS client, pg_catalog.count(*) AS tokens, max({issued}) AS last
    FROM {table} AS {token} WHERE {is_token} AND {alive} AND NOT {revoked} AND {client} IS NOT NULL GROUP BY 1
) AS group_
JOIN {clients} AS client_ ON {same}
"""


def active_clients(inquiry: Inquiry, views: Sequence[View]) -> dict[str, Any] | None:
    """Return how many clients there are and are active, and the newest active ones; None where none are declared.

    `views` are the stores that can be read. Where none of them knows a client, all clients are listed, and which are active is unknown.
    """
    written, sql = inquiry.options.clients, inquiry.sql
    if not written:
        inquiry.lacks("clients", "clients", "clients", "the applications that tokens are issued to")
        return None
    relation = inquiry.relation(written)
    key = relation.column(written["id"])
    known = [view for view in views if view.store.token_column("client")]
    if not known:
        inquiry.lacks("clients", str(relation.name), "token_stores[].tokens.client", "which clients are active")
    elif not written.get("created_at"):
        inquiry.lacks("clients", str(relation.name), "clients.created_at", "which are the newest: they are in the order of their ids")
    statement = sql.SQL(_CLIENTS).format(
        fields=_fields(inquiry, relation, written),
        active_tokens=sql.SQL("active_.tokens" if known else "NULL::bigint"),
        last=shown.instant(sql, sql.SQL("active_.last")) if known else sql.SQL("NULL::text"),
        table=relation.name.identifier(sql),
        active=_active(inquiry, relation, key, known) if known else sql.SQL(""),
        order=_order(inquiry, relation, written),
        most=sql.Literal(inquiry.options.newest),
    )
    rows = inquiry.database.rows(statement)
    total, active = (rows[0]["total"], rows[0]["listed"]) if rows else (_count(inquiry, relation), 0)
    listed = [{name: value for name, value in row.items() if name not in ("total", "listed")} for row in rows]
    return {"table": str(relation.name), "total": total, "active": active if known else None, "newest": listed}


def _fields(inquiry: Inquiry, relation: Relation, written: Mapping[str, Any]) -> Any:
    sql, secrets = inquiry.sql, written.get("secrets") or ()
    created = written.get("created_at")
    time = time_column(relation, created, "clients.created_at") if created else None

    def column(key: str) -> Any:
        name = written.get(key)
        return shown.text(sql, relation.column(name), sql.Identifier(_CLIENT, name), secrets) if name else sql.SQL("NULL::text")

    fingerprints = [(name, shown.fingerprint(sql, relation.column(name), sql.Identifier(_CLIENT, name))) for name in secrets]
    return sql.SQL("{} AS id, {} AS name, {} AS created_at, {} AS secrets").format(
        column("id"),
        column("name"),
        shown.moment(inquiry.database, time, sql.Identifier(_CLIENT, time.column.name)) if time else sql.SQL("NULL::text"),
        shown.secrets_object(sql, fingerprints),
    )


def _order(inquiry: Inquiry, relation: Relation, written: Mapping[str, Any]) -> Any:
    sql, own = inquiry.sql, inquiry.sql.Identifier(_CLIENT, written["id"])
    if not written.get("created_at"):
        return own
    created = relation.column(written["created_at"]["column"])
    return sql.SQL("{} DESC NULLS LAST, {}").format(sql.Identifier(_CLIENT, created.name), own)


def _active(inquiry: Inquiry, relation: Relation, key: Column, views: Sequence[View]) -> Any:
    sql, parts = inquiry.sql, []
    own = sql.Identifier(_CLIENT, key.name)
    for view in views:
        column = view.store.token_column("client")
        if column is None:
            raise AssertionError(f"{view.store.name} knows no client")
        require_comparable((relation, key), (view.store.tokens, column), f"token_stores[{view.store.name}].tokens.client")
        parts.append(
            sql.SQL(_OF_STORE).format(
                id=own,
                client=view.now.column(column),
                issued=view.now.issued_at(),
                table=view.table,
                token=sql.Identifier(TOKEN),
                is_token=view.now.is_token(),
                alive=view.alive,
                revoked=view.revoked(),
                clients=relation.name.identifier(sql),
                same=same_id(sql, (key, own), (column, sql.Identifier("group_", "client"))),
            )
        )
    return sql.SQL(_ACTIVE).format(stores=sql.SQL(" UNION ALL ").join(parts), id=own)


def _count(inquiry: Inquiry, relation: Relation) -> int:
    sql = inquiry.sql
    return int(inquiry.database.value(sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(relation.name.identifier(sql))))
