# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backups there are, what they are worth, and how much would be lost now: read from their folder, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import WHOLE, Head, each_backup, has_manifest, missing_file
from ansible_collections.pgops.runbook.plugins.module_utils._backup.lock import locked
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import COPYING, DELETED, LOCK, PARTIAL, hidden, is_backup_id
from ansible_collections.pgops.runbook.plugins.module_utils._backup.places import folder_of_backups, folder_size
from ansible_collections.pgops.runbook.plugins.module_utils._backup.retention import AHEAD
from ansible_collections.pgops.runbook.plugins.module_utils._duration import time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._targets import Measure

_STATES = {PARTIAL: "being made", DELETED: "being deleted", COPYING: "being copied"}


@dataclass(frozen=True)
class Question:
    """What is asked of a folder; an empty `database` or `name` is every one, a target is in seconds."""

    folder: str
    database: str | None = None
    name: str | None = None
    rpo: float | None = None
    rto: float | None = None


def read_question(parameters: Mapping[str, Any]) -> Question:
    """Return what a module's `parameters` ask. Raises InvalidValue, which names the option."""
    folder = folder_of_backups(parameters)
    targets = {name: time_to_wait(parameters[name], name) if parameters.get(name) not in (None, "") else None for name in ("rpo", "rto")}
    return Question(str(folder), parameters.get("database") or None, parameters.get("name") or None, **targets)


def look_through(question: Question, now: datetime | None = None) -> Dict[str, Any]:
    """Return what stands in the folder, newest first. Raises InvalidValue where it cannot be listed."""
    now = now or datetime.now(timezone.utc)
    found: List[Tuple[Head, Dict[str, Any]]] = []
    broken: List[Dict[str, Any]] = []
    for one in each_backup(question.folder):
        if isinstance(one, InvalidValue):
            broken.append({"id": one.object_name, "database": None, "why": one.message})
        elif _asked(question, one[0]):
            found.append((one[0], _row(question, *one, now)))
    found.sort(key=lambda pair: (pair[0].taken_at, pair[0].folder), reverse=True)
    rows = [row for _head, row in found]
    broken += [{"id": row["id"], "database": row["database"], "why": row["broken"]} for row in rows if row["broken"]]
    unfinished, foreign = _others(Path(question.folder))
    databases = _by_database(question, found, now)
    worst = max(databases, key=lambda one: (one["rpo"]["seconds"] is None, one["rpo"]["seconds"] or 0.0), default=None)
    return {
        "changed": False,
        "backups": rows,
        "databases": databases,
        "newest_verified": next((row for row in rows if row["verified"]), {}),
        "rpo": worst["rpo"] if worst else Measure(None, question.rpo).as_result(),
        "rto": _rto(question, [head for head, _row in found]),
        "broken": broken,
        "unfinished": unfinished,
        "foreign": foreign,
        "locked": locked(Path(question.folder)),
    }


def _asked(question: Question, head: Head) -> bool:
    return question.database in (None, head.database) and question.name in (None, head.name)


def _row(question: Question, head: Head, manifest: Mapping[str, Any], now: datetime) -> Dict[str, Any]:
    path = Path(question.folder) / head.folder
    dump, tables = manifest.get("dump") or {}, manifest.get("tables") or []
    compression, encryption = dump.get("compression") or {}, dump.get("encryption") or {}
    versions = manifest.get("versions") or {}
    counted = [int(table["rows"]) for table in tables if table.get("rows") is not None]
    broken = head.broken or missing_file(path, manifest)
    return {
        "id": head.folder,
        "path": str(path),
        "database": head.database,
        "name": head.name,
        "system_identifier": head.system_identifier,
        "scope": {"kind": head.kind, "schemas": list(head.schemas), "tables": list(head.tables)},
        "taken_at": head.taken_at.isoformat(),
        "finished_at": head.finished_at.isoformat(),
        "age_seconds": _since(head.taken_at, now),
        "seconds": round(head.seconds, 3),
        "bytes": head.size,
        "format": dump.get("format"),
        "compression": compression.get("method"),
        "encryption": encryption.get("method"),
        "tables": len(tables),
        "rows": sum(counted) if counted else None,
        "left_out": list((manifest.get("coverage") or {}).get("left_out") or []),
        "server_version": versions.get("server"),
        "client_version": versions.get("client"),
        "verified": None if broken else head.verified,
        "verified_at": head.verified_at.isoformat() if head.verified_at and not broken else None,
        "broken": broken,
        "last_drill": _drill(head, now),
    }


