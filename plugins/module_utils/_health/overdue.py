# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when autovacuum is late for a table: it looks once in every naptime, and what has just come it need not have seen yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._health.counters import Counters, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, OK, WARNING, Check, Limits, Reading, judge

# After so many rounds of autovacuum a table that it should come to is overdue.
ROUNDS = 2
# Of so many tables it is kept since when they are over a limit, those first that are it for longest.
KEPT = 1000


def off(counters: Counters, relation: Relation) -> bool:
    """Return whether autovacuum does not come to the relation at all.

    The server takes every unambiguous beginning of false, off and no.
    """
    return counters.settings["autovacuum"] != "on" or off_for(relation)


def off_for(relation: Relation) -> bool:
    """Return whether autovacuum is off for the relation itself."""
    own = (relation.option("autovacuum_enabled") or "true").lower()
    return own == "0" or any(word.startswith(own) for word in ("false", "off", "no"))


@dataclass(frozen=True)
class Overdue:
    """For how many seconds each relation, by oid, has been over a limit of `check`; 0 where only this run knows of it."""

    check: Check
    limits: Limits
    counters: Counters
    seconds: Mapping[int, float]

    def judged(self, reading: Reading, relation: Relation) -> Reading:
        """Return the reading of a relation: critical only where autovacuum has had the time to come, or never comes."""
        status, _bound = judge(self.check, self.limits, reading.amount)
        patient = self.counters.naptime * ROUNDS
        if status == OK or off(self.counters, relation) or self.seconds.get(relation.oid, 0.0) >= patient:
            return reading
        naptime = format_duration(round(self.counters.naptime))
        words = "" if relation.oid in self.counters.vacuuming else f"; autovacuum may be on its way (autovacuum_naptime is {naptime})"
        return replace(reading, message=reading.message + words, status=WARNING if status == CRITICAL else None)


def overdue(look: Look, check: Check, limits: Limits, counters: Counters, amounts: Iterable[tuple[float, Relation]]) -> Overdue:
    """Return since when these relations are over a limit, and keep it for the next run."""
    now = look.now.timestamp()
    kept = look.history.previous.kept.get(check.id) if look.history.previous else None
    before = kept if isinstance(kept, Mapping) else {}
    since: Dict[str, float] = {}
    seconds: Dict[int, float] = {}
    for amount, relation in amounts:
        if judge(check, limits, amount)[0] == OK:
            continue
        first = before.get(relation.name)
        # A VACUUM since then has dealt with what was there.
        at = float(first) if isinstance(first, (int, float)) else now
        since[relation.name] = at if (relation.vacuumed or 0.0) <= at <= now else now
        seconds[relation.oid] = now - since[relation.name]
    look.kept[check.id] = dict(sorted(since.items(), key=lambda pair: pair[1])[:KEPT])
    return Overdue(check, limits, counters, seconds)
