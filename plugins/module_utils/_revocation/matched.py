# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tokens that a selection means, with everything that was renewed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import plain_uuid
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, Acceptance, Selection, TokenStore, condition

FOLLOWED_FROM = "pgops_followed_from"
_CHAIN = "chain_"


@dataclass(frozen=True)
class Matched:
    """The selected tokens of one store. `source` and `where` go behind FROM and WHERE of a statement that begins with `with_`.

    `remembered` is a table of those that the run has deleted, None where there is none. `chain` names the query in `with_` that
    found them step by step, None where there is none.
    """

    with_: Any
    source: Any
    where: Any
    remembered: Any = None
    chain: Any = None

    def select(self, sql: Any, columns: Any, *conditions: Any) -> Any:
        """Return the query of `columns` of the selected tokens that fulfil `conditions` too."""
        parts = [self.where, *(sql.SQL("({})").format(one) for one in conditions)]
        return sql.SQL("{}SELECT {} FROM {} WHERE {}").format(self.with_, columns, self.source, sql.SQL(" AND ").join(parts))

    def to_remember(self, sql: Any, columns: Any) -> Any:
        """Return the query of `columns` of the selected tokens, and the instant from which they are followed; NULL for any time."""
        if self.chain is None:
            return self.select(sql, sql.SQL("{}, NULL::timestamptz").format(columns))
        return sql.SQL(
            "{with_}SELECT {columns}, reached_.issued FROM {source}"
            " JOIN (SELECT relid, place, CASE WHEN pg_catalog.bool_and(issued IS NOT NULL) THEN pg_catalog.min(issued) END AS issued"
            " FROM {chain} GROUP BY relid, place) AS reached_"
            " ON reached_.relid = {token}.tableoid AND reached_.place = {token}.ctid"
        ).format(with_=self.with_, columns=columns, source=self.source, chain=self.chain, token=sql.Identifier(TOKEN))

    def values(self, sql: Any, column: Column) -> Any:
        """Return the query of what the selected tokens hold in `column`, also those that the run has deleted."""
        reference = sql.Identifier(TOKEN, column.name)
        query = self.select(sql, reference)
        if self.remembered is None:
            return query
        return sql.SQL("{} UNION ALL SELECT {} FROM {} AS {}").format(query, reference, self.remembered, sql.Identifier(TOKEN))


def matched(
    database: Any, store: TokenStore, acceptance: Acceptance, selection: Selection, bound: Any = None, remembered: Any = None
) -> Matched:
    """Return the tokens that `selection` means; `bound` is a further condition on those it means itself, not on their successors.

    A successor was renewed from a selected token (`renewed_from`), or belongs to its `family` and was not issued before it. Also
    expired and revoked tokens lead to theirs: renewing is what ends them. Those in `remembered`, a table, lead to theirs too.
    Raises InvalidValue for a criterion that the store cannot answer.
    """
    sql = database.sql
    source = sql.SQL("{} AS {}").format(store.tokens.name.identifier(sql), sql.Identifier(TOKEN))
    parts = [acceptance.is_token(), condition(database, store, selection), *([bound] if bound is not None else [])]
    where = sql.SQL("({})").format(sql.SQL(" AND ").join(parts))
    family, renewed = store.token_column("family"), store.token_column("renewed_from")
    if selection.all or not (family or renewed):
        return Matched(sql.SQL(""), source, where, remembered)
    chain = _chain(database, store, acceptance, source, where, remembered)
    inside = sql.SQL("({token}.tableoid, {token}.ctid) IN (SELECT relid, place FROM {chain})").format(
        token=sql.Identifier(TOKEN), chain=sql.Identifier(_CHAIN)
    )
    return Matched(chain, source, inside, remembered, sql.Identifier(_CHAIN))


