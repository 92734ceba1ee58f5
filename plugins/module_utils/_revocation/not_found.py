# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids that were given and that no store knows: whoever gave them thinks that they are revoked now."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._driver import array_literal
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection, TokenStore

_GIVEN, _KNOWN = "given_", "known_"


def count_not_found(database: Any, stores: Sequence[TokenStore], selection: Selection) -> int | None:
    """Return how many of the given ids neither have a token in any of `stores` nor are denied; None where no ids were given."""
    ids = selection.lists.get("ids")
    if not ids:
        return None
    sql = database.sql
    # Each a condition of its own: under one NOT the server would go through the whole table for every id.
    unknown = [_unknown(sql, store.id, store.tokens, store.id) for store in stores]
    unknown += [
        _unknown(sql, store.id, store.deny.relation, store.deny.id) for store in stores if store.deny and store.deny.key == store.id
    ]
    statement = sql.SQL("SELECT pg_catalog.count(*) FROM pg_catalog.unnest({}::text[]) AS {}(id) WHERE {}").format(
        sql.Literal(array_literal(ids)), sql.Identifier(_GIVEN), sql.SQL(" AND ").join(unknown)
    )
    return int(database.value(statement))


def _unknown(sql: Any, id_: Column, relation: Relation, column: Column) -> Any:
    """Return the condition under which no row of `relation` has the given id, which is one of the token column `id_`, in `column`."""
    given = sql.SQL("{}.id").format(sql.Identifier(_GIVEN))
    if id_.base and id_.category != "S":
        given = sql.SQL("{}::{}").format(given, sql.Identifier("pg_catalog", id_.base))
    same = same_id(sql, (column, sql.Identifier(_KNOWN, column.name)), (id_, given))
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(relation.name.identifier(sql), sql.Identifier(_KNOWN), same)
