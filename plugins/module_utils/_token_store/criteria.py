# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A selection as a condition on one store's tokens. What a store cannot answer is refused, never left out."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._driver import array_literal
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import plainly_comparable
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import claims
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.acceptance import TOKEN
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.selection import Selection
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import COLUMNS, THROUGH, TokenStore

_THROUGH = "through_"
_GIVEN = "given_"
_NETWORKS = ("inet", "cidr")
_TEXTS = "S"  # the category of texts, of others' types too (citext)
_MANY = 100  # values; more than this many are joined, because servers before PostgreSQL 14 go through an array for every row


def condition(database: Any, store: TokenStore, selection: Selection) -> Any:
    """Return the condition under which the token with the alias `TOKEN` is selected.

    Raises InvalidValue, which names the criterion and the store, for a criterion that the store has no column for and for a
    value that is none of the column's type.
    """
    sql = database.sql
    parts = [_CRITERIA[name](database, store, selection) for name in _CRITERIA if selection.has(name)]
    return sql.SQL(" AND ").join(sql.SQL("({})").format(part) for part in parts) if parts else sql.SQL("true")


def values_condition(database: Any, relation: Relation, column: Column, reference: Any, values: Sequence[str], criterion: str) -> Any:
    """Return the condition under which `reference`, a column, has one of `values`; an address has it when its network contains it.

    Raises InvalidValue for a value that is none of the column's type.
    """
    sql = database.sql
    listed = sql.Literal(array_literal(values))
    if column.category != _TEXTS:
        _require_values(database, relation, column, values, criterion)
    if column.base in _NETWORKS:
        return sql.SQL("{} OPERATOR(pg_catalog.<<=) ANY ({}::inet[])").format(reference, listed)
    if column.category == _TEXTS and not column.base:
        # No schema but the server's own is searched, and so the comparison would be the server's, which goes by case.
        lowered = "{} IN (SELECT pg_catalog.lower({}.value) FROM pg_catalog.unnest({}::text[]) AS {}(value))"
        given = sql.Identifier(_GIVEN)
        return sql.SQL(lowered).format(_lowered(sql, reference), given, listed, given)
    if column.base and len(values) > _MANY:
        typed = sql.SQL("{}::{}[]").format(listed, sql.Identifier("pg_catalog", "text" if column.category == _TEXTS else column.base))
        return sql.SQL("{} IN (SELECT pg_catalog.unnest({}))").format(reference, typed)
    return sql.SQL("{} = ANY ({})").format(reference, listed)


def through_query(database: Any, store: TokenStore, criterion: str, values: Sequence[str]) -> tuple[Column, Any] | None:
    """Return the token column that leads to another table and the query of its values with one of `values` there.

    None where the store knows the criterion (a key of THROUGH) by a column of its own, or not at all.
    """
    written = store.written["tokens"].get(f"{THROUGH[criterion]}_through")
    if not written:
        return None
    sql = database.sql
    relation = store.related[parse_relation(written["table"])]
    leads, key, value = store.tokens.column(written["column"]), relation.column(written["id"]), relation.column(written[THROUGH[criterion]])
    query = sql.SQL("SELECT {key} FROM {table} AS {alias} WHERE {has}").format(
        key=sql.Identifier(_THROUGH, key.name),
        table=relation.name.identifier(sql),
        alias=sql.Identifier(_THROUGH),
        has=values_condition(database, relation, value, sql.Identifier(_THROUGH, value.name), values, criterion),
    )
    return leads, query


def _window_start(database: Any, store: TokenStore, selection: Selection) -> Any:
    time = _issued(store, "issued_from")
    # Over-inclusive where the column is coarser than the window: nothing may slip through.
    start = _instant.constant(database, time, selection.issued_from)  # type: ignore[arg-type]
    return database.sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(database.sql.Identifier(TOKEN, time.column.name), start)


def _window_end(database: Any, store: TokenStore, selection: Selection) -> Any:
    time = _issued(store, "issued_to")
    end = _instant.limit(database, time, selection.issued_to)  # type: ignore[arg-type]
    return database.sql.SQL("{} OPERATOR(pg_catalog.<) {}").format(database.sql.Identifier(TOKEN, time.column.name), end)


def _issued(store: TokenStore, criterion: str) -> Any:
    if store.issued is None:
        raise _not_known(store, criterion, "issued_at")
    return store.issued


def _ids(database: Any, store: TokenStore, selection: Selection) -> Any:
    reference = database.sql.Identifier(TOKEN, store.id.name)
    return values_condition(database, store.tokens, store.id, reference, selection.lists["ids"], "ids")


def _column(criterion: str) -> Callable[[Any, TokenStore, Selection], Any]:
    def written(database: Any, store: TokenStore, selection: Selection) -> Any:
        column = store.token_column(COLUMNS[criterion])
        if column is None:
            raise _not_known(store, criterion, COLUMNS[criterion])
        reference = database.sql.Identifier(TOKEN, column.name)
        return values_condition(database, store.tokens, column, reference, selection.lists[criterion], criterion)

    return written


