# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what is watched: thresholds, targets, sessions, contacts."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.checks import CHECKS
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Check, Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import (
    COLUMN,
    DURATION,
    SIZE,
    TABLE,
    TEXT,
    Choice,
    Kind,
    Number,
    Quantity,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

SEVERITIES = ("warning", "critical", "unknown")


class Plain(Kind):
    """A duration or size that is kept as its plain number."""

    def __init__(self, quantity: Quantity) -> None:
        self.noun, self.quantity = quantity.noun, quantity

    def read(self, value: Any, path: str, faults: Faults) -> float | None:
        return None if self.quantity.read(value, path, faults) is None else self.quantity.parse(value)


class CheckId(Kind):
    """The id of a health check."""

    noun = "the id of a check"

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        if isinstance(value, str) and value in CHECKS:
            return value
        faults.add(path, one_of(value, CHECKS, "the checks"))
        return None


def _limits(unit: str | None, check: Check) -> Group:
    kinds: dict[str | None, Kind] = {
        "seconds": Plain(DURATION),
        "bytes": Plain(SIZE),
        "percent": Number("a percentage", 0),
        "count": Number(),
    }
    kind = kinds.get(unit, Number())
    limits = {
        "warning": Field(kind, "the value beyond which it warns; the value itself is still within"),
        "critical": Field(kind, "the value beyond which it is critical"),
        "minimum": Field(Number(), "the least sample that is judged, for a check that has one"),
    }
    return Group("a threshold", {**(limits if unit else {}), "action": Field(TEXT, "what to do about it")}, check=check)


class Thresholds(Named):
    """Thresholds by the id of their check, each in the unit of that check: seconds, bytes, percent or a count."""

    def __init__(self) -> None:
        super().__init__(CheckId(), _limits("count", _nothing))

    def value_kind(self, name: str | None) -> Kind:
        fact = CHECKS.get(name or "")
        return _limits(fact.unit, _order(fact.worse)) if fact else _limits("count", _nothing)


def _nothing(limits: dict[str, Any], path: str, faults: Faults) -> None:
    """Look at nothing: the check is not known, which is a fault already."""


def _order(worse: str) -> Check:
    def check(limits: dict[str, Any], path: str, faults: Faults) -> None:
        warning, critical = limits.get("warning"), limits.get("critical")
        if warning is None or critical is None:
            return
        if critical < warning if worse == "above" else critical > warning:
            side = "at or above" if worse == "above" else "at or below"
            faults.add(join(path, "critical"), f"{shown(critical)} comes before the warning at {warning}: it must be {side} it")

    return check


TARGETS = Group(
    "service targets",
    {
        "availability_pct": Field(Number("a percentage from 0 to 100", 0, 100), "the share of time that it must be available"),
        "p95": Field(DURATION, "the time within which 95 % of queries end"),
        "cache_hit_pct": Field(Number("a percentage from 0 to 100", 0, 100), "the share of reads from memory"),
    },
)

SESSIONS = Group(
    "limits of sessions",
    {
        "query_over": Field(DURATION, "in an emergency, queries that run longer are ended"),
        "idle_in_transaction_over": Field(DURATION, "in an emergency, transactions idle for longer are ended"),
        "idle_over": Field(DURATION, "in an emergency, sessions idle for longer are ended"),
    },
)

ACCESS_LOG = Group(
    "an access log",
    {
        "table": Field(TABLE, "the table that records who read what", required=True),
        "at": Field(TIME, "when", required=True),
        "user": Field(COLUMN, "who", required=True),
        "resource": Field(COLUMN, "what kind of thing was read"),
        "kind": Field(COLUMN, "the kind of access"),
        "cross_user": Field(TEXT, "the kind that means one user read what belongs to another"),
        "window": Field(DURATION, "how far back accesses of one user are counted", default="1 h"),
        "review": Field(DURATION, "how far back the daily review looks", default="24 h"),
    },
)

CONTACT = Group(
    "a contact",
    {
        "name": Field(TEXT, "the role", required=True),
        "address": Field(TEXT, "how to reach it"),
        "call_for": Field(Listing(TEXT, named=ITSELF), "when to call", default=[]),
        "severities": Field(Listing(Choice(*SEVERITIES), named=ITSELF), "findings that go to it", default=["critical"]),
    },
)
