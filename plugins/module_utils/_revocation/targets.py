# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revocation changes in one store, in the order in which it does: limits, what goes with the tokens, then the tokens.

What would mint new tokens goes first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence, Union

from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import marks
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.deny import Denial, key_as_denied
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Change
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.matched import Matched
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import DELETED, DENIED, EXTENDED, FLAGGED, REVOKED_AT
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import key_columns
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import plainly_comparable
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, Acceptance, TokenStore
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.claims import claims_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import DenyList
from ansible_collections.pgops.runbook.plugins.module_utils._unique_index import unique_index

TOKENS, DEPENDENT, LIMIT = "tokens", "dependent", "limit"


@dataclass(frozen=True)
class Target:
    """Rows to set aside and change. `query` sets them aside, numbered by `ordinal`; `act` is None where a limit does the work.

    `whole` is the query with the rows that other stores change before, None where there cannot be any.
    """

    kind: str
    relation: Relation
    change: str
    column: str
    query: Any
    act: Union[RowChange, Denial, None]
    whole: Any = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Return what it may do to rows, in this order."""
        if self.act is None:
            return ()
        return (self.act.change, self.act.extension) if isinstance(self.act, Denial) else (self.act.change,)

    @property
    def alone(self) -> Target:
        """Return the target as it is without other stores."""
        return replace(self, query=self.whole, whole=None) if self.whole is not None else self


@dataclass(frozen=True)
class Marking:
    """How rows are marked in one run: at which moment, why, and whether the values of cache keys are kept with each."""

    mark: Instant
    reason: str
    clock_skew: float
    placeholders: tuple[str, ...]


def token_target(database: Any, store: TokenStore, acceptance: Acceptance, found: Matched, marking: Marking) -> Target:
    """Return the target of the store's own tokens: those that `found` selects and that are still accepted."""
    # A token that a limit refuses already is revoked by itself too, so that a run that was broken off ends like one that was not.
    refused = acceptance.revoked() if store.how == "not_before" else acceptance.revoked_by_itself()
    pending = (acceptance.alive(), database.sql.SQL("NOT {}").format(refused))
    if store.deny:
        return _denial(database, store, store.deny, acceptance, found, marking, pending)
    query = _in_row_query(database, store, acceptance, found, marking, pending)
    if store.how == "not_before":
        return Target(TOKENS, store.tokens, "", "", query, None)
    column, value, word = _set(database, store, marking)
    mark = marks.value(database, store.revoked_at, marking.mark) if store.revoked_at and marks.is_unmistakable(store.revoked_at) else None
    keys = key_columns(database, store.tokens, column)
    change = Change(store.name, str(store.tokens.name), word, column.name if column else "", mark, keys)
    still = database.sql.SQL(" AND ").join([acceptance.is_token(), *pending])
    unique = unique_index(database, store.tokens, store.id.name) is not None
    act = RowChange(change, store.tokens, TOKEN, store.id, still, column, value, bool(marking.placeholders), key_is_unique=unique)
    return Target(TOKENS, store.tokens, word, change.column, query, act)


def _set(database: Any, store: TokenStore, marking: Marking) -> tuple[Column | None, Any, str]:
    """Return the column that a revocation sets in the token's row, its value, and the word for it."""
    sql = database.sql
    if store.revoked_at:
        return store.revoked_at.column, sql.Literal(marks.value(database, store.revoked_at, marking.mark)), REVOKED_AT
    if store.flag:
        return store.flag, sql.SQL("true" if store.written["revoke"]["revoked_when"] else "false"), FLAGGED
    return None, None, DELETED


def _in_row_query(
    database: Any, store: TokenStore, acceptance: Acceptance, found: Matched, marking: Marking, pending: Sequence[Any]
) -> Any:
    sql = database.sql
    columns = sql.SQL(
        "row_number() OVER (ORDER BY {issued} DESC NULLS LAST, {ends} DESC) AS ordinal, {token}.tableoid AS relid, {token}.ctid AS place,"
        " {id} AS key, {id}::text AS id, 1::bigint AS tokens, {claims} AS claims, {cache_values} AS cache_values"
    ).format(
        token=sql.Identifier(TOKEN),
        id=acceptance.column(store.id),
        **_common(database, store, acceptance, marking),
    )
    return found.select(sql, columns, *pending)


