# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person selects: criteria that are all to be met, read and checked before any connection is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._instant import EPOCH, Instant
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, shown, unknown_key

# The criteria that are lists of values; a token must have one of them.
LISTS = ("ids", "subjects", "clients", "tenants", "providers", "types", "scopes", "addresses", "families", "claims")
TIMES = ("issued_from", "issued_to")
CRITERIA = (*LISTS, *TIMES, "claim_pattern", "all")
# Criteria whose values name many tokens and are no bulk: they are shown in results as they are, up to so many.
SHOWN_VALUES = 20
_ZONE = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """Criteria joined by AND. `lists` are the values by criterion; the window is half open and in whole seconds.

    `written` are its ends as they were given, `claim_pattern` a pattern whose only wildcard is `*`.
    """

    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    issued_from: Instant | None = None
    issued_to: Instant | None = None
    claim_pattern: str | None = None
    all: bool = False
    written: Mapping[str, str] = field(default_factory=dict)

    def has(self, criterion: str) -> bool:
        """Return whether tokens are selected by `criterion`, one of CRITERIA."""
        return bool(self.lists.get(criterion)) if criterion in LISTS else bool(getattr(self, criterion))

    @property
    def rounded(self) -> bool:
        """Return whether an end of the window was moved to a whole second."""
        return any(_instant(self.written[key]) != getattr(self, key) for key in self.written)

    def as_result(self) -> dict[str, Any]:
        """Return the criteria for a result or an audit row: long lists only as their length, so that bulk ids flood nothing."""
        found: dict[str, Any] = {
            name: list(values) if len(values) <= SHOWN_VALUES else f"{len(values)} values" for name, values in self.lists.items() if values
        }
        found.update({key: str(getattr(self, key)) for key in TIMES if getattr(self, key)})
        if self.claim_pattern:
            found["claim_pattern"] = self.claim_pattern
        if self.all:
            found["all"] = True
        return found


def read_selection(value: Any, path: str, faults: Faults) -> Selection:
    """Return the selection written as a mapping of CRITERIA; what is None, empty or false counts as not given. Faults are noted."""
    if not isinstance(value, dict):
        faults.add(path, f"{shown(value)} is not a selection: write a mapping with some of {', '.join(CRITERIA)}")
        return Selection()
    given = {key: one for key, one in value.items() if one not in (None, "", [], False)}
    for key in given:
        if key not in CRITERIA:
            faults.add(join(path, key), unknown_key(key, CRITERIA))
    lists = {key: _values(given[key], join(path, key), faults) for key in LISTS if key in given}
    written = {key: str(given[key]) for key in TIMES if key in given}
    times = {key: _time(given[key], join(path, key), faults) for key in written}
    start, end = times.get("issued_from"), times.get("issued_to")
    selection = Selection(
        lists=lists,
        issued_from=start.down_to_second() if start else None,
        issued_to=end.up_to_second() if end else None,
        claim_pattern=_pattern(given.get("claim_pattern"), join(path, "claim_pattern"), faults),
        all=_all(given, path, faults),
        written=written,
    )
    if start and end and start.microseconds >= end.microseconds:
        faults.add(join(path, "issued_to"), f"{written['issued_to']} is not after issued_from, {written['issued_from']}")
    if not given:
        faults.add(path, f"selects nothing in particular: give some of {', '.join(CRITERIA)}; everything is all: true")
    return selection


def _all(given: Mapping[str, Any], path: str, faults: Faults) -> bool:
    if given.get("all") not in (None, True):
        faults.add(join(path, "all"), f"{shown(given['all'])} is not true or false")
    others = [key for key in given if key != "all" and key in CRITERIA]
    if given.get("all") and others:
        faults.add(join(path, "all"), f"cannot stand beside {', '.join(others)}, which select less than all")
    return given.get("all") is True


def _values(value: Any, path: str, faults: Faults) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    found = []
    for index, one in enumerate(values):
        at = join(path, index)
        if isinstance(one, bool) or not isinstance(one, (str, int)):
            faults.add(at, f"{shown(one)} is not a text or a whole number")
        elif not str(one).strip():
            faults.add(at, "is empty: an empty value would match what nobody meant")
        elif "\x00" in str(one):
            faults.add(at, "has a zero byte in it, which no column can hold")
        else:
            found.append(str(one))
    return tuple(dict.fromkeys(found))


def _pattern(value: Any, path: str, faults: Faults) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        faults.add(path, f"{shown(value)} is not a pattern such as admin* (every other character stands for itself)")
        return None
    if not value.replace("*", "").strip():
        faults.add(path, f"{shown(value)} matches every claim: use all: true, or leave it out")
    return value


def _time(value: Any, path: str, faults: Faults) -> Instant | None:
    found = _instant(value)
    if found is None:
        faults.add(path, f"{shown(str(value))} is not a time with its zone such as 2026-01-15T10:00:00Z or 2026-01-15 12:00:00+02:00")
    return found


def _instant(value: Any) -> Instant | None:
    """Return the instant of an ISO 8601 text or a datetime; None for anything else and for a time that does not say its zone."""
    if isinstance(value, datetime):
        at = value
    else:
        text = str(value).strip()
        if not _ZONE.search(text):
            return None
        try:
            at = datetime.fromisoformat(_plain(text))
        except ValueError:
            return None
    if at.tzinfo is None:
        return None
    since = at - EPOCH
    return Instant((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)


def _plain(text: str) -> str:
    """Return an ISO 8601 text as Python 3.8 reads it: zone +hh:mm, a fraction of six digits."""
    body, zone = _ZONE.split(text, maxsplit=1)[0], _ZONE.search(text).group(1)  # type: ignore[union-attr]
    if zone.upper() == "Z":
        zone = "+00:00"
    elif ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:] or '00'}"
    whole, dot, fraction = body.strip().partition(".")
    return whole + (f".{fraction[:6].ljust(6, '0')}" if dot else "") + zone
