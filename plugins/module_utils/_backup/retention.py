# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay and which go: by age, by count, and one for each of the last days, weeks, months and years.

Only verified backups count. The newest verified one never goes; one that is not verified goes by its age alone, and only when a newer
verified one is there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import given_parts
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import flush_folder
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import DELETED
from ansible_collections.pgops.runbook.plugins.module_utils._duration import time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

AHEAD = timedelta(minutes=5)  # what the clocks of a server and of this host may differ

# Of which period a moment is, by the calendar in UTC. A week begins on Monday and belongs to the year that has its Thursday.
_PERIODS: Dict[str, Callable[[datetime], Tuple[int, ...]]] = {
    "daily": lambda moment: (moment.year, moment.month, moment.day),
    "weekly": lambda moment: tuple(moment.isocalendar())[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: (moment.year,),
}


@dataclass(frozen=True)
class Keep:
    """What stays: what is younger than `age` (seconds), the newest `count`, and the newest of each of so many days, weeks, ...

    A backup stays when one of the rules that are given wants it. Days on which there is no backup are not counted. Without any rule
    everything stays.
    """

    age: float | None = None
    count: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None

    @property
    def given(self) -> bool:
        """Whether there is any rule."""
        return any(getattr(self, one.name) is not None for one in fields(self))


def read_keep(given: Mapping[str, Any] | None, path: str = "keep") -> Keep:
    """Return the rules that the option at `path` says; parts that are null or empty are not given. Raises InvalidValue, which names it."""
    parts = given_parts(given)
    unknown = sorted(set(parts) - {one.name for one in fields(Keep)})
    if unknown:
        allowed = ", ".join(one.name for one in fields(Keep))
        raise InvalidValue(f"{path}: {unknown[0]!r} is no rule; there are {allowed}", object_name=path)
    rules: Dict[str, Any] = {}
    for name, value in parts.items():
        if name == "age":
            rules[name] = time_to_wait(value, f"{path}.age")
        elif isinstance(value, bool) or not str(value).strip().isdigit() or int(value) < 1:
            raise InvalidValue(f"{path}.{name}: {value!r} is not a number of backups from 1 up", object_name=f"{path}.{name}")
        else:
            rules[name] = int(value)
    return Keep(**rules)


@dataclass(frozen=True)
class RetentionPlan:
    """What stays, newest first, each with the rules that want it, and what goes, oldest first."""

    keep: List[Tuple[Head, List[str]]]
    delete: List[Head]


@dataclass(frozen=True)
class Purged:
    """The names of backups that went, and what kept others from going."""

    names: List[str]
    faults: List[str]


def plan_retention(heads: Sequence[Head], keep: Keep, now: datetime) -> RetentionPlan:
    """Return what of one series of backups stays and what goes. Raises InvalidValue where they are of several series.

    Those of another scope are counted apart: the backup of a table takes no place from that of the whole database. One that was taken in
    the future, by a clock that was wrong, stays and counts for nothing: else it would pass for the newest for as long as it lies ahead.
    """
    if len({head.series for head in heads}) > 1:
        several = ", ".join(sorted({f"{head.database}/{head.name} of server {head.system_identifier}" for head in heads}))
        raise InvalidValue(f"the backups of several databases or names are not counted together: {several}")
    wanted: Dict[str, List[str]] = {}
    for scope in sorted({head.scope for head in heads}):
        wanted.update(_wanted([head for head in heads if head.scope == scope], keep, now))
    ordered = sorted(heads, key=_order, reverse=True)
    stays = [(head, wanted[head.folder]) for head in ordered if wanted[head.folder]]
    return RetentionPlan(stays, [head for head in reversed(ordered) if not wanted[head.folder]])


def _wanted(heads: Sequence[Head], keep: Keep, now: datetime) -> Dict[str, List[str]]:
    """Return for each backup of one scope why it stays: nothing for one that goes."""
    ordered = sorted(heads, key=_order, reverse=True)
    wanted: Dict[str, List[str]] = {head.folder: [] for head in ordered}
    past = [head for head in ordered if head.taken_at <= now + AHEAD]
    verified = [head for head in past if head.verified]
    for head in ordered[: len(ordered) - len(past)]:
        wanted[head.folder].append("taken in the future")
    for head in verified[:1]:
        wanted[head.folder].append("newest verified")
    for head in past:
        if not keep.given:
            wanted[head.folder].append("no rule")
        elif not head.verified and keep.age is None:
            wanted[head.folder].append("not verified, which only an age would delete")
        elif not head.verified and (not verified or _order(verified[0]) < _order(head)):
            wanted[head.folder].append("nothing newer is verified")
        if keep.age is not None and head.taken_at > now - timedelta(seconds=keep.age):
            wanted[head.folder].append("age")
    for head in verified[: keep.count or 0]:
        wanted[head.folder].append("count")
    for rule, period in _PERIODS.items():
        for head in _newest_of_each(verified, period, getattr(keep, rule) or 0):
            wanted[head.folder].append(rule)
    return wanted


def purge(folder: Path, plan: RetentionPlan) -> Purged:
    """Delete what the plan says. Each is renamed first, so that half of one is never taken for a backup; a later run finishes it."""
    names: List[str] = []
    faults: List[str] = []
    for head in plan.delete:
        gone = folder / f"{DELETED}{head.folder}"
        try:
            (folder / head.folder).rename(gone)
            flush_folder(folder)
        except OSError as error:
            faults.append(f"{head.folder} could not be deleted: {error.strerror}")
            continue
        names.append(head.folder)
        try:
            shutil.rmtree(str(gone))
        except OSError as error:
            faults.append(f"{head.folder} could not be deleted whole, its rest is {gone.name}: {error.strerror}")
    return Purged(names, faults)


def _order(head: Head) -> Tuple[datetime, datetime, str]:
    return head.taken_at, head.finished_at, head.folder


def _newest_of_each(newest_first: Sequence[Head], period: Callable[[datetime], Tuple[int, ...]], count: int) -> List[Head]:
    newest: Dict[Tuple[int, ...], Head] = {}
    for head in newest_first:
        newest.setdefault(period(head.taken_at.astimezone(timezone.utc)), head)
    return list(newest.values())[:count]
