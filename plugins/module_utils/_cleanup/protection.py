# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a revoked token revoked: which deny rows and which token rows may not go yet, whatever a rule says.

A deny row may go when its token can no longer be accepted: its own expiry and that of every token row with its id have
passed, clock skew included. NULL and infinity never pass. Without any known expiry it stays for good.

A token row is needed while a deny row has no own expiry, or one that ends before the token does: when the token row were
gone, nothing would say any more how long to deny.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import denied_column, plainly_comparable, require_comparable, same_id
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Acceptance, TokenStore, resolve_stores


@dataclass(frozen=True)
class Store:
    """A token store with a deny list. `deny_expires` and `token_expires` are None where the rows do not say it.

    `past_deny` and `past_token` are the constants below which those times have passed, clock skew included. `lasting` is the store where
    its tokens end some time after their issue, `past` the instant that those constants are made of.
    """

    name: str
    deny: Relation
    deny_id: Column
    deny_expires: TimeColumn | None
    past_deny: Any
    tokens: Relation
    token_id: Column
    token_expires: TimeColumn | None
    past_token: Any
    past: _instant.Instant
    lasting: TokenStore | None = None

    @property
    def ends_known(self) -> bool:
        """True if the token rows say when their tokens end."""
        return bool(self.token_expires or self.lasting)

    @property
    def end_columns(self) -> set[str]:
        """Return the columns that say when a token ends."""
        if self.lasting:
            issued, seconds = self.lasting.issued, self.lasting.expires_in
            return {*([issued.column.name] if issued else []), *([seconds.name] if seconds else [])}
        return {self.token_expires.column.name} if self.token_expires else set()

    @property
    def deny_columns(self) -> list[str]:
        """Return the columns that say whether a deny row may go."""
        return [self.deny_id.name, *([self.deny_expires.column.name] if self.deny_expires else [])]

    @property
    def token_columns(self) -> list[str]:
        """Return the columns that say whether a deny row needs a token row: without an expiry of its own, whatever the token's."""
        return [self.token_id.name, *(sorted(self.end_columns) if self.deny_expires else [])]

    @property
    def denies_by_index(self) -> bool:
        """True if an index finds the deny rows of a token."""
        return self.deny_id.indexed and plainly_comparable(self.deny_id, self.token_id)

    @property
    def tokens_by_index(self) -> bool:
        """True if an index finds the token rows of a deny row."""
        return self.token_id.indexed and plainly_comparable(self.deny_id, self.token_id)


def names_of(stores: Sequence[Mapping[str, Any]]) -> list[RelationName]:
    """Return the relations that the stores with a deny list name."""
    listed = [store for store in stores if has_deny_list(store)]
    return [parse_relation(store[part]["table"]) for store in listed for part in ("revoke", "tokens")]


def has_deny_list(store: Mapping[str, Any]) -> bool:
    """True if the store revokes a token by a row in a table of denied ids."""
    return bool(store["revoke"]["how"] == "denylist")


def resolve(database: Any, store: Mapping[str, Any], path: str, deny: Relation, tokens: Relation, past: _instant.Instant) -> Store:
    """Return a store of the description with its columns looked up. `past` is the server's clock less the skew.

    Raises MissingObject and InvalidValue, with paths below `path`.
    """
    deny_expires = _time(deny, store["revoke"].get("expires_at"), f"{path}.revoke.expires_at")
    token_expires = _time(tokens, store["tokens"].get("expires_at"), f"{path}.tokens.expires_at")
    resolved = Store(
        store["name"],
        deny,
        deny.column(store["revoke"]["id"]),
        deny_expires,
        deny_expires and _instant.constant(database, deny_expires, past),
        tokens,
        tokens.column(denied_column(store)),
        token_expires,
        token_expires and _instant.constant(database, token_expires, past),
        past,
        _lasting(database, store),
    )
    require_comparable((deny, resolved.deny_id), (tokens, resolved.token_id), path)
    return resolved


def require_columns(relation: Relation, columns: Iterable[str], store: str, path: str) -> None:
    """Refuse to remove rows of `relation` where it lacks one of the columns by which `store` tells which of them have to stay.

    It is a parent of the table that the store names, or of a child of that table. Raises MissingObject; `path` is the option that names it.
    """
    for column in columns:
        if column not in (relation.columns or {}):
            lacks = f"{relation.kind_name} {relation.name} has no column {column!r}"
            message = f"{path}: {lacks}, which tells what rows below it the token store {store!r} still needs"
            hint = "Name the table that the store names, or one below it."
            raise MissingObject(message, object_name=str(relation.name), hint=hint)


def may_be_forgotten(database: Any, stores: Sequence[Store], row: str, *, probe: bool = False) -> Any:
    """Return the condition under which the deny row with the alias `row` may go. `stores` are all that use its table.

    `probe` has the token rows looked up one by one where an index finds them: best for a few rows, a join is for many.
    """
    sql = database.sql
    own = [
        sql.SQL("{} OPERATOR(pg_catalog.<) {}").format(sql.Identifier(row, s.deny_expires.column.name), s.past_deny)
        for s in stores
        if s.deny_expires
    ]
    dead = [_no_live_token(database, store, row, probe) for store in stores]
    if own:
        return sql.SQL(" AND ").join(own + dead)
    known = [_token_exists(database, store, row, probe) for store in stores if store.ends_known]
    if not known:
        return sql.SQL("false")
    return sql.SQL(" AND ").join([sql.SQL("({})").format(sql.SQL(" OR ").join(known)), *dead])


