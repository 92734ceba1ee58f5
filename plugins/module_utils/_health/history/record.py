# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of one run is kept: a record of JSON, bounded; and what earlier records, taken together, say was so."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import AbstractSet, Any, Dict, List, Mapping, Sequence, Set

from ansible_collections.pgops.runbook.plugins.module_utils._health.history.model import Counted
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.series import charted, is_number
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.server import Server

VERSION = 1
# Runs at the same time do not know of each other: so many records are taken together.
RECORDS_READ = 6
MOST_METRICS, MOST_COUNTERS, MOST_FINDINGS, MOST_FINDINGS_PER_CHECK, MOST_SERVERS = 400, 200, 400, 100, 8
MOST_TEXT, MOST_KEPT_BYTES = 200, 64 << 10
COUNTER = "_total"

Record = Dict[str, Any]
Entry = Dict[str, Any]


@dataclass(frozen=True)
class Baseline:
    """What was so before this run. `runs` are the records that it is made of and that the next one need not look at again.

    `looked` says when each check looked last, `cut` of how many of its findings there was no room to keep one by one, `servers` when each
    server was looked at last. `kept` is, for each server, what checks keep, with the time.
    """

    record: Record
    runs: Sequence[str]
    looked: Dict[str, float] = field(default_factory=dict)
    findings: Dict[str, Entry] = field(default_factory=dict)
    cut: Dict[str, int] = field(default_factory=dict)
    counters: Dict[str, Counted] = field(default_factory=dict)
    kept: Dict[str, Dict[str, List[Any]]] = field(default_factory=dict)
    servers: Dict[str, float] = field(default_factory=dict)


def usable(record: Any) -> bool:
    """Return whether `record` is one of ours and whole."""
    if not isinstance(record, Mapping) or record.get("version") != VERSION or not isinstance(record.get("run"), str):
        return False
    after = record.get("after")
    if moment(record) is None or not isinstance(after, list) or not all(isinstance(run, str) for run in after):
        return False
    parts = ("server", "metrics", "counters", "looked", "findings", "cut", "kept", "servers")
    return all(isinstance(record.get(part), Mapping) for part in parts) and all(map(_is_entry, record["findings"].values()))


def moment(record: Mapping[str, Any]) -> datetime | None:
    """Return when the run was, or None where the record does not say."""
    try:
        found = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return found if found.tzinfo else None


def baseline(records: Sequence[Record]) -> Baseline | None:
    """Return what `records`, newest first, say together: of each check what was found when it looked last."""
    known = [record for record in records if usable(record)][:RECORDS_READ]
    if not known:
        return None
    superseded: Set[str] = {run for record in known for run in record["after"]}
    newest, *others = [record for record in known if record["run"] not in superseded] or known[:1]
    merged = Baseline(
        record=newest,
        runs=[newest["run"], *(record["run"] for record in others)],
        looked=dict(newest["looked"]),
        findings={key: dict(entry) for key, entry in newest["findings"].items()},
        cut=dict(newest["cut"]),
        counters={name: tuple(read) for name, read in newest["counters"].items() if _is_counted(read)},
        kept={server: dict(mine) for server, mine in newest["kept"].items() if isinstance(mine, Mapping)},
        servers=dict(newest["servers"]),
    )
    for record in others:
        _add(merged, record)
    return merged


def _add(merged: Baseline, record: Record) -> None:
    """Add a run that the newest one did not know of."""
    later = {check for check, at in record["looked"].items() if at > merged.looked.get(check, 0.0)}
    for key in [key for key, entry in merged.findings.items() if entry["check"] in later]:
        del merged.findings[key]
    merged.findings.update({key: dict(entry) for key, entry in record["findings"].items() if entry["check"] in later})
    for check in later:
        merged.looked[check] = record["looked"][check]
        merged.cut[check] = record["cut"].get(check, 0)
    for name, read in record["counters"].items():
        if _is_counted(read) and read[0] > merged.counters.get(name, (0.0, 0.0, ""))[0]:
            merged.counters[name] = tuple(read)
    for server, mine in record["kept"].items():
        theirs = merged.kept.setdefault(server, {})
        theirs.update({name: pair for name, pair in mine.items() if pair[0] > theirs.get(name, [0.0])[0]})
    for server, at in record["servers"].items():
        merged.servers[server] = max(at, merged.servers.get(server, 0.0))


