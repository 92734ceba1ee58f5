# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token store as it is looked at: the status of a token, and what of it is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import same_id
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import shown
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.inquiry import Inquiry
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Acceptance
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.claims import claims_column, keys
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import THROUGH, TokenStore

DENY, DENIAL, _THROUGH = "deny_", "denial_", "through_"
_TEXTS = ("subject", "client", "type", "scope", "address", "family", "renewed_from")
_FARTHEST = "9999-01-01"  # an expiry beyond it is never


class View:
    """One store at the inquiry's instant. Conditions and expressions are about the row with the alias of tokens.

    A token is revoked when its deny row is there, whatever that row says of its own end: so the application sees it now. It has
    expired when its expiry has passed; that it may be accepted for the clock skew on top of that is told beside it.
    """

    def __init__(self, inquiry: Inquiry, store: TokenStore) -> None:
        self.inquiry, self.store, self.sql = inquiry, store, inquiry.sql
        self.now = Acceptance(inquiry.database, store, inquiry.as_of, 0.0)
        self.alive = self.sql.SQL("({})").format(self.now.alive())
        skewed = Acceptance(inquiry.database, store, inquiry.as_of, inquiry.options.clock_skew)
        self.accepted_by_time = self.sql.SQL("({})").format(skewed.alive())
        token = store.written["tokens"].get("token")
        self.secrets = frozenset([*(store.written["tokens"].get("secrets") or ()), *([token] if token else [])])

    @property
    def keeps_revoked(self) -> bool:
        """Whether something of a revoked token stays behind."""
        return self.store.how not in ("delete", "not_before") or bool(self.store.limits)

    @property
    def expires(self) -> bool:
        """Whether the description says when a token expires."""
        return bool(self.store.expires or self.store.expires_in or self.store.lifetime is not None)

    @property
    def table(self) -> Any:
        """The table of tokens as statements name it."""
        return self.store.tokens.name.identifier(self.sql)

    def itself_revoked(self) -> Any:
        """Return the condition under which this very token is revoked."""
        return self.now.denied(for_its_whole_life=False) if self.store.deny else self.now.revoked_by_itself()

    def limited(self) -> Any:
        """Return the condition under which the token was issued before a limit."""
        limits_only = replace(self.store, deny=None, revoked_at=None, flag=None)
        return Acceptance(self.inquiry.database, limits_only, self.inquiry.as_of, 0.0).revoked()

    def revoked(self) -> Any:
        """Return the condition under which the token is revoked. Without limits it is one that the server turns into a join."""
        if not self.store.limits:
            return self.itself_revoked()
        return self.sql.SQL("({} OR {})").format(self.itself_revoked(), self.limited())

    def text(self, name: str) -> Any:
        """Return the expression for the token column of a key of the description, NULL where it names none."""
        column = self.store.token_column(name)
        return shown.text(self.sql, column, self.now.column(column), self.secrets) if column else self.sql.SQL("NULL::text")

    def fields(self, *, status: bool) -> Any:
        """Return the select list of one token; with `status` also whether and how it was revoked, for which `denial` must be joined."""
        parts = {
            "id": shown.text(self.sql, self.store.id, self.now.column(self.store.id), self.secrets, None),
            "issued_at": self._time(self.store.issued),
            "renewed_at": self._time(self.store.renewed),
            "expires_at": self._time(self.store.expires) if self.store.expires else shown.instant(self.sql, self.now.ends_at()),
            "accepted_until": self._accepted_until(status),
            "claims": self._claims(),
            **{name: self.text(name) for name in _TEXTS},
            **{name: self._through(name) for name in THROUGH.values()},
            "secrets": self._fingerprints(),
            **(self._status() if status else {}),
        }
        named = [self.sql.SQL("{} AS {}").format(value, self.sql.Identifier(name)) for name, value in parts.items()]
        return self.sql.SQL(", ").join(named)

    def denial(self) -> Any:
        """Return the join that gives a token's deny rows the alias DENIAL, nothing for a store without them."""
        deny, sql = self.store.deny, self.sql
        if deny is None:
            return sql.SQL("")
        same = same_id(sql, (deny.id, sql.Identifier(DENY, deny.id.name)), (deny.key, self.now.column(deny.key)))
        return sql.SQL("LEFT JOIN LATERAL (SELECT {} FROM {} AS {} WHERE {}) AS {} ON true").format(
            self.denial_fields(), deny.relation.name.identifier(sql), sql.Identifier(DENY), same, sql.Identifier(DENIAL)
        )

    def denial_fields(self) -> Any:
        """Return the select list that sums up deny rows: when the first of them was written, and until when the last one lasts."""
        deny, sql, database = self.store.deny, self.sql, self.inquiry.database
        if deny is None:
            raise AssertionError(f"{self.store.name} has no deny list")
        revoked_at = until = reason = sql.SQL("NULL::text")
        if deny.revoked_at:
            column = sql.Identifier(DENY, deny.revoked_at.column.name)
            revoked_at = shown.moment(database, deny.revoked_at, sql.SQL("pg_catalog.min({})").format(column))
        if deny.expires_at:
            column = sql.Identifier(DENY, deny.expires_at.column.name)
            last = shown.moment(database, deny.expires_at, sql.SQL("pg_catalog.max({})").format(column))
            until = sql.SQL("CASE WHEN NOT pg_catalog.bool_or({} IS NULL) THEN {} END").format(column, last)
        if deny.reason:
            reason = sql.SQL("pg_catalog.left(pg_catalog.max({}::text), {})").format(
                sql.Identifier(DENY, deny.reason.name), sql.Literal(shown.LONGEST_TEXT)
            )
        return sql.SQL("pg_catalog.count(*) AS rows, {} AS revoked_at, {} AS denied_until, {} AS reason").format(revoked_at, until, reason)

    def _status(self) -> dict[str, Any]:
        sql, denied = self.sql, self.store.deny is not None
        itself = sql.SQL("{}.rows > 0").format(sql.Identifier(DENIAL)) if denied else self.itself_revoked()
        limited = self.limited() if self.store.limits else sql.SQL("false")
        of_denial = {name: sql.Identifier(DENIAL, name) if denied else sql.SQL("NULL::text") for name in ("denied_until", "reason")}
        revoked_at = sql.Identifier(DENIAL, "revoked_at") if denied else self._time(self.store.revoked_at)
        return {
            "status": sql.SQL("CASE WHEN {} OR {} THEN 'revoked' WHEN {} THEN 'active' ELSE 'expired' END").format(
                itself, limited, self.alive
            ),
            "revoked_by": sql.SQL("CASE WHEN {} THEN {} WHEN {} THEN 'not_before' END").format(
                itself, sql.Literal(self.store.how), limited
            ),
            "revoked_at": revoked_at,
            **of_denial,
        }

    def _accepted_until(self, status: bool) -> Any:
        sql = self.sql
        if not self.expires:
            return sql.SQL("NULL::text")
        ends = self.now.ends_at()
        until = sql.SQL("{} + pg_catalog.make_interval(secs => {})").format(ends, sql.Literal(self.inquiry.options.clock_skew))
        revoked = self.revoked() if status else sql.SQL("false")
        return sql.SQL("CASE WHEN NOT {} AND {} < {}::timestamptz THEN {} END").format(
            revoked, ends, sql.Literal(_FARTHEST), shown.instant(sql, until)
        )

    def _time(self, time: TimeColumn | None) -> Any:
        if time is None:
            return self.sql.SQL("NULL::text")
        return shown.moment(self.inquiry.database, time, self.now.column(time.column))

    def _claims(self) -> Any:
        column = claims_column(self.store)
        if column is None or column.name in self.secrets:
            return self.sql.SQL("NULL::text[]")
        return self.claim_set(self.now.column(column))

    def claim_set(self, reference: Any) -> Any:
        """Return the expression for the sorted keys in `reference`, a value of the store's column of claims."""
        form = "ARRAY(SELECT claim_.key FROM ({}) AS claim_ WHERE claim_.key <> '' GROUP BY claim_.key ORDER BY claim_.key COLLATE \"C\")"
        return self.sql.SQL(form).format(keys(self.sql, self.store, reference))

    def _through(self, name: str) -> Any:
        """Return the expression for what a column of the token or another table knows; several values are joined by commas."""
        sql, written = self.sql, self.store.written["tokens"].get(f"{name}_through")
        if self.store.token_column(name) or not written:
            return self.text(name)
        relation = self.store.related[parse_relation(written["table"])]
        key, value = relation.column(written["id"]), relation.column(written[name])
        leads = self.store.tokens.column(written["column"])
        form = "(SELECT pg_catalog.left(pg_catalog.string_agg(DISTINCT {}::text, ', '), {}) FROM {} AS {} WHERE {})"
        return sql.SQL(form).format(
            sql.Identifier(_THROUGH, value.name),
            sql.Literal(shown.LONGEST_TEXT),
            relation.name.identifier(sql),
            sql.Identifier(_THROUGH),
            same_id(sql, (key, sql.Identifier(_THROUGH, key.name)), (leads, self.now.column(leads))),
        )

    def _fingerprints(self) -> Any:
        columns = [self.store.tokens.column(name) for name in sorted(self.secrets)]
        found = [(column.name, shown.fingerprint(self.sql, column, self.now.column(column))) for column in columns]
        return shown.secrets_object(self.sql, found)
