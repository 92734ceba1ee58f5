# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The caches of the system: reachable, within their memory, protected, and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Iterable, List, Mapping, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._cache.errors import CacheClientMissing
from ansible_collections.pgops.runbook.plugins.module_utils._cache.state import CacheState, states
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health import words
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    WARNING,
    Check,
    Limits,
    Reading,
    skipped,
    unknown,
)

Entry = Mapping[str, Any]
Found = Tuple[str, Entry, Union[CacheState, RunbookError]]
Read = Callable[[CacheState, Entry], List[Reading]]


def _found(look: Look) -> List[Found]:
    entries = [entry for entry in look.system.get("caches") or () if entry["engine"] == "redis"]
    return [(name, entry, state) for entry, (name, state) in zip(entries, states(entries, look.expected.caches))]


def _every(look: Look, read: Read) -> Iterable[Reading]:
    """Return the readings of each cache. One that cannot be reached is redis.reachable's to tell of, and unknown here."""
    found = look.seen(_found)
    if not found:
        return skipped("the system has no cache")
    return [reading for name, entry, state in found for reading in _readings(name, entry, state, read)]


def _readings(name: str, entry: Entry, state: Union[CacheState, RunbookError], read: Read) -> List[Reading]:
    try:
        return read(_known(state), entry)
    except RunbookError as error:
        return [replace(unknown(error, name), told=isinstance(state, RunbookError))]


def _known(part: Any) -> Any:
    """Return what the server said. Raises the error where it said nothing."""
    if isinstance(part, RunbookError):
        raise part
    return part


def _reachable(look: Look, limits: Limits) -> Iterable[Reading]:
    found = look.seen(_found)
    if not found:
        return skipped("the system has no cache")
    return [_reach(name, entry, state) for name, entry, state in found]


def _reach(name: str, entry: Entry, state: Union[CacheState, RunbookError]) -> Reading:
    if isinstance(state, (CacheClientMissing, InvalidValue)):
        # That says nothing of the cache.
        return unknown(state, name)
    if isinstance(state, RunbookError):
        return Reading(state.message, object_name=name, status=CRITICAL, action=state.hint, error=state)
    info = _known(state.info) if not isinstance(state.info, RunbookError) else {}
    version = str(info.get("redis_version", ""))
    least = entry.get("least_version")
    if version and least and int(version.split(".", 1)[0]) < least:
        return Reading(f"Redis {version} is older than {least}, which the system needs", object_name=name, status=WARNING)
    role = f", {info['role']}" if info.get("role") else ""
    return Reading(f"answers{f', Redis {version}' if version else ''}{role}", object_name=name, status=OK)