def make(
    result: Mapping[str, Any],
    before: Baseline | None,
    *,
    at: float,
    server: Server | None,
    looked: Sequence[str],
    findings: Mapping[str, Entry],
    kept: Mapping[str, Any],
) -> Record:
    """Return the record of a run. `findings` are all that are open now, also those that it did not look at."""
    rows = [(name, value) for name, value in result["metrics"].items() if is_number(value)]
    first = charted(dict(rows))
    numbers = {**first, **dict([pair for pair in rows if pair[0] not in first][: MOST_METRICS - len(first)])}
    counters: Dict[str, Any] = {name: list(read) for name, read in before.counters.items()} if before else {}
    if server:
        counters.update({name: [at, value, server.mark] for name, value in rows if is_counter(name)})
    chosen, cut = _bounded(findings, {each["key"] for each in result.get("findings", ())})
    earlier = before.cut if before else {}
    servers = {**(before.servers if before else {}), **({server.id: at} if server else {})}
    latest = sorted(servers, key=lambda name: -servers[name])[:MOST_SERVERS]
    return clean(
        {
            "version": VERSION,
            "run": uuid.uuid4().hex[:12],
            "after": list(before.runs) if before else [],
            "time": result["time"],
            "system": result["system"] or "",
            "tier": result["tier"],
            "status": result["status"],
            "server": dict(server.facts) if server else {},
            "servers": {name: servers[name] for name in latest},
            "metrics": numbers,
            "counters": dict(sorted(counters.items(), key=lambda pair: -pair[1][0])[:MOST_COUNTERS]),
            "looked": {**(before.looked if before else {}), **dict.fromkeys(looked, at)},
            "findings": chosen,
            "cut": {**{check: count for check, count in earlier.items() if check not in looked}, **cut},
            "kept": _kept(before, server, kept, at, latest),
        }
    )


def is_counter(metric: str) -> bool:
    """Return whether a metric is a counter that only grows, by its name."""
    return metric.split("[", 1)[0].endswith(COUNTER)


def fitting(kept: Mapping[str, Any]) -> List[str]:
    """Return the names of what checks keep that there is room for."""
    found, room = [], MOST_KEPT_BYTES
    for name, value in kept.items():
        room -= len(json.dumps(value, default=str))
        found += [name] if room >= 0 else []
    return found


def clean(value: Any) -> Any:
    """Return `value` as every JSON and every database takes it: no NUL, no half characters, no numbers without an end, no endless text."""
    if isinstance(value, Mapping):
        return {str(clean(str(key))): clean(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner) for inner in value]
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return (int(value) if value == int(value) and abs(value) < 1e15 else value) if is_number(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def _bounded(findings: Mapping[str, Entry], listed: AbstractSet[str]) -> Any:
    """Return the findings that there is room for, and by check how many there are beside them.

    The worst come first, then those that the result lists, because people are told of them, then the oldest.
    """
    order = {"critical": 0, "warning": 1, "unknown": 2}
    places = {key: (order.get(entry["severity"], 3), key not in listed, entry["first_seen"], key) for key, entry in findings.items()}
    chosen: Dict[str, Entry] = {}
    count: Dict[str, int] = {}
    cut: Dict[str, int] = {}
    for key in sorted(findings, key=places.__getitem__):
        entry = findings[key]
        check = entry["check"]
        if count.get(check, 0) < MOST_FINDINGS_PER_CHECK and len(chosen) < MOST_FINDINGS:
            count[check] = count.get(check, 0) + 1
            chosen[key] = {**entry, "message": str(entry["message"])[:MOST_TEXT]}
        else:
            cut[check] = cut.get(check, 0) + 1
    return chosen, cut


def _kept(before: Baseline | None, server: Server | None, kept: Mapping[str, Any], at: float, servers: Sequence[str]) -> Dict[str, Any]:
    found = {name: dict(mine) for name, mine in (before.kept if before else {}).items() if name in servers}
    if server:
        found.setdefault(server.id, {}).update({name: [at, kept[name]] for name in fitting(kept)})
    return found


def _is_entry(entry: Any) -> bool:
    texts = ("check", "severity", "object", "message", "first_seen", "title")
    return isinstance(entry, Mapping) and all(isinstance(entry.get(name), str) for name in texts) and is_number(entry.get("seen"))


def _is_counted(read: Any) -> bool:
    return isinstance(read, (list, tuple)) and len(read) == 3 and is_number(read[0]) and is_number(read[1])
