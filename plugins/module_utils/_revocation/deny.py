# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that are revoked by a row in a deny list: one row an id, which lives as long as the longest of the tokens with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._instant import end_of
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import ROWS, Change, Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import STAGE
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import key_of, text_of
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import plain_uuid, same_id
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.acceptance import never
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import DenyList

_DENY, _OTHER = "deny_", "other_"
_UNITS = {"s": 1, "ms": 1000}


@dataclass(frozen=True)
class Denial:
    """The insertion of deny rows: `revoked_at` is the text of the time of revocation, `clock_skew` is in seconds.

    `extension` is the change of deny rows that are there and end too early.
    """

    change: Change
    extension: Change
    deny: DenyList
    revoked_at: str | None
    reason: str
    clock_skew: float
    with_cache_values: bool = False

    @property
    def kept(self) -> bool:
        """Return whether every inserted row is kept in the journal."""
        return self.change.mark is None or self.with_cache_values

    def batch(self, journal: Journal, stage: Any, first: int, last: int, revocation_id: str) -> int:
        """Deny the ids numbered `first` to `last` of `stage` and return how many are newly denied. Needs a transaction around it."""
        database = journal.database
        if not self.kept:
            inserted = database.execute(self._insert(database.sql, stage, first, last))
        else:
            number = journal.change_id(self.change, revocation_id)
            inserted = int(database.value(self._insert_and_keep(journal, stage, first, last, number)))
        if inserted:
            journal.count(self.change, inserted, revocation_id)
        return inserted

    def extend(self, journal: Journal, stage: Any, first: int, last: int, revocation_id: str) -> int:
        """Let the deny rows of ids of which none lasts long enough live as long as their tokens; returns how many ended too early."""
        if self.deny.expires_at is None:
            return 0
        number = journal.change_id(self.extension, revocation_id)
        extended = int(journal.database.value(self._extension(journal, stage, first, last, number)))
        if extended:
            journal.count(self.extension, extended, revocation_id)
        return extended

    def _insert(self, sql: Any, stage: Any, first: int, last: int) -> Any:
        columns, values = [self.deny.id.name], [sql.SQL("{}.key").format(sql.Identifier(STAGE))]
        if self.deny.revoked_at and self.revoked_at is not None:
            columns.append(self.deny.revoked_at.column.name)
            values.append(sql.Literal(self.revoked_at))
        if self.deny.expires_at:
            columns.append(self.deny.expires_at.column.name)
            values.append(self._ends(sql))
        if self.deny.reason:
            columns.append(self.deny.reason.name)
            values.append(sql.Literal(self.reason))
        # In the order of the ids, which is that of the index: pages are filled one after the other.
        return sql.SQL(
            "INSERT INTO {table} AS {deny} ({columns}) SELECT {values} FROM {source} AS {stage}"
            " WHERE {stage}.ordinal BETWEEN {first} AND {last} AND {stage}.key IS NOT NULL ORDER BY {stage}.key ON CONFLICT DO NOTHING"
        ).format(
            table=self.deny.relation.name.identifier(sql),
            deny=sql.Identifier(_DENY),
            columns=sql.SQL(", ").join(sql.Identifier(name) for name in columns),
            values=sql.SQL(", ").join(values),
            source=stage,
            stage=sql.Identifier(STAGE),
            first=sql.Literal(first),
            last=sql.Literal(last),
        )

    def _insert_and_keep(self, journal: Journal, stage: Any, first: int, last: int, number: int) -> Any:
        sql = journal.database.sql
        keys = key_of(sql, _DENY, self.change.key_columns)
        # By its end too a row is known again: one that was put in anew since may have the same time, or no column for it.
        compared = list(dict.fromkeys([self.change.column, *([self.deny.expires_at.column.name] if self.deny.expires_at else [])]))
        cached, source = sql.SQL("NULL::jsonb"), sql.SQL("denied")
        if self.with_cache_values:
            cached = sql.SQL("{}.cache_values").format(sql.Identifier(STAGE))
            same = same_id(sql, (self.deny.id, sql.SQL("denied.id")), (self.deny.key, sql.Identifier(STAGE, "key")))
            source = sql.SQL("denied LEFT JOIN {} AS {} ON {}").format(stage, sql.Identifier(STAGE), same)
        return sql.SQL(
            "WITH denied AS ({insert} RETURNING {keys} AS key, {after} AS after, {deny}.{id} AS id),"
            " noted AS (INSERT INTO {rows} (change_id, key, after, cache_values)"
            " SELECT {number}, denied.key, after, {cached} FROM {kept} RETURNING 1)"
            " SELECT pg_catalog.count(*) AS changed FROM noted"
        ).format(
            kept=source,
            insert=self._insert(sql, stage, first, last),
            keys=keys,
            deny=sql.Identifier(_DENY),
            after=text_of(sql, _DENY, compared),
            id=sql.Identifier(self.deny.id.name),
            rows=journal.table(ROWS),
            number=sql.Literal(number),
            cached=cached,
        )

    def _extension(self, journal: Journal, stage: Any, first: int, last: int, number: int) -> Any:
        sql, time = journal.database.sql, self.deny.expires_at
        column, other = (sql.Identifier(row, time.column.name) for row in (_DENY, _OTHER))  # type: ignore[union-attr]
        keys = key_of(sql, _DENY, self.extension.key_columns)
        key = (self.deny.key, sql.Identifier(STAGE, "key"))
        same, same_other = (same_id(sql, (self.deny.id, sql.Identifier(row, self.deny.id.name)), key) for row in (_DENY, _OTHER))
        return sql.SQL(
            "WITH short AS MATERIALIZED (SELECT {deny}.tableoid AS relid, {deny}.ctid AS place, {keys} AS key,"
            " {column}::text AS before, {ends} AS after FROM {source} AS {stage} JOIN {table} AS {deny} ON {same}"
            " WHERE {stage}.ordinal BETWEEN {first} AND {last} AND {own_end} OPERATOR(pg_catalog.<) {stage}.ends"
            # One that was put in just now beside them, where nothing keeps ids unique.
            " AND NOT EXISTS (SELECT FROM {table} AS {other} WHERE {same_other} AND {other_end} OPERATOR(pg_catalog.>=) {stage}.ends)"
            " FOR UPDATE OF {deny} SKIP LOCKED),"
            " extended AS (UPDATE {table} AS {deny} SET {name} = short.after FROM short"
            " WHERE {deny}.ctid = short.place AND {deny}.tableoid = short.relid"
            " RETURNING short.key, short.before, {column}::text AS after),"
            " noted AS (INSERT INTO {rows} (change_id, key, before, after) SELECT {number}, key, before, after FROM extended RETURNING 1)"
            " SELECT pg_catalog.count(*) AS changed FROM noted"
        ).format(
            deny=sql.Identifier(_DENY),
            keys=keys,
            column=column,
            name=sql.Identifier(time.column.name),  # type: ignore[union-attr]
            ends=self._ends(sql),
            source=stage,
            stage=sql.Identifier(STAGE),
            table=self.deny.relation.name.identifier(sql),
            same=same,
            first=sql.Literal(first),
            last=sql.Literal(last),
            own_end=end_of(journal.database, time, column),  # type: ignore[arg-type]
            other=sql.Identifier(_OTHER),
            same_other=same_other,
            other_end=end_of(journal.database, time, other),  # type: ignore[arg-type]
            rows=journal.table(ROWS),
            number=sql.Literal(number),
        )

    def _ends(self, sql: Any) -> Any:
        """Return when a deny row ends: when its token does, and the clock skew later, as its column has it."""
        return ends(sql, self.deny.expires_at, sql.Identifier(STAGE, "ends"), self.clock_skew)  # type: ignore[arg-type]


