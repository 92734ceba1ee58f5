# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look-up by id: which store has the token and what its status is there, also where only the deny list knows the id."""

from __future__ import annotations

import re
from typing import Any, Iterable, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._driver import array_literal
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import shown
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import DENY, View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN

MOST_ROWS = 10  # of one id in one store; the rest is counted
# Whether a token is accepted somewhere is what matters most of it.
_RANK = ("active", "revoked", "expired")
_ASKED = "asked_"
_UUID = re.compile(r"[0-9a-f]{4}(-?[0-9a-f]{4}){7}", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_BITS = {"int2": 15, "int4": 31, "int8": 63}
# Types by which an index finds an id, and the type that an id is given for each.
_TYPES = {**{name: name for name in (*_BITS, "uuid", "bpchar", "text", "name")}, "varchar": "text"}


def find_tokens(view: View) -> list[dict[str, Any]]:
    """Return what the store has of the ids that were asked for: rows with `number`, the place of the id in the question."""
    store, inquiry = view.store, view.inquiry
    ids = [(number, one) for number, one in enumerate(inquiry.options.ids) if _fits(store.id, one)]
    rows = _rows(view, ids) if ids else []
    known = {row["number"] for row in rows}
    missing = [(number, one) for number, one in ids if number not in known]
    # Only a list that repeats the token's id tells anything of an id without a token.
    if missing and store.deny and store.deny.key == store.id:
        rows += _only_denied(view, missing)
    return [{"store": store.name, **row} for row in rows]


def sum_up(ids: Sequence[str], rows: Sequence[dict[str, Any]], *, certain: bool, secret: Iterable[str]) -> list[dict[str, Any]]:
    """Return one entry for each id with its rows in all stores.

    `certain`: every store could be read, so that an id that is nowhere is not found; `secret` are the fingerprints to
    show in place of the ids, in their order, empty where ids are no secrets.
    """
    names = list(secret) or ids
    found = []
    for number, name in enumerate(names):
        own = [{key: value for key, value in row.items() if key != "number"} for row in rows if row["number"] == number]
        statuses = [row["status"] for row in own]
        status = next((one for one in _RANK if one in statuses), "not_found" if certain else "unknown")
        found.append({"id": name, "status": status, "stores": sorted({row["store"] for row in own}), "entries": own})
    return found


def fingerprints(sql: Any, database: Any, ids: Sequence[str]) -> list[str]:
    """Return what is shown in place of ids that are secrets."""
    column = Column("id", "text", "text", "S", False, 0, False, True)
    form = "SELECT {} AS shown FROM pg_catalog.unnest({}::text[]) WITH ORDINALITY AS asked_(value, number) ORDER BY asked_.number"
    mark = shown.fingerprint(sql, column, sql.Identifier(_ASKED, "value"))
    return [row["shown"] for row in database.rows(sql.SQL(form).format(mark, sql.Literal(array_literal(ids))))]


def _rows(view: View, ids: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    sql = view.sql
    form = """
        SELECT * FROM (
            SELECT asked_.number, false AS denied_only, pg_catalog.count(*) OVER same AS rows,
                pg_catalog.row_number() OVER same_newest AS place, {fields}
            FROM {asked} JOIN {table} AS {alias} ON {matches} AND {is_token} {denial}
            WINDOW same AS (PARTITION BY asked_.number), same_newest AS (PARTITION BY asked_.number ORDER BY {ends} DESC)
        ) AS found_
        WHERE place <= {most} ORDER BY number, place
    """
    statement = sql.SQL(form).format(
        fields=view.fields(status=True),
        asked=_asked(sql, ids),
        table=view.table,
        alias=sql.Identifier(TOKEN),
        matches=_matches(sql, view.store.id, view.now.column(view.store.id)),
        is_token=view.now.is_token(),
        denial=view.denial(),
        ends=view.now.ends_at(),
        most=sql.Literal(MOST_ROWS),
    )
    return [{key: value for key, value in row.items() if key != "place"} for row in view.inquiry.database.rows(statement)]


def _only_denied(view: View, ids: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """Return the ids that are denied and have no row among the tokens: who presents such a token is refused all the same."""
    sql, store, deny = view.sql, view.store, view.store.deny
    if deny is None:
        return []
    asked_id = _typed(sql, store.id)
    form = """
        SELECT asked_.number, {fields} FROM {asked} JOIN {deny} AS {alias} ON {same}
        WHERE NOT EXISTS (SELECT FROM {table} AS {token} WHERE {matches})
        GROUP BY asked_.number ORDER BY asked_.number
    """
    statement = sql.SQL(form).format(
        fields=view.denial_fields(),
        asked=_asked(sql, ids),
        deny=deny.relation.name.identifier(sql),
        alias=sql.Identifier(DENY),
        same=same_id(sql, (deny.id, sql.Identifier(DENY, deny.id.name)), (store.id, asked_id)),
        table=view.table,
        token=sql.Identifier(TOKEN),
        matches=_matches(sql, store.id, view.now.column(store.id)),
    )
    hidden = store.id.name in view.secrets
    return [
        {**row, "denied_only": True, "id": None if hidden else dict(ids)[row["number"]], "status": "revoked", "revoked_by": store.how}
        for row in view.inquiry.database.rows(statement)
    ]


def _asked(sql: Any, ids: Sequence[tuple[int, str]]) -> Any:
    numbers, values = array_literal([str(number) for number, _id in ids]), array_literal([one for _number, one in ids])
    form = "ROWS FROM (pg_catalog.unnest({}::int[]), pg_catalog.unnest({}::text[])) AS asked_(number, value)"
    return sql.SQL(form).format(sql.Literal(numbers), sql.Literal(values))


def _typed(sql: Any, column: Column) -> Any:
    value = sql.Identifier(_ASKED, "value")
    wanted = _TYPES.get(column.base)
    return sql.SQL("{}::{}").format(value, sql.Identifier("pg_catalog", wanted)) if wanted else value


def _matches(sql: Any, column: Column, reference: Any) -> Any:
    if column.base in _TYPES:
        return sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(reference, _typed(sql, column))
    # A text of somebody else's, citext for one, says by itself which letters are the same.
    form = "pg_catalog.lower({}::text) = pg_catalog.lower({})" if column.category == "S" else "{}::text = {}"
    return sql.SQL(form).format(reference, sql.Identifier(_ASKED, "value"))


def _fits(column: Column, one: str) -> bool:
    """Return whether a column can hold an id at all; one that cannot is just not there."""
    if column.base == "uuid":
        inner = one.strip()
        return bool(_UUID.fullmatch(inner[1:-1] if inner[:1] == "{" and inner[-1:] == "}" else inner))
    if column.base in _BITS:
        most = 2 ** _BITS[column.base]
        return bool(_INTEGER.fullmatch(one.strip())) and -most <= int(one) < most
    return True