def _denial(
    database: Any, store: TokenStore, deny: DenyList, acceptance: Acceptance, found: Matched, marking: Marking, pending: Sequence[Any]
) -> Target:
    sql = database.sql
    common = _common(database, store, acceptance, marking)
    key, token_id = key_as_denied(sql, deny, acceptance.column(deny.key)), acceptance.column(store.id)
    if plainly_comparable(deny.key, deny.id) and unique_index(database, store.tokens, deny.key.name):
        columns = sql.SQL(
            "row_number() OVER (ORDER BY {issued} DESC NULLS LAST, {ends} DESC) AS ordinal, {key} AS key, {ends} AS ends,"
            " {id}::text AS id, 1::bigint AS tokens, {claims} AS claims, {cache_values} AS cache_values"
        ).format(key=key, id=token_id, **common)
        query = found.select(sql, columns, *pending)
    else:
        # The row of an id that stands more than once must last as long as the longest of its tokens.
        columns = sql.SQL(
            "{key} AS key, pg_catalog.max({issued}) AS issued, pg_catalog.max({ends}) AS ends, pg_catalog.min({id}::text) AS id,"
            " pg_catalog.count(*) AS tokens, pg_catalog.min({claims}) AS claims, (pg_catalog.array_agg({cache_values}))[1] AS cache_values"
        ).format(key=key, id=token_id, **common)
        grouped = found.select(sql, columns, *pending) + sql.SQL(" GROUP BY 1")
        query = sql.SQL(
            "SELECT row_number() OVER (ORDER BY issued DESC NULLS LAST, ends DESC) AS ordinal, key, ends, id, tokens, claims, cache_values"
            " FROM ({}) AS grouped"
        ).format(grouped)
    revoked_at = marks.value(database, deny.revoked_at, marking.mark) if deny.revoked_at else None
    mark = revoked_at if marks.is_unmistakable(deny.revoked_at) else None
    table, end = str(deny.relation.name), deny.expires_at.column if deny.expires_at else None
    column = deny.revoked_at.column.name if deny.revoked_at else deny.id.name
    denied = Change(store.name, table, DENIED, column, mark, key_columns(database, deny.relation, None))
    extended = Change(store.name, table, EXTENDED, end.name if end else "", None, key_columns(database, deny.relation, end))
    act = Denial(denied, extended, deny, revoked_at, marking.reason, marking.clock_skew, bool(marking.placeholders))
    return Target(TOKENS, deny.relation, DENIED, column, query, act)


def _common(database: Any, store: TokenStore, acceptance: Acceptance, marking: Marking) -> dict[str, Any]:
    sql, claims = database.sql, claims_column(store)
    return {
        "issued": acceptance.issued_at(),
        "ends": acceptance.ends_at(),
        "claims": sql.SQL("{}::text").format(acceptance.column(claims)) if claims else sql.SQL("NULL::text"),
        "cache_values": cache_values(database, store, acceptance, marking.placeholders),
    }


# What stands in a cache key for which column of a token.
_PLACES = {"user_id": "subject", "client_id": "client", "family": "family"}


def cache_values(database: Any, store: TokenStore, acceptance: Acceptance, placeholders: Sequence[str]) -> Any:
    """Return the expression for the values that a token puts into cache keys, as one JSON object; NULL where no cache asks for any."""
    sql = database.sql
    if not placeholders:
        return sql.SQL("NULL::jsonb")
    parts = []
    for name in placeholders:
        if name == "id":
            value = acceptance.column(store.id)
        elif name == "tenant_id":
            value = _tenant(database, store, acceptance)
        else:
            column = store.token_column(_PLACES[name])
            value = acceptance.column(column) if column else sql.SQL("NULL")
        parts.append(sql.SQL("{}::text, ({})::text").format(sql.Literal(name), value))
    return sql.SQL("pg_catalog.jsonb_build_object({})").format(sql.SQL(", ").join(parts))


def _tenant(database: Any, store: TokenStore, acceptance: Acceptance) -> Any:
    sql, column, through = database.sql, store.token_column("tenant"), store.written["tokens"].get("tenant_through")
    if column or not through:
        return acceptance.column(column) if column else sql.SQL("NULL")
    relation = store.related[parse_relation(through["table"])]
    return sql.SQL("SELECT tenants_.{tenant} FROM {table} AS tenants_ WHERE tenants_.{id} = {leads} LIMIT 1").format(
        tenant=sql.Identifier(through["tenant"]),
        table=relation.name.identifier(sql),
        id=sql.Identifier(through["id"]),
        leads=acceptance.column(store.tokens.column(through["column"])),
    )


def placeholders_of(options: Options) -> tuple[str, ...]:
    """Return the placeholders in the keys of the caches, without braces."""
    names = ("id", "user_id", "tenant_id", "client_id", "family")
    return tuple(name for name in names if any(f"{{{name}}}" in key for cache in options.caches for key in cache["keys"]))
