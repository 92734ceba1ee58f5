# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the throttle watches: each of its limits has a part of the one query, and a reading of what that part returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

Facts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Measured:
    """What was measured, in seconds or as a count, and whose it is."""

    value: float
    who: str | None = None


class Unseen:
    """What the role or the server does not show, each said once."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str], dict[str, Any]] = {}

    def note(self, what: str, reason: str, hint: str | None) -> None:
        """Note that `what` is not seen in full, why, and what would show it; the first note of one reason stands."""
        self._notes.setdefault((what, reason), {"what": what, "reason": reason, "hint": hint})

    def as_result(self) -> list[dict[str, Any]]:
        """Return every note."""
        return [dict(each) for each in self._notes.values()]


class Watch:
    """One limit: `name` as the option has it, `unit` of what is measured (s, or what is counted)."""

    name = ""
    unit = ""

    def __init__(self, unseen: Unseen) -> None:
        self.unseen = unseen

    def query(self, database: Any, now: float) -> Any:
        """Return the part of the query for this limit, with the columns `what` and `facts`; None where nothing is asked this time."""
        raise AssertionError(f"{type(self).__name__} asks nothing")

    def measured(self, database: Any, facts: Facts, now: float) -> Measured | None:
        """Return what the rows of the part say, at the monotonic time `now`; None where they say nothing."""
        raise AssertionError(f"{type(self).__name__} measures nothing")


def grant(database: Any, role: str) -> str:
    """Return the advice to make this session's role a member of `role`, as a person can copy it."""
    name = database.user.replace('"', '""')
    return f'As a superuser: GRANT {role} TO "{name}";'