def key_as_denied(sql: Any, deny: DenyList, reference: Any) -> Any:
    """Return what a deny row holds of a token's key, `reference`; NULL, which denies nothing, where the column cannot hold it."""
    if deny.id.base == deny.key.base or "uuid" not in (deny.id.base, deny.key.base):
        return reference
    if deny.key.base == "uuid":
        return sql.SQL("{}::text").format(reference)
    plain = plain_uuid(sql, reference)
    return sql.SQL("CASE WHEN {plain} ~ '^[0-9a-f]{{32}}$' THEN {plain}::uuid END").format(plain=plain)


def ends(sql: Any, time: TimeColumn, instant: Any, clock_skew: float) -> Any:
    """Return the value of a time column that is past no sooner than `instant` (timestamptz, infinity for never) and the skew."""
    later = sql.SQL("({} + pg_catalog.make_interval(secs => {}))").format(instant, sql.Literal(clock_skew))
    if time.kind == "instant":
        return later
    if time.kind == "wall":
        return sql.SQL("({} AT TIME ZONE {})").format(later, sql.Literal(time.time_zone))
    if time.kind == "date":
        # A date has passed when its day has ended, so that the day it falls on is late enough, in the zone where days end first.
        return sql.SQL("({} AT TIME ZONE {})::date").format(later, sql.Literal(time.time_zone or "Etc/GMT-14"))
    whole = sql.SQL("pg_catalog.ceil(extract(epoch FROM {})::numeric * {})").format(later, sql.Literal(_UNITS[time.unit or "s"]))
    return sql.SQL("CASE WHEN {instant} = 'infinity' THEN {never} ELSE least({whole}, {never})::{kind} END").format(
        instant=instant, never=never(sql, time), whole=whole, kind=sql.Identifier("pg_catalog", time.column.base)
    )
