# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The claims of a token: a separated text, an array, or JSON; compared by whole keys."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._driver import array_literal
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import TokenStore

_ARRAYS = ("_text", "_varchar", "_bpchar")
_SPACE = "E' \\t\\r\\n'"


def claims_column(store: TokenStore) -> Column | None:
    """Return the column of claims, None where the store names none. Raises InvalidValue for a type that holds no list."""
    claims = store.written["tokens"].get("claims")
    if not claims:
        return None
    column = store.tokens.column(claims["column"])
    if column.category != "S" and column.base not in (*_ARRAYS, "json", "jsonb"):
        message = f"{store.path}.tokens.claims: {store.tokens.name}.{column.name} is of type {column.type}"
        raise InvalidValue(f"{message}; allowed: text with a separator, an array of texts, json or jsonb", object_name=store.path)
    return column


def keys(sql: Any, store: TokenStore, reference: Any) -> Any:
    """Return a query of one column, `key`: every claim key in `reference`, the store's column of claims. JSON gives the names or items."""
    column = claims_column(store)
    if column is None:
        raise AssertionError(f"{store.name} has no claims")
    if column.base in ("json", "jsonb"):
        form = (
            "SELECT pg_catalog.jsonb_object_keys(CASE pg_catalog.jsonb_typeof({ref}) WHEN 'object' THEN {ref} ELSE '{{}}' END) AS key"
            " UNION ALL"
            " SELECT pg_catalog.jsonb_array_elements_text(CASE pg_catalog.jsonb_typeof({ref}) WHEN 'array' THEN {ref} ELSE '[]' END)"
        )
        return sql.SQL(form).format(ref=sql.SQL("{}::jsonb").format(reference))
    if column.base in _ARRAYS:
        return sql.SQL("SELECT pg_catalog.unnest({}::text[]) AS key").format(reference)
    separator = sql.Literal(store.written["tokens"]["claims"]["separator"])
    form = "SELECT pg_catalog.btrim(part, {}) AS key FROM pg_catalog.unnest(pg_catalog.string_to_array({}::text, {})) AS part"
    return sql.SQL(form).format(sql.SQL(_SPACE), reference, separator)


def has_key(sql: Any, store: TokenStore, reference: Any, wanted: Sequence[str]) -> Any:
    """Return the condition under which one of the keys is, as a whole, one of `wanted`."""
    condition = sql.SQL("EXISTS (SELECT FROM ({}) AS claim_ WHERE claim_.key = ANY ({}::text[]))").format(
        keys(sql, store, reference), sql.Literal(array_literal(wanted))
    )
    return _where_it_may_be(sql, store, reference, [f"%{_escaped(key)}%" for key in wanted], condition)


def matches(sql: Any, store: TokenStore, reference: Any, pattern: str) -> Any:
    """Return the condition under which one of the keys matches `pattern`, in which `*` stands for anything and all else for itself."""
    like = as_like(pattern)
    condition = sql.SQL("EXISTS (SELECT FROM ({}) AS claim_ WHERE claim_.key LIKE {})").format(
        keys(sql, store, reference), sql.Literal(like)
    )
    return _where_it_may_be(sql, store, reference, [f"%{like}%"], condition)


def as_like(pattern: str) -> str:
    """Return `pattern` as LIKE understands it."""
    return "%".join(_escaped(part) for part in pattern.split("*"))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _where_it_may_be(sql: Any, store: TokenStore, reference: Any, likes: Sequence[str], condition: Any) -> Any:
    """Return `condition` behind a cheap one: most texts do not even contain the words, and taking them apart costs much more."""
    column = claims_column(store)
    if column is None or column.category != "S":
        return condition
    return sql.SQL("({}::text LIKE ANY ({}::text[]) AND {})").format(reference, sql.Literal(array_literal(likes)), condition)
