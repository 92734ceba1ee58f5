# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tokens are accepted: not expired (clock skew included), and not revoked in the store's own way."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import LARGEST_INT4, TimeColumn, within_range
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.belonging import belongs
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import Limit, TokenStore

TOKEN = "token_"  # the alias of the table of tokens where nothing else is said
_DENY, _LIMIT = "deny_", "limit_"
_LONGEST = 3_000_000_000  # seconds, 95 years: who writes more means for ever
_LARGEST = {"int4": LARGEST_INT4, "int8": 9_223_372_036_854_775_807}


class Acceptance:
    """The conditions and expressions of one store at one instant; all are about the row of tokens with the alias `row`."""

    def __init__(self, database: Any, store: TokenStore, as_of: Instant, clock_skew: float, row: str = TOKEN) -> None:
        """`as_of` is the server's clock, `clock_skew` in seconds: for so long after its expiry a token may still be accepted."""
        self.database, self.store, self.sql, self.row = database, store, database.sql, row
        self._past = as_of.before(clock_skew)

    def column(self, column: Column) -> Any:
        """Return the reference to a token column."""
        return self.sql.Identifier(self.row, column.name)

    def is_token(self) -> Any:
        """Return the condition under which the row belongs to the store at all."""
        return belongs(self.sql, self.store.written["tokens"], self.row)

    def alive(self) -> Any:
        """Return the condition under which the token has not expired, clock skew included; a token without an expiry never has."""
        store, sql = self.store, self.sql
        if store.expires:
            limit = _instant.constant(self.database, store.expires, self._past)
            column = self.column(store.expires.column)
            # Written so that an index on the column serves where it can.
            alive = sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(column, limit)
            return alive if not store.expires.column.nullable else sql.SQL("({} OR {} IS NULL)").format(alive, column)
        if store.expires_in or store.lifetime is not None:
            return sql.SQL("({} OPERATOR(pg_catalog.<) {}::timestamptz) IS NOT TRUE").format(self.ends_at(), sql.Literal(str(self._past)))
        return sql.SQL("true")

    def issued_at(self) -> Any:
        """Return the expression for the instant of issue (timestamptz), NULL where it is not known."""
        return (
            _instant.start_of(self.database, self.store.issued, self.column(self.store.issued.column))
            if self.store.issued
            else _null(self.sql)
        )

    def ends_at(self) -> Any:
        """Return the expression for the instant (timestamptz) from which the token has expired; infinity for never."""
        store, sql = self.store, self.sql
        if store.expires:
            return _instant.end_of(self.database, store.expires, self.column(store.expires.column))
        if store.expires_in:
            seconds = self.column(store.expires_in)
        elif store.lifetime is not None:
            seconds = sql.Literal(store.lifetime)
        else:
            return sql.SQL("'infinity'::timestamptz")
        issued = _instant.end_of(self.database, store.issued, self.column(store.issued.column))  # type: ignore[arg-type, union-attr]
        # Drawn near, so that an absurd number of seconds is no interval out of range; one below 0 is over all the same.
        life = sql.SQL("pg_catalog.make_interval(secs => {})").format(within_range(sql, seconds, "s"))
        return sql.SQL("CASE WHEN {} OPERATOR(pg_catalog.<=) {} THEN {} + {} ELSE 'infinity'::timestamptz END").format(
            seconds, sql.Literal(_LONGEST), issued, life
        )

    def revoked(self) -> Any:
        """Return the condition (never NULL) under which the application refuses the token although it has not expired."""
        own, limits = self.revoked_by_itself(), [self._before(limit) for limit in self.store.limits]
        # Alone, it is what the server turns into a join.
        return self.sql.SQL("({})").format(self.sql.SQL(" OR ").join([own, *limits])) if limits else own

    def accepted(self) -> Any:
        """Return the condition under which the application accepts the token."""
        parts = [self.is_token(), self.alive(), self.sql.SQL("NOT {}").format(self.revoked())]
        return self.sql.SQL(" AND ").join(parts)

    def denied(self, *, for_its_whole_life: bool) -> Any:
        """Return the condition under which the deny list has the token's id; `for_its_whole_life` asks for a row that lasts long enough."""
        deny, sql = self.store.deny, self.sql
        if deny is None:
            return sql.SQL("false")
        parts = [same_id(sql, (deny.id, sql.Identifier(_DENY, deny.id.name)), (deny.key, self.column(deny.key)))]
        if for_its_whole_life and deny.expires_at:
            parts.append(self._lasts(deny.expires_at))
        return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(
            deny.relation.name.identifier(sql), sql.Identifier(_DENY), sql.SQL(" AND ").join(parts)
        )

    def _lasts(self, deny_time: TimeColumn) -> Any:
        """Return the condition under which a deny row outlives the token: when it expires the clean-up may remove it."""
        sql, store = self.sql, self.store
        own = sql.Identifier(_DENY, deny_time.column.name)
        if store.expires and _alike(deny_time, store.expires):
            # The columns themselves are compared: millions of them, and the expressions below cost more than the rest of the search.
            token = self.column(store.expires.column)
            if store.expires.column.nullable:
                token = sql.SQL("coalesce({}, {})").format(token, never(sql, deny_time))
            form = (
                "({own} IS NULL OR {own} OPERATOR(pg_catalog.>=) {token})"
                if deny_time.column.nullable
                else "{own} OPERATOR(pg_catalog.>=) {token}"
            )
            return sql.SQL(form).format(own=own, token=token)
        return sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(_instant.end_of(self.database, deny_time, own), self.ends_at())

    def revoked_by_itself(self) -> Any:
        """Return the condition (never NULL) under which this very token is revoked, whatever limit it may have been issued before."""
        store, sql = self.store, self.sql
        if store.deny:
            return self.denied(for_its_whole_life=True)
        if store.revoked_at:
            return sql.SQL("({} IS NOT NULL)").format(self.column(store.revoked_at.column))
        if store.flag:
            word = sql.SQL("true" if store.written["revoke"]["revoked_when"] else "false")
            return sql.SQL("({} IS NOT DISTINCT FROM {})").format(self.column(store.flag), word)
        return sql.SQL("false")

    def _before(self, limit: Limit) -> Any:
        """Return the condition under which the token was issued before a limit. Times of issue are whole seconds in tokens.

        What was renewed since was issued anew.
        """
        sql, renewed = self.sql, self.store.renewed
        issued = self.issued_at()
        if renewed:
            issued = sql.SQL("greatest({}, {})").format(issued, _instant.start_of(self.database, renewed, self.column(renewed.column)))
        parts = [
            sql.SQL("pg_catalog.date_trunc('second', {}) OPERATOR(pg_catalog.<) {}").format(
                issued, _instant.start_of(self.database, limit.column, sql.Identifier(_LIMIT, limit.column.column.name))
            )
        ]
        if limit.id:
            key = self.store.token_column(limit.by)
            parts.append(same_id(sql, (limit.id, sql.Identifier(_LIMIT, limit.id.name)), (key, self.column(key))))  # type: ignore[arg-type]
        return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(
            limit.relation.name.identifier(sql), sql.Identifier(_LIMIT), sql.SQL(" AND ").join(parts)
        )


def never(sql: Any, time: TimeColumn) -> Any:
    """Return the constant of a time column's own type that never passes."""
    if time.kind == "epoch":
        return sql.Literal(_LARGEST[time.column.base])
    return sql.SQL("'infinity'::{}").format(sql.SQL({"instant": "timestamptz", "wall": "timestamp", "date": "date"}[time.kind]))


def _alike(one: TimeColumn, other: TimeColumn) -> bool:
    """Return whether equal values mean the same: an integer of four bytes has another largest one, which means never."""
    return (one.kind, one.column.base, one.time_zone, one.unit) == (other.kind, other.column.base, other.time_zone, other.unit)


def _null(sql: Any) -> Any:
    return sql.SQL("NULL::timestamptz")
