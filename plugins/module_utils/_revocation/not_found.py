# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids that were given and that no store knows: whoever gave them thinks that they are revoked now."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._driver import array_literal
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection, TokenStore

_GIVEN = "given_"


def count_not_found(database: Any, stores: Sequence[TokenStore], selection: Selection) -> int | None:
    """Return how many of the given ids neither have a token in any of `stores` nor are denied; None where no ids were given."""
    ids = selection.lists.get("ids")
    if not ids:
        return None
    sql = database.sql
    known = [_exists(sql, store.tokens, store.id) for store in stores]
    known += [_exists(sql, store.deny.relation, store.deny.id) for store in stores if store.deny and store.deny.key == store.id]
    statement = sql.SQL("SELECT pg_catalog.count(*) FROM pg_catalog.unnest({}::text[]) AS {}(id) WHERE NOT ({})").format(
        sql.Literal(array_literal(ids)), sql.Identifier(_GIVEN), sql.SQL(" OR ").join(known)
    )
    return int(database.value(statement))


def _exists(sql: Any, relation: Relation, column: Column) -> Any:
    given, here = sql.SQL("{}.id").format(sql.Identifier(_GIVEN)), sql.Identifier("known_", column.name)
    if column.base and column.category != "S":
        given = sql.SQL("{}::{}").format(given, sql.Identifier("pg_catalog", column.base))
    elif not column.base:
        here = sql.SQL("{}::text").format(here)
    return sql.SQL("EXISTS (SELECT FROM {} AS known_ WHERE {} = {})").format(relation.name.identifier(sql), here, given)
