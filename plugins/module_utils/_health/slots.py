# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication slots: idle ones, what they retain, and what they have lost."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Check,
    Limits,
    Reading,
    skipped,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.replicas import MEGABYTE, WAL, behind, number, setting
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, span

Slot = Mapping[str, Any]

# Every column that this version has: which there are tells what it can say.
SLOTS = Fact(
    "wal_slots",
    "SELECT coalesce(json_agg(to_jsonb(s) || jsonb_build_object('inactive_for', extract(epoch FROM clock_timestamp()"
    " - (to_jsonb(s) ->> 'inactive_since')::timestamptz)::float8) ORDER BY slot_name), '[]') FROM pg_replication_slots AS s",
)
NONE = "there is no replication slot"
# What a slot may retain by default: bytes where the server sets no limit, else percent of the limit.
RETAINED, WARNING_PCT, CRITICAL_PCT = 10 << 30, 50.0, 80.0
# What is kept for the next run: since when (seconds since the epoch) a slot was seen without a receiver at every run.
SEEN = "slot.inactive"


def _slots(look: Look) -> List[Slot]:
    """Return the slots, and note them for the report."""
    found: List[Slot] = look.fact(SLOTS)
    look.details["slots"] = [
        {
            "name": slot["slot_name"],
            "kind": slot["slot_type"],
            "database": slot["database"],
            "active": slot["active"],
            "retained_bytes": behind(look, slot["restart_lsn"]) or 0,
            "wal_status": slot.get("wal_status"),
            "inactive_since": slot.get("inactive_since"),
            "invalidation_reason": slot.get("invalidation_reason"),
        }
        for slot in found
    ]
    return found


def _inactive(look: Look, limits: Limits) -> Iterable[Reading]:
    slots = look.seen(_slots)
    # A slot that is synchronised from the primary has its receiver there, and still says so once this server is promoted; one that is
    # lost cannot have any.
    standby = look.fact(WAL)["standby"]
    idle = [slot for slot in slots if not (slot["active"] or (standby and slot.get("synced")) or _dead(slot))]
    before = _seen_before(look)
    since = {slot["slot_name"]: before.get(slot["slot_name"], look.now.timestamp()) for slot in idle}
    look.kept[SEEN] = since
    readings = [_idle(look, slot, look.now.timestamp() - since[slot["slot_name"]], slot["slot_name"] in before) for slot in idle]
    return readings or [Reading(f"{counted(len(slots), 'slot')}, none without its receiver" if slots else NONE)]


def _seen_before(look: Look) -> Dict[str, float]:
    kept = look.history.previous.kept.get(SEEN) if look.history.previous else None
    return {name: float(at) for name, at in kept.items() if isinstance(at, (int, float))} if isinstance(kept, Mapping) else {}


def _idle(look: Look, slot: Slot, watched: float, seen_before: bool) -> Reading:
    name, keeps = slot["slot_name"], _keeps(look, slot)
    if slot.get("inactive_for") is not None:
        seconds = max(0.0, slot["inactive_for"])
        return Reading(f"{_called(slot)} has had no receiver for {span(seconds)}, {keeps}", round(seconds, 3), name, action=_advice(slot))
    if seen_before:
        message = f"{_called(slot)} has had no receiver for at least {span(watched)}, {keeps}"
        return Reading(message, round(watched, 3), name, action=_advice(slot))
    message = f"{_called(slot)} has no receiver, {keeps}; since when is not known"
    action = (
        "Run again: with a history, the next run knows for how long. PostgreSQL tells it from version 17 on. If nobody will come back: "
    )
    return Reading(message, object_name=name, status=UNKNOWN, action=action + _drop(slot))


def _retained(look: Look, limits: Limits) -> Iterable[Reading]:
    slots = look.seen(_slots)
    return [_retains(look, slot, limits) for slot in slots] or [Reading(NONE, 0.0)]


def _retains(look: Look, slot: Slot, limits: Limits) -> Reading:
    kept, allowed = behind(look, slot["restart_lsn"]) or 0, _allowed(look)
    message = f"{_called(slot)} keeps {format_size(kept)} of WAL" if slot["restart_lsn"] else f"{_called(slot)} keeps no WAL"
    status = None
    if allowed is not None and not _dead(slot):
        used = 100.0 * kept / max(1, allowed)
        message += f", {used:.1f} % of the {format_size(allowed)} that max_slot_wal_keep_size allows"
        status = _by_share(used, limits, kept)
    return Reading(message, float(kept), slot["slot_name"], status=status, action=_advice(slot))


def _by_share(used: float, limits: Limits, kept: int) -> str | None:
    """Return what a share of the server's limit means where nobody has set thresholds in bytes; None lets those judge."""
    if limits.sources.get("warning") != "default" or limits.critical is not None:
        return None
    return CRITICAL if used > CRITICAL_PCT else WARNING if used > WARNING_PCT else OK


def _allowed(look: Look) -> int | None:
    """Return how many bytes a slot may keep, None for any number. What is kept for all standbys is kept for slots, too."""
    limit = number(look, "max_slot_wal_keep_size", -1)
    return None if limit < 0 else max(limit, number(look, "wal_keep_size")) * MEGABYTE


