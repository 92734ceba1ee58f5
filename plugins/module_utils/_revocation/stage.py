# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a pass, set aside in a temporary table, or only looked at; the same query either way, so that the numbers agree."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.remembered import Remembered, leaves_behind
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import TOKENS, Target
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, Acceptance, TokenStore
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.claims import as_like, keys
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.selection import Selection

CLAIM_SETS, MATCHED_CLAIMS = 50, 50
_STAGE = "pgops_stage"


class Stage:
    """Rows of one target set aside: how many there are to change (`rows`, numbered from 1) and what is said of them."""

    def __init__(self, target: Target, name: Any, facts: dict[str, Any]) -> None:
        self.target, self.name, self.facts = target, name, facts

    @property
    def rows(self) -> int:
        """Return how many rows are to be changed; of tokens with one id in a deny list, one."""
        return int(self.facts["rows"])

    @property
    def tokens(self) -> int:
        """Return how many rows of tokens that are."""
        return int(self.facts["tokens"] or 0)


class Stages:
    """Sets rows aside. With `keep` false nothing is written, and the rows are there for one statement only."""

    def __init__(self, database: Any, *, keep: bool, sample: int) -> None:
        self.database, self.keep, self.sample, self._made = database, keep, sample, 0
        self._memories: dict[str, Remembered] = {}

    def memory(self, store: TokenStore, selection: Selection) -> Remembered | None:
        """Return what keeps in mind which tokens of a store were set aside, None where nothing depends on it."""
        if self.keep and store.name not in self._memories and leaves_behind(store, selection):
            self._memories[store.name] = Remembered(self.database, store, len(self._memories) + 1)
        return self._memories.get(store.name)

    def look(self, target: Target, store: TokenStore, selection: Selection) -> Stage:
        """Set the rows of `target` aside and return them with what is said of them."""
        sql = self.database.sql
        if self.keep:
            self._made += 1
            name = sql.Identifier("pg_temp", f"{_STAGE}_{self._made}")
            self.database.execute(sql.SQL("CREATE TEMPORARY TABLE {} AS {}").format(sql.Identifier(f"{_STAGE}_{self._made}"), target.query))
            # Batches are ranges of what stands in this very order: without it, each would read the whole table.
            self.database.execute(sql.SQL("CREATE INDEX ON {} USING brin (ordinal)").format(name))
            self.database.execute(sql.SQL("ANALYZE {}").format(name))
            facts = self.database.row(self._facts(target, store, selection, name))
            if target.kind == TOKENS and store.name in self._memories:
                # After they were set aside: of what is deleted, nothing may be unknown.
                self._memories[store.name].add()
        else:
            name = sql.Identifier(_STAGE)
            with_ = sql.SQL("WITH {} AS MATERIALIZED ({}) ").format(name, target.query)
            facts = self.database.row(with_ + self._facts(target, store, selection, name))
        return Stage(target, name, facts)

    def drop_all(self, stages: Sequence[Stage]) -> None:
        """Give the space of rows that were set aside back."""
        for stage in stages if self.keep else ():
            self.database.execute(self.database.sql.SQL("DROP TABLE IF EXISTS {}").format(stage.name))

    def _facts(self, target: Target, store: TokenStore, selection: Selection, name: Any) -> Any:
        sql = self.database.sql
        if target.kind != TOKENS:
            return sql.SQL("SELECT pg_catalog.count(*) AS rows, NULL::bigint AS tokens FROM {}").format(name)
        has_claims = store.written["tokens"].get("claims") is not None
        none = sql.SQL("NULL::jsonb")
        sets = sql.SQL(
            "(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('claims', claims, 'tokens', tokens) ORDER BY tokens DESC, claims)"
            " FROM (SELECT claims, sum(tokens) AS tokens FROM {} GROUP BY claims ORDER BY 2 DESC, 1 LIMIT {}) AS sets)"
        ).format(name, sql.Literal(CLAIM_SETS))
        matching = sql.SQL(
            "(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('claim', key, 'tokens', tokens) ORDER BY tokens DESC, key)"
            " FROM (SELECT keys_.key, sum({name}.tokens) AS tokens FROM {name} CROSS JOIN LATERAL ({keys}) AS keys_(key)"
            " WHERE keys_.key LIKE {like} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most}) AS matching)"
        )
        if selection.claim_pattern and has_claims:
            matching = matching.format(
                name=name,
                keys=keys(sql, store, sql.SQL("claims")),
                like=sql.Literal(as_like(selection.claim_pattern)),
                most=sql.Literal(MATCHED_CLAIMS),
            )
        else:
            matching = none
        return sql.SQL(
            "SELECT pg_catalog.count(*) AS rows, sum(tokens)::bigint AS tokens, {sets} AS claim_sets, {matching} AS matched_claims,"
            " (SELECT pg_catalog.jsonb_agg({shown} ORDER BY ordinal)"
            " FROM (SELECT id, ordinal FROM {name} ORDER BY ordinal LIMIT {sample}) AS first_) AS sample FROM {name}"
        ).format(
            sets=sets if has_claims else none,
            matching=matching,
            shown=fingerprint(sql, sql.SQL("id")) if not store.shown(store.id) else sql.SQL("id"),
            name=name,
            sample=sql.Literal(self.sample),
        )


def fingerprint(sql: Any, reference: Any) -> Any:
    """Return the expression for what may be shown of a secret: the first twelve digits of its SHA-256."""
    return sql.SQL(
        "'sha256:' || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({}::text, 'UTF8')), 'hex'), 12)"
    ).format(reference)


def count_accepted(database: Any, store: TokenStore, acceptance: Acceptance) -> int:
    """Return how many tokens of the store are accepted now."""
    sql = database.sql
    return int(
        database.value(
            sql.SQL("SELECT pg_catalog.count(*) FROM {} AS {} WHERE {}").format(
                store.tokens.name.identifier(sql), sql.Identifier(TOKEN), acceptance.accepted()
            )
        )
    )
