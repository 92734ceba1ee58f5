# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WAL: whether the archiver gets on, and how much lies in pg_wal."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    WARNING,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    skipped,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.replicas import MEGABYTE, WAL, number, setting
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, span
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import segment_number, wal_bytes

ARCHIVER = Fact(
    "wal_archiver",
    """
SELECT json_build_object(
    'archived', last_archived_wal, 'archived_age', extract(epoch FROM clock_timestamp() - last_archived_time)::float8,
    'failed', last_failed_wal, 'failed_age', extract(epoch FROM clock_timestamp() - last_failed_time)::float8,
    'failures', failed_count, 'counted_for', extract(epoch FROM clock_timestamp() - stats_reset)::float8)
FROM pg_stat_archiver
""",
)
READY = Fact(
    "wal_ready",
    """
SELECT json_build_object('files', count(*), 'oldest', extract(epoch FROM clock_timestamp() - min(modification))::float8)
FROM pg_ls_archive_statusdir() WHERE right(name, 6) = '.ready'
""",
    functions=("pg_ls_archive_statusdir",),
)
FOLDER = Fact(
    "wal_folder",
    "SELECT json_build_object('files', count(*), 'bytes', coalesce(sum(size), 0)) FROM pg_ls_waldir()",
    functions=("pg_ls_waldir",),
)
_LOG = "Read what the command says in the server's log, and run it by hand as the server's account. "
_KEPT = "Until then the server keeps all WAL, and stops once the disk is full."


def _idle(look: Look) -> str | None:
    """Return why this server archives nothing; None where it should."""
    mode = setting(look, "archive_mode")
    if mode == "off":
        return "archive_mode is off"
    if look.fact(WAL)["standby"] and mode != "always":
        return "a standby archives nothing unless archive_mode is always"
    return None


def _without_command(look: Look) -> bool:
    """Whether WAL is to be archived and nothing does it."""
    return setting(look, "archive_command") == "false" and setting(look, "archive_library") in (None, "false")


def _failing(look: Look, limits: Limits) -> Iterable[Reading]:
    idle = _idle(look)
    if idle is not None:
        return skipped(idle)
    seen = look.fact(ARCHIVER)
    metrics = {"wal.archive_failures_total": float(seen["failures"])}
    if seen["failed_age"] is None or (seen["archived_age"] is not None and seen["archived_age"] <= seen["failed_age"]):
        last = f"{seen['archived']} was archived {span(seen['archived_age'])} ago" if seen["archived"] else "nothing has been archived yet"
        return [Reading(f"the last attempt did not fail: {last}", 0.0, metrics=metrics)]
    ready = _ready(look)
    if ready is not None and not ready["files"]:
        return [Reading(f"{seen['failed']} failed {span(seen['failed_age'])} ago, and no file waits any more", 0.0, metrics=metrics)]
    what = f"{seen['failed']} could not be archived, last {span(seen['failed_age'])} ago"
    if ready is not None:
        # The oldest file has waited since it was complete.
        seconds = round(max(0.0, ready["oldest"]), 3)
        message = f"{what}; {counted(ready['files'], 'file')} wait, the oldest for {span(seconds)}"
        return [Reading(message, seconds, action=_LOG + _KEPT, metrics=metrics)]
    return [_failing_at_most(look, limits, what, seen, metrics)]


def _failing_at_most(look: Look, limits: Limits, what: str, seen: Mapping[str, Any], metrics: Mapping[str, float]) -> Reading:
    """Judge a failure of which only the last success before it is known: it is a warning at least."""
    ages = [age for age in (seen["archived_age"], seen["counted_for"]) if age is not None]
    longest = max(0.0, min(ages, default=0.0))
    message = f"{what}; the last success before it was {span(longest)} ago" if seen["archived"] else f"{what}, and nothing was before it"
    waiting = _backlog(look, seen)
    more = f"; {counted(waiting, 'segment')} wait" if waiting is not None else ""
    sure = judge(FAILING, limits, longest)[0] == judge(FAILING, limits, seen["failed_age"])[0]
    return Reading(message + more, round(longest, 3), status=None if sure else WARNING, action=_LOG + _KEPT, metrics=metrics)


