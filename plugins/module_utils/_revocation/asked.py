# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens to ask an introspection endpoint about: taken before they are revoked, because after that a row may be gone."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, TokenStore


def tokens_to_ask_about(database: Any, looks: list[Look], most: int) -> list[str]:
    """Return some of the tokens that will be revoked, as their clients present them; they go nowhere but to the endpoint."""
    sql, found = database.sql, []
    for look in looks:
        column = look.store.token_column("token")
        if column is None:
            continue
        query = sql.SQL(
            "SELECT {token}.{column} AS token FROM {table} AS {token} "
            " WHERE {token}.{id}::text IN (SELECT id FROM {stage} ORDER BY ordinal LIMIT {most})"
            " AND {token}.{column} IS NOT NULL LIMIT {most}"
        ).format(
            token=sql.Identifier(TOKEN),
            column=sql.Identifier(column.name),
            table=look.store.tokens.name.identifier(sql),
            id=sql.Identifier(look.store.id.name),
            stage=look.tokens.name,
            most=sql.Literal(most),
        )
        found += [str(row["token"]) for row in database.rows(query)]
    return found[:most]


def require_token_column(stores: Iterable[TokenStore]) -> None:
    """Refuse stores none of which says where the token itself stands. Raises InvalidValue."""
    if not any(store.token_column("token") for store in stores):
        raise InvalidValue(
            "introspection: none of the stores says in which column the token itself stands, so that nothing can be asked",
            object_name="introspection",
            hint="Add tokens.token to the system description, or leave introspection out.",
        )