def _chain(database: Any, store: TokenStore, acceptance: Acceptance, source: Any, where: Any, remembered: Any) -> Any:
    """Return the recursive query of the places of all selected tokens and their successors. A place means a row within one snapshot."""
    sql, chain = database.sql, database.sql.Identifier(_CHAIN)
    family, renewed = store.token_column("family"), store.token_column("renewed_from")
    issued = acceptance.issued_at()
    columns = sql.SQL("{token}.tableoid AS relid, {token}.ctid AS place, {id} AS id, {family} AS family").format(
        token=sql.Identifier(TOKEN),
        id=sql.SQL("{}::text").format(acceptance.column(store.id)),
        family=_as_link(sql, family, store.id, acceptance.column(family)) if family else sql.SQL("NULL::text"),
    )
    # One row for each way in which a token says what it follows, met with one row for each way in which it can be followed.
    follows, followed, followed_by = [], [], chain
    if renewed:
        follows.append(sql.SQL("(1, {})").format(_as_link(sql, renewed, store.id, acceptance.column(renewed))))
        followed.append(sql.SQL("(1, {})").format(_as_link(sql, store.id, renewed, sql.Identifier(_CHAIN, "id"))))
    if family:
        follows.append(sql.SQL("(2, {})").format(_as_link(sql, family, store.id, acceptance.column(family))))
        # The first token of a chain may have no family: its id is that of the others.
        first = _as_link(sql, store.id, family, sql.Identifier(_CHAIN, "id"))
        first = sql.SQL("coalesce({}.family, {})").format(chain, first)
        # Of what a step has found in one family, the first leads to all that the others lead to: one row for each, not for each two.
        followed.append(sql.SQL("(2, CASE WHEN {}.nth = 1 THEN {} END)").format(chain, first))
        followed_by = sql.SQL(
            '(SELECT {chain}.*, pg_catalog.row_number() OVER (PARTITION BY {first} COLLATE pg_catalog."C"'
            " ORDER BY {chain}.issued NULLS FIRST) AS nth FROM {chain}) AS {chain}"
        ).format(chain=chain, first=first)
    seeds = sql.SQL("SELECT {}, {} AS issued FROM {} WHERE {}").format(columns, issued, source, where)
    if remembered is not None:
        # It is named like the tokens, and its own places are in no table of tokens.
        gone = sql.SQL("SELECT {}, {} AS issued FROM {} AS {}").format(
            columns, sql.Identifier(TOKEN, FOLLOWED_FROM), remembered, sql.Identifier(TOKEN)
        )
        seeds = sql.SQL("({} UNION ALL {})").format(seeds, gone)
    return sql.SQL(
        "WITH RECURSIVE {chain} AS ({seeds}"
        # Of one whose time of issue is not known, no more follows than of the one that it follows itself.
        " UNION SELECT {columns}, coalesce({issued}, {chain}.issued) AS issued"
        " FROM {followed_by} CROSS JOIN LATERAL (VALUES {followed}) AS followed_(kind, link)"
        " JOIN ({source} CROSS JOIN LATERAL (VALUES {follows}) AS follows_(kind, link))"
        " ON follows_.kind = followed_.kind AND follows_.link = followed_.link"
        " WHERE {is_token} AND (follows_.kind = 1 OR {issued} IS NULL OR {chain}.issued IS NULL"
        " OR {issued} >= {chain}.issued)) "
    ).format(
        chain=chain,
        columns=columns,
        source=source,
        seeds=seeds,
        followed_by=followed_by,
        followed=sql.SQL(", ").join(followed),
        follows=sql.SQL(", ").join(follows),
        is_token=acceptance.is_token(),
        issued=issued,
    )


def _as_link(sql: Any, column: Column, other: Column, reference: Any) -> Any:
    """Return the text by which `reference`, which holds what `column` holds, meets `other`: a uuid may be written in several ways."""
    text = sql.SQL("{}::text").format(reference)
    if "uuid" not in (column.base, other.base) or column.base == other.base:
        return text
    return sql.SQL("CASE WHEN {plain} ~ '^[0-9a-f]{{32}}$' THEN {plain} ELSE {text} END").format(
        plain=plain_uuid(sql, reference), text=text
    )