def _stuck(look: Look, limits: Limits) -> Iterable[Reading]:
    idle = _idle(look)
    if idle is not None:
        return skipped(idle)
    if _without_command(look):
        message = "archive_mode is on, and neither archive_command nor archive_library says what to do: all WAL is kept"
        action = "Set archive_command or archive_library, or archive_mode to off. " + _KEPT
        ready = _ready(look)
        return [Reading(message, ready["oldest"] if ready else None, status=WARNING, action=action)]
    ready = _ready(look)
    if ready is not None:
        metrics = {"wal.archive_waiting": float(ready["files"])}
        if not ready["files"]:
            return [Reading("no file waits to be archived", 0.0, metrics=metrics)]
        seconds = round(max(0.0, ready["oldest"]), 3)
        return [Reading(f"{counted(ready['files'], 'file')} wait to be archived, the oldest for {span(seconds)}", seconds, metrics=metrics)]
    waiting = _backlog(look, look.fact(ARCHIVER))
    if waiting == 0:
        return [Reading("every complete segment has been archived", 0.0)]
    # Which are raised again, with the grant.
    look.fact(READY)
    return []


def _ready(look: Look) -> Any:
    """Return how many files wait and how long the oldest has; None where the role may not look."""
    try:
        return look.fact(READY)
    except Unseen:
        return None


def _backlog(look: Look, seen: Mapping[str, Any]) -> int | None:
    """Return how many complete segments come after the last archived one, None where that was no segment."""
    size = number(look, "wal_segment_size")
    last = segment_number(seen["archived"], size)
    position = look.fact(WAL)["position"]
    return None if last is None or position is None else max(0, wal_bytes(position) // size - last - 1)


def _folder(look: Look, limits: Limits) -> Iterable[Reading]:
    found = look.fact(FOLDER)
    keep = number(look, "wal_keep_size") * MEGABYTE + number(look, "wal_keep_segments") * number(look, "wal_segment_size")
    most = number(look, "max_wal_size") * MEGABYTE
    percent = round(100.0 * found["bytes"] / max(1, most + keep), 1)
    kept = f" and the {format_size(keep)} kept for standbys" if keep else ""
    message = f"{format_size(found['bytes'])} in {counted(found['files'], 'file')}, {percent} % of max_wal_size ({format_size(most)}){kept}"
    return [Reading(message, percent, metrics={"wal.dir_bytes": float(found["bytes"])})]


FAILING = Check(
    id="wal.archive_failing",
    title="WAL is archived without failure",
    tier="hourly",
    looks_at="Whether the archiver's last attempt failed, and for how long the oldest file waits meanwhile; without the privilege to see "
    "that, when it last succeeded. On a standby only with archive_mode = always.",
    action=_LOG + _KEPT,
    needs="nothing; pg_monitor to see for how long",
    run=_failing,
    facts=(WAL, ARCHIVER, READY),
    unit="seconds",
    warning=0,
    critical=900,
)
CHECKS: List[Check] = [
    FAILING,
    Check(
        id="wal.archive_stuck",
        title="WAL is archived in time",
        tier="hourly",
        looks_at="How long the oldest file in pg_wal/archive_status has waited for the archiver, whether or not that fails; and whether "
        "archive_mode is on with nothing that archives. On a standby only with archive_mode = always.",
        action=f"Look whether the archive_command hangs, and whether the archive can keep up with the WAL that is written. {_KEPT}",
        needs="pg_monitor, unless all has been archived",
        run=_stuck,
        facts=(WAL, ARCHIVER, READY),
        unit="seconds",
        warning=900,
        decides={"warning": "also nothing that archives"},
    ),
    Check(
        id="wal.dir_size",
        title="Size of pg_wal",
        tier="hourly",
        looks_at="The bytes in pg_wal as a share of max_wal_size and what wal_keep_size keeps beyond it.",
        action="Look what keeps it: a slot (slot.retained), the archiver (wal.archive_failing), or a burst of writes, after which "
        "checkpoints bring it back. Never remove files from pg_wal by hand.",
        needs="pg_monitor",
        run=_folder,
        facts=(WAL, FOLDER),
        unit="percent",
        warning=200,
        critical=400,
    ),
]
