# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits before which an application accepts nothing: raised where a selection is just what a limit is about."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant, start_of
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import marks
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Change
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import LIMITED, ROW
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import key_columns
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import LIMIT, Target
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection, TokenStore
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.criteria import values_condition
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.selection import CRITERIA
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import Limit

AHEAD = 300  # seconds; so much another clock that says now may be ahead of the server's
_BY = {"tenant": "tenants", "client": "clients", "subject": "subjects"}


def limit_targets(database: Any, store: TokenStore, selection: Selection, now: Instant) -> list[Target]:
    """Return the targets of the store's limits that mean just what `selection` means; `now` is where it has no end of its own.

    A limit is about everything of everybody, or of some tenants, clients or subjects, that was issued before a time: a narrower selection
    would take others along. Raises InvalidValue where the store knows no other way, and none of its limits fits; and for an end that
    lies in the future, because every login until then would be refused.
    """
    fitting = [limit for limit in store.limits if _fits(limit, selection)]
    if store.how == "not_before" and not fitting:
        ways = ", ".join(sorted({_BY.get(limit.by, "all") for limit in store.limits}))
        raise InvalidValue(
            f"select: store {store.name!r} is revoked by limits, which take everything before a time;"
            f" select by {ways}, alone or with issued_to",
            object_name=store.name,
        )
    if fitting and selection.issued_to and selection.issued_to.before(AHEAD).microseconds > now.microseconds:
        raise InvalidValue(
            f"select.issued_to: {selection.issued_to} lies in the future, and store {store.name!r} would refuse every login until then",
            object_name=store.name,
            hint="Let it end now, or leave it out: the limit is then raised to the moment of the revocation.",
        )
    return [_target(database, store, limit, selection, moment(selection, now)) for limit in fitting]


def moment(selection: Selection, now: Instant) -> Instant:
    """Return the time before which nothing is to be accepted: a whole second, because the times of issue in tokens are."""
    return selection.issued_to or now.up_to_second()


def _fits(limit: Limit, selection: Selection) -> bool:
    wanted = {name for name in CRITERIA if selection.has(name)} - {"issued_to"}
    if limit.by == "all":
        return wanted in ({"all"}, set())
    return wanted == {_BY[limit.by]}


def _target(database: Any, store: TokenStore, limit: Limit, selection: Selection, at: Instant) -> Target:
    sql, column = database.sql, limit.column.column
    if limit.column.kind == "date":
        raise InvalidValue(
            f"{limit.column.path}: {limit.relation.name}.{column.name} is of type date: a limit is raised to a moment, and no day is one",
            object_name=str(limit.relation.name),
        )
    reference = sql.Identifier(ROW, column.name)
    earlier = sql.SQL("({} IS NULL OR {} OPERATOR(pg_catalog.<) {}::timestamptz)").format(
        reference, start_of(database, limit.column, reference), sql.Literal(str(at))
    )
    whose = sql.SQL("true")
    key = limit.id or column
    if limit.id:
        values = selection.lists[_BY[limit.by]]
        whose = values_condition(database, limit.relation, limit.id, sql.Identifier(ROW, limit.id.name), values, _BY[limit.by])
    query = sql.SQL(
        "SELECT row_number() OVER () AS ordinal, {row}.tableoid AS relid, {row}.ctid AS place, {row}.{key} AS key"
        " FROM {table} AS {row} WHERE {whose} AND {earlier}"
    ).format(row=sql.Identifier(ROW), key=sql.Identifier(key.name), table=limit.relation.name.identifier(sql), whose=whose, earlier=earlier)
    change = Change(store.name, str(limit.relation.name), LIMITED, column.name, None, key_columns(database, limit.relation, column))
    value = sql.Literal(marks.value(database, limit.column, at))
    return Target(LIMIT, limit.relation, LIMITED, column.name, query, RowChange(change, limit.relation, ROW, key, earlier, column, value))
