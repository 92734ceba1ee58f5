# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: the token stores. Every store is looked at by itself; one that cannot be read is unknown and hides no other."""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import readable
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    SKIPPED,
    WARNING,
    Check,
    Limits,
    Reading,
    per_object,
    skipped,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.times import Moments, declared
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, moment
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import denied_column, require_comparable, same_id
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.belonging import belongs
from ansible_collections.pgops.runbook.plugins.module_utils._unique_index import unique_index

HOUR = 3600.0
Store = Mapping[str, Any]


def _every_store(look: Look, read: Callable[[str, Store], Reading]) -> Iterable[Reading]:
    stores = look.system.get("token_stores") or ()
    return per_object([(store["name"], store) for store in stores], read) if stores else skipped("the system has no token store")


def _revocation_rate(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(name: str, store: Store) -> Reading:
        tokens, revoke = store["tokens"], store["revoke"]
        revoked_at = revoke.get({"denylist": "revoked_at", "timestamp": "column"}.get(revoke["how"], ""))
        if not revoked_at:
            return Reading("the store does not record when a token was revoked", object_name=name, status=SKIPPED)
        if not tokens.get("issued_at"):
            return Reading("the store does not record when a token was issued", object_name=name, status=SKIPPED)
        for table, time in ((revoke.get("table") or tokens["table"], revoked_at), (tokens["table"], tokens["issued_at"])):
            if declared(readable(look, table, [time["column"]]), time).kind == "date":
                return Reading(f"{table}.{time['column']} is a date, which does not tell the hour", object_name=name, status=SKIPPED)
        # The rows of a deny list are its store's alone; those of a table of tokens may be several stores'.
        revoked = _count_last_hour(look, revoke if revoke.get("table") else tokens, revoked_at)
        issued = _count_last_hour(look, tokens, tokens["issued_at"])
        return _rate(name, limits, revoked, issued)

    return _every_store(look, read)


def _count_last_hour(look: Look, part: Mapping[str, Any], time: Mapping[str, Any]) -> int:
    relation = readable(look, part["table"], [time["column"], *(part.get("where") or ())])
    moments = Moments(look)
    statement = look.sql.SQL(
        "SELECT count(*) AS rows FROM {table} AS t WHERE {own} AND t.{column} > {since} AND t.{column} <= {until}"
    ).format(
        table=relation.name.identifier(look.sql),
        own=belongs(look.sql, part, "t"),
        column=look.sql.Identifier(time["column"]),
        since=moments.constant(relation, time, look.ago(HOUR)),
        # Rows of a clock that runs ahead belong to this hour as well; token.future_issued tells of those beyond the skew.
        until=moments.constant(relation, time, look.ago(-look.clock_skew)),
    )
    count: int = look.row(statement, moments.parameters)["rows"]
    return count


def _rate(name: str, limits: Limits, revoked: int, issued: int) -> Reading:
    metrics = {f"token.revoked_last_hour[{name}]": float(revoked), f"token.issued_last_hour[{name}]": float(issued)}
    if not revoked and not issued:
        # Also what a store looks like whose times are written in another zone than the declared one.
        return Reading("nothing issued and nothing revoked in the last hour", None, name, status=SKIPPED, metrics=metrics)
    counted = f"{revoked} revoked and {issued} issued in the last hour"
    if not revoked:
        return Reading(counted, 0.0, name, metrics=metrics)
    if not issued:
        # A share of nothing is no number, and certainly not 0 %.
        return Reading(f"{counted}: tokens are revoked while none are issued", None, name, status=WARNING, metrics=metrics)
    percent = round(100.0 * revoked / issued, 2)
    if revoked < (limits.minimum or 0):
        message = f"{counted} ({percent:g} %): fewer than {limits.minimum:g} revocations are not judged"
        return Reading(message, percent, name, status="ok", metrics=metrics)
    return Reading(f"{counted} ({percent:g} %)", percent, name, metrics=metrics)


def _orphaned_deny(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(name: str, store: Store) -> Reading:
        tokens, revoke = store["tokens"], store["revoke"]
        if revoke["how"] != "denylist":
            return Reading("the store has no deny list", object_name=name, status=SKIPPED)
        expires_at = revoke.get("expires_at")
        deny = readable(look, revoke["table"], [revoke["id"], *([expires_at["column"]] if expires_at else [])])
        denied = denied_column(store)
        relation = readable(look, tokens["table"], [denied])
        ids = [(table, table.column(name)) for table, name in ((deny, revoke["id"]), (relation, denied))]
        require_comparable(ids[0], ids[1], f"token store {name}")
        sql, moments = look.sql, Moments(look)
        # Without an expiry of its own nobody knows when such a token ends, so that it counts as alive.
        over = sql.SQL("false")
        if expires_at:
            ended = moments.constant(deny, expires_at, look.ago(look.clock_skew))
            over = sql.SQL("coalesce(d.{} < {}, false)").format(sql.Identifier(expires_at["column"]), ended)
        statement = sql.SQL(
            "SELECT count(*) AS orphans, count(*) FILTER (WHERE {over}) AS expired FROM {deny} d"
            " WHERE d.{deny_id} IS NOT NULL AND NOT EXISTS (SELECT FROM {tokens} t WHERE {same})"
        ).format(
            over=over,
            deny=deny.name.identifier(sql),
            deny_id=sql.Identifier(revoke["id"]),
            tokens=relation.name.identifier(sql),
            same=same_id(sql, *((column, sql.Identifier(alias, column.name)) for alias, (_table, column) in zip("dt", ids))),
        )
        found = look.row(statement, moments.parameters)
        alive = found["orphans"] - found["expired"]
        metrics = {f"token.orphaned_deny_alive[{name}]": float(alive), f"token.orphaned_deny_expired[{name}]": float(found["expired"])}
        if not found["orphans"]:
            return Reading("every deny row has its token", 0.0, name, metrics=metrics)
        split = f"{alive} of tokens still alive, which must stay, and {found['expired']} already expired"
        return Reading(f"{counted(found['orphans'], 'deny row')} without metadata: {split}", float(found["orphans"]), name, metrics=metrics)

    return _every_store(look, read)


def _future_issued(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(name: str, store: Store) -> Reading:
        tokens = store["tokens"]
        issued_at = tokens.get("issued_at")
        if not issued_at:
            return Reading("the store does not record when a token was issued", object_name=name, status=SKIPPED)
        relation = readable(look, tokens["table"], [issued_at["column"], *(tokens.get("where") or ())])
        sql, moments = look.sql, Moments(look)
        column = sql.Identifier("t", issued_at["column"])
        statement = sql.SQL(
            "SELECT count(*) AS rows, {earliest}::text AS earliest FROM {table} AS t WHERE {own} AND {column} > {limit}"
        ).format(
            earliest=moments.instant(relation, issued_at, sql.SQL("min({})").format(column)),
            table=relation.name.identifier(sql),
            own=belongs(sql, tokens, "t"),
            column=column,
            limit=moments.constant(relation, issued_at, look.ago(-look.clock_skew)),
        )
        found = look.row(statement, moments.parameters)
        if not found["rows"]:
            return Reading(f"no token is dated more than {look.clock_skew:g} s ahead", 0.0, name)
        message = f"{counted(found['rows'], 'token')} dated ahead, the earliest {moment(found['earliest'])}"
        return Reading(message, float(found["rows"]), name)

    return _every_store(look, read)


def _duplicate_ids(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(name: str, store: Store) -> Reading:
        tokens = store["tokens"]
        relation = readable(look, tokens["table"], [tokens["id"], *(tokens.get("where") or ())])
        proof = unique_index(look, relation, tokens["id"])
        if proof:
            return Reading(f"the unique index {proof} allows none", 0.0, name)
        sql = look.sql
        statement = sql.SQL(
            "SELECT count(*) AS ids, coalesce(sum(copies), 0)::int8 AS rows FROM"
            " (SELECT count(*) AS copies FROM {table} AS t WHERE {own} AND {id} IS NOT NULL GROUP BY {id} HAVING count(*) > 1) AS repeated"
        ).format(table=relation.name.identifier(sql), own=belongs(sql, tokens, "t"), id=sql.Identifier("t", tokens["id"]))
        found = look.row(statement)
        if not found["ids"]:
            return Reading("every token id stands once", 0.0, name)
        return Reading(f"{counted(found['ids'], 'token id')} more than once, in {found['rows']} rows", float(found["ids"]), name)

    return _every_store(look, read)


READS = "SELECT on the columns that it reads"

CHECKS: List[Check] = [
    Check(
        id="token.revocation_rate",
        title="Revocations against issues in the last hour",
        tier="hourly",
        looks_at="For every store, the tokens revoked in the last hour as a share of those issued in it. Revocations while nothing is "
        "issued are a "
        "warning: their share is no number. An hour without either is skipped, as are stores that do not record the time of a revocation.",
        action="Find out who revokes and why: a high rate may be an incident under way, or its answer.",
        needs=READS,
        run=_revocation_rate,
        unit="percent",
        warning=10,
        critical=50,
        minimum=20,
        minimum_of="revocations in the hour",
    ),
    Check(
        id="token.orphaned_deny",
        title="Deny rows without metadata",
        tier="daily",
        looks_at="Deny rows whose token has no row, split into those past their expiry and the clock skew, and those of tokens that "
        "may still be alive. Where one table has an id as uuid and the other as text, every way to write a uuid counts; types that "
        "cannot be compared are unknown.",
        action="Do not delete the rows of tokens still alive: those would be accepted again. The expired ones go with the retention. "
        "Find out what "
        "removed the metadata, or wrote deny rows without it.",
        needs=READS,
        run=_orphaned_deny,
        unit="count",
        warning=0,
    ),
    Check(
        id="token.future_issued",
        title="Tokens dated ahead",
        tier="daily",
        looks_at="Tokens whose time of issue lies ahead by more than the system's clock_skew.",
        action="Compare the clock of the host that issues tokens with the server's, and look at token.zone_ahead.",
        needs=READS,
        run=_future_issued,
        unit="count",
        warning=0,
    ),
    Check(
        id="token.duplicate_ids",
        title="Token ids that stand more than once",
        tier="daily",
        looks_at="Ids with several rows in one store. A valid unique index on the id, of a type without collation, is proof enough "
        "unless the table has inheritance children.",
        action="Find out what issues the same id twice; a revocation must cover the row that lives longest.",
        needs=READS,
        run=_duplicate_ids,
        unit="count",
        warning=0,
    ),
]