def _memory(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(state: CacheState, entry: Entry) -> List[Reading]:
        info = _known(state.info)
        used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
        metrics = {f"redis.used_bytes[{state.place}]": float(used), f"redis.max_bytes[{state.place}]": float(limit) if limit else None}
        if not limit:
            message = f"uses {format_size(used)} and has no limit (maxmemory is 0): it grows until its host has no memory left"
            return [Reading(message, object_name=state.place, status=WARNING, metrics=metrics, action=_limit_action(entry))]
        percent = round(100.0 * used / limit, 1)
        return [Reading(f"uses {format_size(used)} of {format_size(limit)}", percent, state.place, metrics=metrics)]

    return _every(look, read)


def _limit_action(entry: Entry) -> str:
    size = entry.get("max_memory")
    return "Set maxmemory" + (f" to {size}" if size else "") + " and maxmemory-policy in its configuration."


def _policy(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(state: CacheState, entry: Entry) -> List[Reading]:
        settings = _known(state.settings)
        policy, limit = settings["maxmemory-policy"], int(settings["maxmemory"] or 0)
        faults = []
        if entry.get("eviction") and policy != entry["eviction"]:
            faults.append(f"drops by {policy}, declared is {entry['eviction']}")
        wanted = entry.get("max_memory_bytes")
        if wanted and limit != wanted:
            faults.append(f"its limit is {format_size(limit) if limit else 'none'}, declared is {entry['max_memory']}")
        if faults:
            return [Reading("; ".join(faults), object_name=state.place, status=WARNING)]
        return [Reading(f"drops by {policy}", object_name=state.place, status=OK)]

    return _every(look, read)


def _evictions(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(state: CacheState, entry: Entry) -> List[Reading]:
        metric = f"redis.evictions_total[{state.place}]"
        total = float(_known(state.info)["evicted_keys"])
        rate = look.history.rate(metric, total, look.now)
        if rate is None:
            said = f"{total:g} keys dropped since it started; {look.history.absence}"
            return [Reading(said, None if total else 0.0, state.place, metrics={metric: total})]
        dropped = round(rate[0] * rate[1])
        message = f"{words.counted(dropped, 'key')} dropped before their time since the run before, sessions among them"
        return [
            Reading(message if dropped else "no key dropped since the run before", float(dropped), state.place, metrics={metric: total})
        ]

    return _every(look, read)


def _password(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(state: CacheState, entry: Entry) -> List[Reading]:
        if not _known(state.open):
            return [Reading("lets nobody in without a password", object_name=state.place, status=OK)]
        status = CRITICAL if entry.get("password_required") else WARNING
        return [Reading("lets everybody in without a password, who then reads every session", object_name=state.place, status=status)]

    return _every(look, read)


def _commands(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(state: CacheState, entry: Entry) -> List[Reading]:
        wanted = entry.get("disabled_commands") or ()
        if not wanted:
            return [Reading("the system names no command that must be off", 0.0, state.place)]
        known = _known(state.known_commands)
        if not known:
            return [Reading(f"{', '.join(wanted)} cannot be run by their own name", 0.0, state.place)]
        action = f'In its configuration: rename-command {known[0]} "", then restart it.'
        return [Reading(f"{', '.join(known)} can be run by their own name", float(len(known)), state.place, action=action)]

    return _every(look, read)


def _persistence(look: Look, limits: Limits) -> Iterable[Reading]:
    def read(state: CacheState, entry: Entry) -> List[Reading]:
        info = _known(state.info)
        for name, what in (("rdb_last_bgsave_status", "its last save to disk"), ("aof_last_write_status", "its last write to the log")):
            if info.get(name, "ok") != "ok":
                return [
                    Reading(
                        f"{what} failed: a restart brings back an older state, logged-out sessions among it",
                        object_name=state.place,
                        status=CRITICAL,
                    )
                ]
        points = entry.get("save") or ()
        if not points:
            return [Reading("saved as it is configured; the system declares nothing", object_name=state.place, status=OK)]
        wanted = [(round(point["after_seconds"]), point["changes"]) for point in points]
        written = _known(state.settings)["save"].split()
        present = list(zip(map(int, written[::2]), map(int, written[1::2])))
        if sorted(present) != sorted(wanted):
            said = ", ".join(f"{seconds} {changes}" for seconds, changes in present) or "never"
            return [
                Reading(f"saves {said}, declared is {', '.join(f'{s} {c}' for s, c in wanted)}", object_name=state.place, status=WARNING)
            ]
        age = look.now.timestamp() - int(info["rdb_last_save_time"])
        late = 2 * max(seconds for seconds, _changes in wanted)
        if info["rdb_changes_since_last_save"] and age > late:
            return [Reading(f"has changes that were not saved for {words.age(age)}", object_name=state.place, status=WARNING)]
        return [Reading("saves as declared", object_name=state.place, status=OK)]

    return _every(look, read)


NEEDS = "a login to the cache that may use {}"
CHECKS: List[Check] = [
    Check(
        id="redis.reachable",
        title="The caches answer",
        tier="hourly",
        looks_at="PING to every cache of the system, as cache_connection says; and its version where the system names the oldest.",
        action="Look whether it runs, and at its log.",
        needs=NEEDS.format("PING"),
        run=_reachable,
        decides={"warning": "older than the system needs", "critical": "no answer"},
    ),
    Check(
        id="redis.memory",
        title="Memory of the caches",
        tier="hourly",
        looks_at="used_memory as a share of maxmemory. No limit at all is a warning.",
        action="Raise maxmemory, or find what fills it: redis-cli --bigkeys.",
        needs=NEEDS.format("INFO"),
        run=_memory,
        unit="percent",
        warning=80,
        critical=90,
    ),
    Check(
        id="redis.policy",
        title="What the caches drop when they are full",
        tier="daily",
        looks_at="maxmemory and maxmemory-policy against what the system declares.",
        action="CONFIG SET it and write it into the configuration: CONFIG REWRITE.",
        needs=NEEDS.format("CONFIG GET"),
        run=_policy,
        decides={"warning": "other than declared"},
    ),
    Check(
        id="redis.evictions",
        title="Keys that the caches dropped",
        tier="daily",
        looks_at="evicted_keys since the run before. Who holds a session that was dropped has to log in again.",
        action="Raise maxmemory, or let keys expire sooner.",
        needs=NEEDS.format("INFO"),
        run=_evictions,
        unit="count",
        warning=0,
    ),
    Check(
        id="redis.password",
        title="The caches ask for a password",
        tier="daily",
        looks_at="A second connection without a password.",
        action="Set requirepass, or a password for every user: ACL SETUSER.",
        needs="nothing",
        run=_password,
        decides={"warning": "open", "critical": "open, and the system has password_required"},
    ),
    Check(
        id="redis.commands",
        title="Dangerous commands of the caches",
        tier="daily",
        looks_at="disabled_commands of the system: none of them under its own name. Rights of single users do not count.",
        action="Rename the command away and restart the cache.",
        needs=NEEDS.format("COMMAND"),
        run=_commands,
        unit="count",
        warning=0,
    ),
    Check(
        id="redis.persistence",
        title="The caches are kept on disk",
        tier="daily",
        looks_at="Whether the last save and the last write to the log succeeded, the save points against those that the system declares, "
        "and changes that wait for longer than twice the longest of them.",
        action="Look at its log: a full disk and a missing right are the usual causes.",
        needs=NEEDS.format("INFO and CONFIG GET"),
        run=_persistence,
        decides={"warning": "other than declared, or late", "critical": "a save failed"},
    ),
]