def is_needed(database: Any, store: Store, row: str, gone: Any = None, *, probe: bool = False) -> Any:
    """Return the condition under which a deny row still needs the token row with the alias `row`.

    `gone(alias)`, where given, is the condition under which this run will have removed a deny row before; `probe` as above.
    """
    sql = database.sql
    deny = row + "_deny"
    parts = [_same_id(database, store, deny, row)]
    if store.deny_expires is None:
        removed = gone(deny) if gone else None
        if removed is not None:
            parts.append(sql.SQL("({}) IS NOT TRUE").format(removed))
        return _exists(database, store.deny, deny, parts, probe and store.denies_by_index)
    parts.append(sql.SQL("({})").format(sql.SQL(" OR ").join(_falls_short(database, store, deny, row))))
    looked_up = _exists(database, store.deny, deny, parts, probe and store.denies_by_index)
    return sql.SQL("({} AND {})").format(_may_be_needed(database, store, row), looked_up) if probe else looked_up


def _may_be_needed(database: Any, store: Store, row: str) -> Any:
    """Return a condition that is false only where no deny row can need the token row, so that most rows need no look-up of their own.

    The server asks once in a statement whether any deny row lacks an expiry.
    """
    sql = database.sql
    if store.ends_known and not store.deny_expires.column.nullable:  # type: ignore[union-attr]
        return _alive(database, store, row)
    endless = row + "_endless"
    lacking = sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {} IS NULL)").format(
        store.deny.name.identifier(sql),
        sql.Identifier(endless),
        sql.Identifier(endless, store.deny_expires.column.name),  # type: ignore[union-attr]
    )
    return sql.SQL("({} OR {})").format(_alive(database, store, row), lacking) if store.ends_known else lacking


def _alive(database: Any, store: Store, row: str) -> Any:
    sql = database.sql
    if store.lasting:
        return Acceptance(database, store.lasting, store.past, 0.0, row).alive()
    expires = sql.Identifier(row, store.token_expires.column.name)  # type: ignore[union-attr]
    return sql.SQL("({} OPERATOR(pg_catalog.<) {}) IS NOT TRUE").format(expires, store.past_token)


def _end(database: Any, store: Store, row: str) -> Any:
    if store.lasting:
        return Acceptance(database, store.lasting, store.past, 0.0, row).ends_at()
    time: TimeColumn = store.token_expires  # type: ignore[assignment]
    return _instant.end_of(database, time, database.sql.Identifier(row, time.column.name))


def _falls_short(database: Any, store: Store, deny: str, row: str) -> list[Any]:
    """Return the cases in which the deny row's own expiry does not cover the token: it has none, or ends before a live token."""
    sql = database.sql
    own_time = store.deny_expires
    own = sql.Identifier(deny, own_time.column.name)  # type: ignore[union-attr]
    cases = [sql.SQL("{} IS NULL").format(own)]
    if store.ends_known:
        alive = _alive(database, store, row)
        shorter = sql.SQL("{own_end} OPERATOR(pg_catalog.<) {token_end}").format(
            own_end=_instant.end_of(database, own_time, own),  # type: ignore[arg-type]
            token_end=_end(database, store, row),
        )
        cases.append(sql.SQL("({} AND {})").format(alive, shorter))
    return cases


def _no_live_token(database: Any, store: Store, row: str, probe: bool) -> Any:
    sql = database.sql
    if not store.ends_known:
        # Without either expiry, a token that is there never ends. That of the deny row may be known to another store with the same table.
        return sql.SQL("true") if store.deny_expires else sql.SQL("NOT {}").format(_token_exists(database, store, row, probe))
    token = row + "_token"
    return sql.SQL("NOT {}").format(_token_exists(database, store, row, probe, _alive(database, store, token)))


def _token_exists(database: Any, store: Store, row: str, probe: bool, *conditions: Any) -> Any:
    token = row + "_token"
    parts = [_same_id(database, store, row, token), *conditions]
    return _exists(database, store.tokens, token, parts, probe and store.tokens_by_index)


def _exists(database: Any, relation: Relation, alias: str, parts: Sequence[Any], probe: bool) -> Any:
    """Return the EXISTS over `relation`; with `probe` in a form that the server does not turn into a join.

    Under a LIMIT it would take a join in the order of both indexes, and read what earlier batches removed again in each batch.
    """
    sql = database.sql
    return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {}{})").format(
        relation.name.identifier(sql), sql.Identifier(alias), sql.SQL(" AND ").join(parts), sql.SQL(" OFFSET 0" if probe else "")
    )


def _same_id(database: Any, store: Store, deny: str, token: str) -> Any:
    """Return the condition under which the rows with the aliases `deny` and `token` have the same id."""
    sql = database.sql
    sides = [sql.Identifier(deny, store.deny_id.name), sql.Identifier(token, store.token_id.name)]
    return same_id(sql, (store.deny_id, sides[0]), (store.token_id, sides[1]))


def _lasting(database: Any, store: Mapping[str, Any]) -> TokenStore | None:
    """Return the store where its tokens end some time after their issue, with nothing but what that takes."""
    tokens = store["tokens"]
    if not tokens.get("expires_in") and tokens.get("lifetime_seconds") is None:
        return None
    needed = {key: tokens.get(key) for key in ("table", "id", "issued_at", "expires_in", "lifetime_seconds")}
    return resolve_stores(database, [{"name": store["name"], "tokens": needed, "revoke": {"how": "delete"}}])[0]


def _time(relation: Relation, written: Mapping[str, Any] | None, path: str) -> TimeColumn | None:
    return time_column(relation, written, path) if written else None