def _wal_status(look: Look, limits: Limits) -> Iterable[Reading]:
    slots = look.seen(_slots)
    if setting(look, "max_slot_wal_keep_size") is None:
        return skipped("this version says nothing of it: before PostgreSQL 13 a slot keeps its WAL, however much that is")
    readings = []
    for slot in slots:
        if _lost(slot):
            message = f"{_called(slot)} has lost WAL that its receiver still needs"
            readings.append(Reading(message, object_name=slot["slot_name"], status=CRITICAL, action=_rebuild(slot)))
        elif slot["wal_status"] == "unreserved":
            message = f"{_called(slot)} is about to lose WAL: the next checkpoint may remove what its receiver still needs"
            readings.append(Reading(message, object_name=slot["slot_name"], status=WARNING, action=_advice(slot)))
    return readings or [Reading(f"{counted(len(slots), 'slot')}, none of which has lost WAL or is about to" if slots else NONE)]


def _invalidated(look: Look, limits: Limits) -> Iterable[Reading]:
    slots = look.seen(_slots)
    if slots and "conflicting" not in slots[0]:
        return skipped("this version says nothing of it: before PostgreSQL 16 slots only lose WAL, see slot.wal_status")
    readings = []
    # That is one fault, and slot.wal_status tells it.
    lost = [slot for slot in slots if _lost(slot)]
    for slot in slots:
        if slot in lost:
            continue
        reason = slot.get("invalidation_reason") or ("a conflict with recovery" if slot.get("conflicting") else None)
        if reason is not None:
            message = f"{_called(slot)} was invalidated and can never be used again: {reason}"
            readings.append(Reading(message, object_name=slot["slot_name"], status=CRITICAL, action=_rebuild(slot)))
    other = f" but {len(lost)} that lost WAL, see slot.wal_status" if lost else ""
    return readings or [Reading(f"{counted(len(slots), 'slot')}, none of them invalidated{other}" if slots else NONE)]


def _lost(slot: Slot) -> bool:
    reason = slot.get("invalidation_reason")
    return bool(slot.get("wal_status") == "lost" and reason in (None, "wal_removed") and not slot.get("conflicting"))


def _dead(slot: Slot) -> bool:
    return bool(slot.get("wal_status") == "lost" or slot.get("invalidation_reason") or slot.get("conflicting"))


def _called(slot: Slot) -> str:
    return f"the logical slot of {slot['database']}" if slot["slot_type"] == "logical" else "the physical slot"


def _keeps(look: Look, slot: Slot) -> str:
    kept = behind(look, slot["restart_lsn"])
    return "and was never used" if kept is None else f"and keeps {format_size(kept)} of WAL"


def _drop(slot: Slot) -> str:
    # A slot's name has lower case letters, digits and underscores only.
    return _DROP_ONE.replace("<slot>", slot["slot_name"])


def _advice(slot: Slot) -> str:
    return f"Bring its receiver back or make it faster. If nobody will come back: {_drop(slot)}"


def _rebuild(slot: Slot) -> str:
    again = "make the subscription again" if slot["slot_type"] == "logical" else "make its standby anew or let it restore from the archive"
    return f"{_drop(slot)} Then {again}: nothing else brings it back."


_DROP_ONE = "SELECT pg_drop_replication_slot('<slot>');"
_DROP = f"Bring the receiver back. If nobody will come back, run {_DROP_ONE} where the slot is."
_FACTS: Tuple[Fact, ...] = (SLOTS, WAL)
_COMMON: Dict[str, Any] = {"tier": "hourly", "needs": "nothing: pg_replication_slots is open to every role", "facts": _FACTS}
CHECKS: List[Check] = [
    Check(
        id="slot.inactive",
        title="Slots without a receiver",
        looks_at="How long each replication slot has been without a receiver: inactive_since (PostgreSQL 17 and later), else how long runs "
        "with a history have found it so. Slots that are synchronised from a primary, or lost, do not count.",
        action=_DROP,
        run=_inactive,
        unit="seconds",
        warning=600,
        decides={"unknown": "nobody can say since when"},
        **_COMMON,
    ),
    Check(
        id="slot.retained",
        title="WAL that slots retain",
        looks_at="The bytes between the oldest WAL that each slot keeps and the end of the WAL; on a standby, the end of what it has "
        f"received. Where max_slot_wal_keep_size sets a limit and nobody sets a threshold, {WARNING_PCT:g} % of it is a warning and "
        f"{CRITICAL_PCT:g} % critical.",
        action=_DROP,
        run=_retained,
        unit="bytes",
        warning=RETAINED,
        decides={"critical": f"over {CRITICAL_PCT:g} % of max_slot_wal_keep_size, where it is set"},
        **_COMMON,
    ),
    Check(
        id="slot.wal_status",
        title="Slots keep the WAL that they need",
        looks_at="wal_status of every slot (PostgreSQL 13 and later).",
        action=_DROP,
        run=_wal_status,
        decides={"warning": "unreserved", "critical": "lost"},
        **_COMMON,
    ),
    Check(
        id="slot.invalidated",
        title="Slots are valid",
        looks_at="invalidation_reason (PostgreSQL 17 and later) or conflicting (16) of every slot. One that has lost WAL is told by "
        "slot.wal_status.",
        action="Drop the slot and make what used it anew: it never becomes valid again.",
        run=_invalidated,
        decides={"critical": "invalidated"},
        **_COMMON,
    ),
]