def _drill(head: Head, now: datetime) -> Dict[str, Any] | None:
    if head.drill is None:
        return None
    said = head.drill.drill or {}
    return {
        "at": head.drill.at.isoformat(),
        "age_seconds": _since(head.drill.at, now),
        "passed": bool(said.get("passed", head.drill.ok)),
        "rto_seconds": _drill_seconds(head),
        "reasons": [str(reason) for reason in said.get("reasons") or ([head.drill.message] if head.drill.message else [])],
    }


def _drill_seconds(head: Head) -> float | None:
    rto = (head.drill.drill or {}).get("rto") if head.drill else None
    seconds = rto.get("seconds") if isinstance(rto, Mapping) else None
    return float(seconds) if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None


def _by_database(question: Question, found: Sequence[Tuple[Head, Dict[str, Any]]], now: datetime) -> List[Dict[str, Any]]:
    """Return for each database how much of it would be lost now: what was written since the newest backup that counts.

    Where no name is asked for, one of parts of a database does not stand for the whole.
    """
    keys = sorted({(head.database, head.system_identifier or "") for head, _row in found})
    if question.database is not None and not keys:
        keys = [(question.database, "")]
    rows = []
    for database, identifier in keys:
        own = [(head, row) for head, row in found if (head.database, head.system_identifier or "") == (database, identifier)]
        counting = [row for head, row in own if row["verified"] and head.taken_at <= now + AHEAD and (question.name or head.kind == WHOLE)]
        seconds = max(0.0, counting[0]["age_seconds"]) if counting else None
        rows.append(
            {
                "database": database,
                "system_identifier": identifier or None,
                "backups": len(own),
                "verified": len([row for _head, row in own if row["verified"]]),
                "bytes": sum(row["bytes"] for _head, row in own),
                "newest_verified": counting[0]["id"] if counting else None,
                "rpo": Measure(seconds, question.rpo).as_result(),
            }
        )
    return rows


def _rto(question: Question, heads: Sequence[Head]) -> Dict[str, Any]:
    """Return how long the last drill took, of whichever of these backups it was."""
    measured = [(head.drill.at, _drill_seconds(head)) for head in heads if head.drill is not None]
    last = max((one for one in measured if one[1] is not None), default=None)
    return Measure(last[1] if last else None, question.rto).as_result()


def _others(folder: Path) -> Tuple[List[Dict[str, Any]], List[str]]:
    """Return what is not finished, and the names of what is none of ours."""
    unfinished: List[Dict[str, Any]] = []
    foreign: List[str] = []
    for path in sorted(folder.iterdir()):
        use = hidden(path.name)
        if path.is_symlink() or not path.is_dir():
            foreign += [] if path.name == LOCK else [path.name]
        elif use:
            unfinished += _leftover(path, _STATES[use])
        elif path.name.startswith(".") or not has_manifest(path):
            if is_backup_id(path.name):
                # The manifest comes last.
                unfinished += _leftover(path, "without a manifest")
            else:
                foreign.append(path.name)
    return unfinished, foreign


def _leftover(path: Path, state: str) -> List[Dict[str, Any]]:
    """Return what stands in a folder of work that goes on: nothing, where the run that is at work has just taken it away or named it."""
    size = folder_size(path)
    try:
        since = datetime.fromtimestamp(path.lstat().st_mtime, timezone.utc)
    except FileNotFoundError:
        return []
    return [{"name": path.name, "state": state, "bytes": size, "since": since.isoformat(timespec="seconds")}]


def _since(moment: datetime, now: datetime) -> float:
    return round((now - moment).total_seconds(), 3)
