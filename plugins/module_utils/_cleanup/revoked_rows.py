# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that are themselves what keeps a token revoked: a token's row with the mark of its revocation, a row that holds a limit.

Whether a token without a row is accepted is not known from a description. So a row that says "revoked" stays until its token has
expired, clock skew included, and for good where no expiry is known; a limit stays as long as it says anything at all.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.protection import require_columns
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, require
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Acceptance, TokenStore, resolve_stores

Stays = Callable[[str], Any]  # from the alias of a row to the condition (never NULL) under which it stays
_MARKED = ("timestamp", "flag")


def names_of(stores: Sequence[Mapping[str, Any]]) -> list[RelationName]:
    """Return the tables in which the stores keep such rows."""
    marked = [store["tokens"]["table"] for store in stores if store["revoke"]["how"] in _MARKED]
    return [parse_relation(table) for table in (*marked, *(limit["table"] for store in stores for limit in _limits(store)))]


def rows_that_stay(
    database: Any,
    stores: Sequence[Mapping[str, Any]],
    relation: Relation,
    relations: Mapping[RelationName, Relation],
    as_of: Instant,
    clock_skew: float,
    table_path: str,
) -> tuple[Stays, ...]:
    """Return the conditions under which rows of `relation` stay, one for each store or limit that has them there.

    `stores` are normalised, `relations` holds what `names_of` names, `table_path` is the option that names `relation`.
    Raises MissingObject, InvalidValue and DatabaseError.
    """
    found: list[Stays] = []
    for index, store in enumerate(stores):
        path = f"token_stores[{index}]"
        if store["revoke"]["how"] in _MARKED and relation.related(relations[parse_relation(store["tokens"]["table"])]):
            (resolved,) = resolve_stores(database, [_alone(store)])
            require_columns(relation, sorted(_columns(resolved)), store["name"], table_path)
            found.append(_marked(database, resolved, as_of, clock_skew))
        for number, limit in enumerate(_limits(store)):
            held = relations[parse_relation(limit["table"])]
            if relation.related(held):
                time = time_column(require(held), limit["column"], f"{path}.not_before[{number}].column")
                require_columns(relation, [time.column.name], store["name"], table_path)
                found.append(_limit(database, time))
    return tuple(found)


def _limits(store: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return store.get("not_before") or ()


def _alone(store: Mapping[str, Any]) -> dict[str, Any]:
    """Return a store without the tables around its tokens, which need not be readable for this."""
    tokens = {**store["tokens"], "tenant_through": None, "provider_through": None}
    return {**store, "tokens": tokens, "allowlist": None, "dependents": [], "not_before": []}


def _columns(store: TokenStore) -> set[str]:
    """Return the columns that the condition of `_marked` reads."""
    lasts = store.expires is None and (store.expires_in is not None or store.lifetime is not None)
    times = [store.revoked_at, store.expires, store.issued if lasts else None]
    columns = [store.flag, store.expires_in if lasts else None, *(time.column for time in times if time)]
    return {*(store.written["tokens"].get("where") or {}), *(column.name for column in columns if column)}


def _marked(database: Any, store: TokenStore, as_of: Instant, clock_skew: float) -> Stays:
    def stays(row: str) -> Any:
        accepted = Acceptance(database, store, as_of, clock_skew, row)
        parts = [accepted.is_token(), accepted.revoked_by_itself(), accepted.alive()]
        return database.sql.SQL("(({}) IS TRUE)").format(database.sql.SQL(" AND ").join(parts))

    return stays


def _limit(database: Any, time: TimeColumn) -> Stays:
    def stays(row: str) -> Any:
        column = database.sql.Identifier(row, time.column.name)
        if time.kind == "epoch":
            return database.sql.SQL("(coalesce({}, 0) OPERATOR(pg_catalog.<>) 0)").format(column)
        return database.sql.SQL("({} IS NOT NULL)").format(column)

    return stays
