# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each finding since the run before: new, worse, better, the same, or resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._health.history.record import Baseline, Entry
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import SKIPPED, STATUSES, UNKNOWN, Reading

NEW, WORSE, BETTER, SAME = "new", "worse", "better", "same"
# What nobody could judge for so long is no longer kept: its server is gone, or what it was about.
FORGET_SECONDS = 30 * 86400.0
# Checks of this group are about the way to a server, whichever one stands at its end.
OF_ANY_SERVER = "avail."
# How the object of a finding ends that stands beside others and says that more may be hidden: sessions not seen.
REST = " not seen"


@dataclass(frozen=True)
class Sight:
    """What one check saw: whether it looked at all, what of it was hidden (everything of it: `blind`), whether nothing was there to judge
    (`idle`), and whether it learned nothing (`dark`)."""

    looked: bool
    blind: bool = False
    hidden: FrozenSet[str] = frozenset()
    idle: bool = False
    dark: bool = False

    @classmethod
    def of(cls, readings: Sequence[Reading], exists: bool = True) -> Sight:
        """Return the sight of a check that said this."""
        unseen = [reading for reading in readings if reading.status == UNKNOWN]
        looked = exists and not (unseen and all(reading.told for reading in readings))
        hidden = frozenset(reading.object_name for reading in unseen)
        blind = any(not name or name.endswith(REST) for name in hidden)
        return cls(looked, blind, hidden, all(reading.status == SKIPPED for reading in readings), len(unseen) == len(readings))

    def covers(self, name: str) -> bool:
        """Return whether the object of this name, or what it is part of, could be seen."""
        return self.looked and not self.blind and not any(name == each or name.startswith(f"{each}.") for each in self.hidden)


@dataclass(frozen=True)
class Comparison:
    """What is open now by key, what became of each finding of this run (None: nothing to compare with) and since when, what is resolved.

    `elsewhere` are the keys of findings that only another server can judge.
    """

    open: Dict[str, Entry]
    changes: Dict[str, Tuple[str | None, str]]
    resolved: List[Dict[str, Any]] = field(default_factory=list)
    elsewhere: List[str] = field(default_factory=list)


def compare(
    before: Baseline | None, found: Mapping[str, Mapping[str, Any]], sights: Mapping[str, Sight], at: float, server: str | None
) -> Comparison:
    """Compare the findings of a run, by key, with what was so before. Findings that are set aside have a `reason`.

    `at` is the time of the run (seconds since the epoch), `server` the id of the server that it looked at, None without a connection.
    """
    now = datetime.fromtimestamp(at, timezone.utc).isoformat()
    compared = Comparison({}, {})
    strange = before is not None and server is not None and server not in before.servers
    for key, finding in found.items():
        earlier = before.findings.get(key) if before else None
        check = finding["check"]
        uncertain = before is None or strange or check not in before.looked or bool(before.cut.get(check))
        compared.changes[key] = _change(earlier, finding, uncertain), _since(earlier, now)
        compared.open[key] = _entry(earlier, finding, compared.changes[key][1], at, server)
    for key, entry in before.findings.items() if before else ():
        if key not in found:
            _missing(compared, key, entry, sights.get(entry["check"]), at, server)
    compared.resolved.sort(key=lambda each: (-STATUSES.index(each["severity"]), each["key"]))
    return compared


def looked(sights: Mapping[str, Sight]) -> List[str]:
    """Return the checks that looked and learned something."""
    return [check for check, sight in sights.items() if sight.looked and not sight.dark]


def gone(before: Baseline | None, known: Iterable[str]) -> List[str]:
    """Forget the findings of checks that no longer exist, and return their keys."""
    findings, ids = before.findings if before else {}, set(known)
    keys = [key for key, entry in findings.items() if entry["check"] not in ids]
    for key in keys:
        del findings[key]
    return keys


def _change(earlier: Entry | None, finding: Mapping[str, Any], uncertain: bool) -> str | None:
    aside = "reason" in finding
    if earlier is None:
        return None if uncertain or aside else NEW
    if aside:
        return None
    if earlier.get("suppressed") or earlier.get("idle"):
        # Nobody was told of it, or there was nothing of it in between.
        return NEW
    was, severity = STATUSES.index(earlier["severity"]), STATUSES.index(finding["severity"])
    # What can no longer be seen has not become better.
    if was == severity or finding["severity"] == UNKNOWN:
        return SAME
    return WORSE if severity > was else BETTER


def _since(earlier: Entry | None, now: str) -> str:
    return now if earlier is None or earlier.get("idle") else min(earlier["first_seen"], now)


def _entry(earlier: Entry | None, finding: Mapping[str, Any], since: str, at: float, server: str | None) -> Entry:
    severity = finding["severity"]
    if earlier and severity == UNKNOWN and not earlier.get("idle"):
        severity = earlier["severity"]
    entry = {name: finding[name] for name in ("check", "title", "object", "message")}
    on = None if finding["check"].startswith(OF_ANY_SERVER) else server
    return {**entry, "severity": severity, "first_seen": since, "seen": at, "suppressed": "reason" in finding, "server": on}


def _missing(compared: Comparison, key: str, entry: Entry, sight: Sight | None, at: float, server: str | None) -> None:
    """Decide on a finding that this run has not: resolved only where it would have been seen."""
    stale = at - entry["seen"] > FORGET_SECONDS
    if sight is None or not sight.covers(entry["object"]):
        compared.open[key] = entry
    elif entry.get("server") not in (None, server):
        if not stale:
            compared.open[key] = entry
            compared.elsewhere.append(key)
    elif sight.idle:
        if not stale:
            compared.open[key] = {**entry, "idle": True}
    elif not entry.get("suppressed"):
        told = {name: entry[name] for name in ("check", "title", "object", "severity", "message", "first_seen")}
        compared.resolved.append({"key": key, **told})
