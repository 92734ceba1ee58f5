# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups of a system description are due in a run, and the options of pg_backup for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.copies import read_copies
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

# What a policy may be about and pg_backup cannot make.
NOT_MADE = ("physical", "incremental", "wal")
# A backup that is younger counts as the one of this turn: a little less than the time between two, since no run is on time to the second.
FRESH_FOR = {"hourly": "50 min", "daily": "20 h", "weekly": "6 days", "monthly": "27 days"}
SHARE_OF_EVERY = 0.9
GENERATIONS = ("count", "daily", "weekly", "monthly", "yearly")
# One that is asked for is wanted as of now.
NOW = "0 s"


def plan(policies: Any, *, schedule: str = "", names: Any = None, host: Any = None) -> Dict[str, Any]:
    """Return the `runs` that are due, each with its `name` and options for pg_backup, `notices`, and `faults` that keep one from running.

    `schedule` chooses those of one playbook; `names` chooses by name whatever their schedule is; without either all that have a schedule.
    `host` holds what the host says of all its backups: compression, encrypt, verify, keep, copies, fresh_for.
    """
    known: Mapping[str, Any] = policies or {}
    asked = [str(name) for name in ([names] if isinstance(names, str) and names else names or [])]
    said: Dict[str, Any] = {key: value for key, value in (host or {}).items() if value not in (None, "", [], {})}
    faults = [_unknown(name, known) for name in asked if name not in known]
    due = {name: policy for name, policy in known.items() if (name in asked if asked else _due(policy, schedule))}
    others = [f"{name} (kind {policy['kind']})" for name, policy in due.items() if policy["kind"] in NOT_MADE]
    told = f"not made by this version of the collection: {', '.join(others)}"
    refused = list(_refused(said.get("copies")))
    faults += refused
    runs: List[Dict[str, Any]] = []
    for name, policy in due.items():
        if policy["kind"] in NOT_MADE or refused:
            continue
        if policy["location"] == "external" and not said.get("copies"):
            faults.append(f"{name}: it has to be kept away from the database server (location external), and backup_copies names no place")
        else:
            runs.append({"name": name, **_options(policy, said, by_name=bool(asked))})
    return {
        "runs": runs,
        "notices": [told] if others and not asked else [],
        "faults": [*faults, *([told] if others and asked else [])],
        "declared": len(due),
    }


def _refused(copies: Any) -> Iterator[str]:
    """Yield what is wrong with remote places. A task would show its options, and with them a password that does not belong there."""
    for number, one in enumerate(copies if isinstance(copies, list) else []):
        if isinstance(one, Mapping) and not one.get("path"):
            try:
                read_copies([one], Path("/nonexistent"))
            except InvalidValue as error:
                yield error.message.replace("copies[0]", f"backup_copies[{number}]")


def _due(policy: Mapping[str, Any], schedule: str) -> bool:
    if policy["schedule"] == "on_demand":
        return False
    if not schedule:
        return True
    # WAL that nobody archives is told of once a day.
    if policy["schedule"] == "continuous":
        return schedule == "daily"
    # What is due every few hours is looked at by the only runs that are frequent enough.
    return bool(policy["schedule"] == schedule or (schedule == "hourly" and policy["every"]))


def _options(policy: Mapping[str, Any], said: Mapping[str, Any], *, by_name: bool) -> Dict[str, Any]:
    kind = "full" if policy["kind"] == "snapshot" else policy["kind"]
    wanted = {
        "kind": kind,
        "schemas": policy["schemas"] if kind == "schemas" else [],
        "tables": policy["tables"] if kind == "tables" else [],
        # A program cannot encrypt the files of a directory without the plain text touching the disk.
        "format": policy["format"] or ("custom" if said.get("encrypt") else None),
        "compression": said.get("compression") if policy["compress"] else "none",
        "encrypt": said.get("encrypt"),
        "verify": _verify(policy, said),
        "keep": said.get("keep") or _keep(policy),
        "copies": _copies(policy, said),
        "fresh_for": said.get("fresh_for") or _fresh_for(policy, by_name=by_name),
    }
    return {name: value for name, value in wanted.items() if value not in (None, [], {})}


def _verify(policy: Mapping[str, Any], said: Mapping[str, Any]) -> Any:
    if not policy["verify"]:
        return "checksum"
    # Rows alone have no tables to be restored into.
    return "decode" if policy["kind"] == "data_only" and said.get("verify") == "restore" else said.get("verify")


def _keep(policy: Mapping[str, Any]) -> Dict[str, Any]:
    keep = {"age": policy["keep"], **{name: (policy.get("generations") or {}).get(name) for name in GENERATIONS}}
    return {name: value for name, value in keep.items() if value}


def _copies(policy: Mapping[str, Any], said: Mapping[str, Any]) -> Any:
    """Return the second places. What the system says of a backup that belongs there holds in each that has no rules of its own."""
    copies, keep = said.get("copies"), _keep(policy)
    if policy["location"] != "external" or not keep or not isinstance(copies, list):
        return copies
    return [{**one, "keep": keep} if _without_rules(one) else one for one in copies]


def _without_rules(copy: Any) -> bool:
    """Return whether nobody said how long a path keeps copies; empty rules say that all of them stay."""
    return isinstance(copy, Mapping) and bool(copy.get("path")) and copy.get("keep") is None


def _fresh_for(policy: Mapping[str, Any], *, by_name: bool) -> str:
    if by_name:
        return NOW
    if policy["every"]:
        return format_duration(round(SHARE_OF_EVERY * policy["every_seconds"], 3))
    return FRESH_FOR[policy["schedule"]]


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    return f"policy: {name!r} is not one of the backups of the system: {', '.join(known) or 'it declares none'}"
