# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that are marked, flagged, cleared or deleted where they stand: those of tokens, and those that go with them.

The rows of a pass are set aside by their place first. In the batch the place, the key and the condition must still agree,
because a row may have moved in between and another one may stand there. A row that has moved, as every use of a token moves
it in some applications, is looked for by its key. Rows that somebody has locked are passed over: the next pass finds them,
after the transactions that were open have ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.cascades import cascades
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import ROWS, Change, Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import DELETED, STAGE
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import key_of, stored_columns, text_of


@dataclass(frozen=True)
class RowChange:
    """A change of rows of `relation`, whose alias in `still` is `alias`: what is set in `column` (None: the rows are deleted).

    `still` is the condition under which a row that was set aside is changed; `key` the column that it was set aside with. A row
    that has moved is found again by a key that is unique, and by the next pass otherwise.
    """

    change: Change
    relation: Relation
    alias: str
    key: Column
    still: Any
    column: Column | None
    value: Any
    with_cache_values: bool = False
    key_is_unique: bool = False

    @property
    def kept(self) -> bool:
        """Return whether every changed row is kept in the journal."""
        return self.change.mark is None or self.with_cache_values

    def batch(self, journal: Journal, stage: Any, first: int, last: int, revocation_id: str) -> int:
        """Change the rows numbered `first` to `last` of `stage` that are free, and return how many. Needs a transaction around it."""
        number = journal.change_id(self.change, revocation_id) if self.kept else None
        statement = self._guarded(journal, stage, first, last)._statement(journal, stage, first, last, number)
        changed = int(journal.database.value(statement))
        if changed < last - first + 1 and self.key_is_unique and journal.database.execute(self._find_again(journal, stage, first, last)):
            changed += int(journal.database.value(statement))
        if changed:
            journal.count(self.change, changed, revocation_id)
        return changed

    def _guarded(self, journal: Journal, stage: Any, first: int, last: int) -> RowChange:
        """Return the change without the rows that others refer to, if a foreign key would take those along. Locks the rows that go.

        Once they are locked nobody can refer to them any more; the next pass finds what did so before.
        """
        found = cascades(journal.database, self.relation) if self.column is None else []
        if not found:
            return self
        sql = journal.database.sql
        journal.database.value(
            sql.SQL(
                "SELECT pg_catalog.count(*) FROM (SELECT FROM {stage_table} AS {stage} JOIN {table} AS {row} ON {staged}"
                " WHERE {stage}.ordinal BETWEEN {first} AND {last} FOR UPDATE OF {row} SKIP LOCKED) AS locked_"
            ).format(
                stage_table=stage,
                stage=sql.Identifier(STAGE),
                table=self.relation.name.identifier(sql),
                row=sql.Identifier(self.alias),
                staged=self._at(sql, sql.Identifier(STAGE)),
                first=sql.Literal(first),
                last=sql.Literal(last),
            )
        )
        free = [cascade.none_refers(sql, self.relation, self.alias) for cascade in found]
        return replace(self, still=sql.SQL(" AND ").join([self.still, *free]))

    def _find_again(self, journal: Journal, stage: Any, first: int, last: int) -> Any:
        """Return the statement that locks rows which are still to be changed, wherever they stand now, and notes their places.

        In one statement with the change it would not do: a row that moved after that had begun could be locked, but not be seen.
        """
        sql = journal.database.sql
        return sql.SQL(
            "WITH moved AS MATERIALIZED (SELECT {row}.tableoid AS relid, {row}.ctid AS place, {stage}.ordinal"
            " FROM {stage_table} AS {stage} JOIN {table} AS {row} ON {row}.{key} = {stage}.key"
            " WHERE {stage}.ordinal BETWEEN {first} AND {last} AND {still} FOR UPDATE OF {row} SKIP LOCKED)"
            " UPDATE {stage_table} AS {stage} SET relid = moved.relid, place = moved.place FROM moved"
            " WHERE {stage}.ordinal = moved.ordinal"
        ).format(
            row=sql.Identifier(self.alias),
            stage=sql.Identifier(STAGE),
            stage_table=stage,
            table=self.relation.name.identifier(sql),
            key=sql.Identifier(self.key.name),
            first=sql.Literal(first),
            last=sql.Literal(last),
            still=self.still,
        )

    def _statement(self, journal: Journal, stage: Any, first: int, last: int, number: int | None) -> Any:
        sql = journal.database.sql
        alias, table = sql.Identifier(self.alias), self.relation.name.identifier(sql)
        here, staged = (self._at(sql, sql.Identifier(source)) for source in ("picked", STAGE))
        kept = sql.SQL("picked.cache_values") if self.with_cache_values else sql.SQL("NULL::jsonb")
        if self.column is None:
            act = sql.SQL("DELETE FROM {table} AS {row} USING picked WHERE {here} RETURNING {whole} AS before, NULL::text AS after")
            whole = text_of(sql, self.alias, stored_columns(journal.database, self.relation))
        else:
            act = sql.SQL(
                "UPDATE {table} AS {row} SET {column} = {value} FROM picked WHERE {here}"
                " RETURNING picked.before, {row}.{column}::text AS after"
            )
            whole = sql.SQL("")
        column = sql.Identifier(self.column.name) if self.column else sql.SQL("")
        act = act.format(table=table, row=alias, column=column, value=self.value, here=here, whole=whole)
        statement = sql.SQL(
            "WITH picked AS MATERIALIZED (SELECT {row}.tableoid AS relid, {row}.ctid AS place, {old} AS before,"
            " {cached} FROM {stage_table} AS {stage} JOIN {table} AS {row} ON {staged} AND {row}.{key} IS NOT DISTINCT FROM {stage}.key"
            " WHERE {stage}.ordinal BETWEEN {first} AND {last} AND {still}"
            " FOR UPDATE OF {row} SKIP LOCKED), changed AS ({act}, {keys} AS key, {kept} AS cache_values)"
        ).format(
            row=alias,
            keys=self._keys(sql),
            old=sql.SQL("{}.{}::text").format(alias, column) if self.column else sql.SQL("NULL::text"),
            cached=sql.SQL("{}.cache_values").format(sql.Identifier(STAGE))
            if self.with_cache_values
            else sql.SQL("NULL::jsonb AS cache_values"),
            stage_table=stage,
            stage=sql.Identifier(STAGE),
            table=table,
            staged=staged,
            key=sql.Identifier(self.key.name),
            first=sql.Literal(first),
            last=sql.Literal(last),
            still=self.still,
            act=act,
            kept=kept,
        )
        if number is None:
            return statement + sql.SQL(" SELECT pg_catalog.count(*) AS changed FROM changed")
        return statement + sql.SQL(
            ", noted AS (INSERT INTO {rows} (change_id, key, before, after, cache_values)"
            " SELECT {number}, key, before, after, cache_values FROM changed RETURNING 1) SELECT pg_catalog.count(*) AS changed FROM noted"
        ).format(rows=journal.table(ROWS), number=sql.Literal(number))

    def _at(self, sql: Any, source: Any) -> Any:
        """Return the condition under which a row stands where `source` says; where there are partitions, in the same one."""
        one_table = len(self.relation.leaves) == 1 and self.relation.leaves[0].oid == self.relation.oid
        form = "{row}.ctid = {source}.place" if one_table else "{row}.ctid = {source}.place AND {row}.tableoid = {source}.relid"
        return sql.SQL(form).format(row=sql.Identifier(self.alias), source=source)

    def _keys(self, sql: Any) -> Any:
        if self.change.change == DELETED:
            return sql.SQL("NULL::text[]")
        return key_of(sql, self.alias, self.change.key_columns)
