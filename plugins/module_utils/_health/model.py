# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is, what it reads, and how a reading is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, Mapping, Tuple, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject, RunbookError

if TYPE_CHECKING:
    from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
    from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look

OK, WARNING, CRITICAL, UNKNOWN, SKIPPED = "ok", "warning", "critical", "unknown", "skipped"
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE
# From best to worst. Something that is known to be wrong outweighs something that could not be seen.
STATUSES = (SKIPPED, OK, UNKNOWN, WARNING, CRITICAL)

Thing = TypeVar("Thing")


class Unseen(RunbookError):
    """The role may not see what a check needs. `hint` is the statement that would change that."""


@dataclass(frozen=True)
class Limits:
    """The thresholds of one check. `sources` says for each where it comes from: default, system or call.

    `minimum` is the least sample that is judged; `action` the operator's own words for what to do.
    """

    warning: float | None = None
    critical: float | None = None
    minimum: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    action: str | None = None


@dataclass(frozen=True)
class Reading:
    """What a check found on one object (or, with an empty name, on the whole database).

    `amount` is compared with the thresholds unless the check has decided on a `status` itself. `action`, where given,
    goes before every other advice: it fixes this very case. `metrics` are further numbers, by name. `told` says that
    another finding tells the reason already.
    """

    message: str
    amount: float | None = None
    object_name: str = ""
    status: str | None = None
    action: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    error: RunbookError | None = None
    told: bool = False


@dataclass(frozen=True)
class Check:
    """One question to a database.

    `looks_at`, `action` and `needs` are sentences for people: what is read, what to do about a finding, which privilege
    it takes. `decides` says what is a warning or critical without a threshold. `unit` is seconds, bytes, percent, count,
    or None where there is nothing to compare; `worse` the direction in which the value gets worse. `minimum_of` says what
    `minimum` counts. `facts` are what it asks the server, together with the facts of the other checks. `exists` is false where
    a system has thresholds for it and no code looks.
    """

    id: str
    title: str
    tier: str
    looks_at: str
    action: str
    needs: str
    run: Callable[[Look, Limits], Iterable[Reading]]
    unit: str | None = None
    worse: str = "above"
    warning: float | None = None
    critical: float | None = None
    minimum: float | None = None
    minimum_of: str = ""
    decides: Mapping[str, str] = field(default_factory=dict)
    facts: Tuple[Fact, ...] = ()
    exists: bool = True

    @property
    def group(self) -> str:
        """The first part of the id."""
        return self.id.split(".", 1)[0]

    @property
    def sign(self) -> int:
        """1 where a higher value is worse, -1 where a lower one is."""
        return -1 if self.worse == "below" else 1


def judge(check: Check, limits: Limits, amount: float | None) -> tuple[str, str | None]:
    """Return the status of `amount` and the name of the threshold that it passed, if any. A threshold itself is still within."""
    sign = check.sign
    for status in (CRITICAL, WARNING):
        bound = limits.critical if status == CRITICAL else limits.warning
        if amount is not None and bound is not None and sign * amount > sign * bound:
            return status, status
    return OK, None


def unknown(error: RunbookError, object_name: str = "") -> Reading:
    """Return the reading of a check that failed on an object: never ok, never a number."""
    return Reading(error.message, object_name=object_name, status=UNKNOWN, action=_advice(error), error=error)


def skipped(reason: str) -> list[Reading]:
    """Return the readings of a check that has nothing to say here."""
    return [Reading(reason, status=SKIPPED)]


def per_object(things: Iterable[Tuple[str, Thing]], read: Callable[[str, Thing], Reading]) -> Iterator[Reading]:
    """Yield the reading of each named thing; one that fails is unknown and takes no other with it."""
    for name, thing in things:
        try:
            yield read(name, thing)
        except RunbookError as error:  # noqa: PERF203  (one thing must not end the loop)
            yield unknown(error, name)


def _advice(error: RunbookError) -> str | None:
    # What the session says of these is about options that a check does not use.
    if error.sqlstate in _BY_SQLSTATE:
        return _BY_SQLSTATE[error.sqlstate]
    if error.hint is None and isinstance(error, MissingObject):
        return "Create it, or correct the system description."
    return error.hint


_BY_SQLSTATE = {
    LOCK_NOT_AVAILABLE: "Another session holds or waits for an exclusive lock on the table: run again once it has ended.",
    "57014": "The check ran into check_timeout: give it more time, or an index on the columns that it reads.",
    "42501": "Grant the role what the error names; docs/checks.md lists what each check needs.",
}