def _families(database: Any, store: TokenStore, selection: Selection) -> Any:
    """The first token of a chain has no family in some stores: the others know it by that token's id."""
    family = _column("families")(database, store, selection)
    column = store.token_column("family")
    if column is None or not (plainly_comparable(column, store.id) or column.type == store.id.type):
        return family
    sql, reference = database.sql, database.sql.Identifier(TOKEN, store.id.name)
    first = values_condition(database, store.tokens, store.id, reference, selection.lists["families"], "families")
    return sql.SQL("{} OR ({} IS NULL AND {})").format(family, sql.Identifier(TOKEN, column.name), first)


def _scopes(database: Any, store: TokenStore, selection: Selection) -> Any:
    column = store.token_column("scope")
    if column is None:
        raise _not_known(store, "scopes", "scope")
    sql, reference = database.sql, database.sql.Identifier(TOKEN, column.name)
    wanted = sql.SQL("{}::text[]").format(sql.Literal(array_literal(selection.lists["scopes"])))
    if column.base in ("json", "jsonb"):
        return sql.SQL("{}::jsonb OPERATOR(pg_catalog.?|) {}").format(reference, wanted)
    form = "{}::text[]" if column.category == "A" else "pg_catalog.regexp_split_to_array({}::text, '[ ,]+')"
    return sql.SQL("{} OPERATOR(pg_catalog.&&) {}").format(sql.SQL(form).format(reference), wanted)


def _through(criterion: str) -> Callable[[Any, TokenStore, Selection], Any]:
    def written(database: Any, store: TokenStore, selection: Selection) -> Any:
        sql, values = database.sql, selection.lists[criterion]
        column = store.token_column(THROUGH[criterion])
        if column is not None:
            return values_condition(database, store.tokens, column, sql.Identifier(TOKEN, column.name), values, criterion)
        found = through_query(database, store, criterion, values)
        if found is None:
            raise _not_known(store, criterion, THROUGH[criterion])
        reference = sql.Identifier(TOKEN, found[0].name)
        if found[0].category != _TEXTS or found[0].base:
            return sql.SQL("{} IN ({})").format(reference, found[1])
        lowered = "{} IN (SELECT {} FROM ({}) AS {}(value))"
        key, alias = sql.Identifier(_GIVEN, "value"), sql.Identifier(_GIVEN)
        return sql.SQL(lowered).format(_lowered(sql, reference), _lowered(sql, key), found[1], alias)

    return written


def _claims(database: Any, store: TokenStore, selection: Selection) -> Any:
    return claims.has_key(database.sql, store, _claims_reference(database, store, "claims"), selection.lists["claims"])


def _claim_pattern(database: Any, store: TokenStore, selection: Selection) -> Any:
    reference = _claims_reference(database, store, "claim_pattern")
    return claims.matches(database.sql, store, reference, selection.claim_pattern or "")


def _claims_reference(database: Any, store: TokenStore, criterion: str) -> Any:
    column = claims.claims_column(store)
    if column is None:
        raise _not_known(store, criterion, "claims")
    return database.sql.Identifier(TOKEN, column.name)


_CRITERIA: Mapping[str, Callable[[Any, TokenStore, Selection], Any]] = {
    "issued_from": _window_start,
    "issued_to": _window_end,
    "ids": _ids,
    **{name: _column(name) for name in COLUMNS if name not in ("scopes", "families")},
    "families": _families,
    "scopes": _scopes,
    **{name: _through(name) for name in THROUGH},
    "claims": _claims,
    "claim_pattern": _claim_pattern,
}


def _lowered(sql: Any, reference: Any) -> Any:
    return sql.SQL("pg_catalog.lower({}::text)").format(reference)


def _not_known(store: TokenStore, criterion: str, key: str) -> InvalidValue:
    return InvalidValue(
        f"select.{criterion}: store {store.name!r} does not say in which column: its tokens name no {key}",
        object_name=store.name,
        hint=f"Name with stores those that know it, or add tokens.{key} to the system description.",
    )


def _require_values(database: Any, relation: Relation, column: Column, values: Sequence[str], criterion: str) -> None:
    sql = database.sql
    listed = sql.Literal(array_literal(values))
    if column.base in _NETWORKS:
        statement = sql.SQL("SELECT pg_catalog.cardinality({}::inet[])").format(listed)
    else:
        # Reads no row: the values become those of the column's type, whoever's that is, when the statement is understood.
        statement = sql.SQL("SELECT pg_catalog.count(*) FROM {} AS {} WHERE false AND {} = ANY ({})").format(
            relation.name.identifier(sql), sql.Identifier(_GIVEN), sql.Identifier(_GIVEN, column.name), listed
        )
    try:
        database.value(statement)
    except DatabaseError as error:
        if not (error.sqlstate or "").startswith("22"):
            raise
        message = f"select.{criterion}: {error.message}; {relation.name}.{column.name} is of type {column.type}"
        raise InvalidValue(message, object_name=f"select.{criterion}", sqlstate=error.sqlstate) from None
