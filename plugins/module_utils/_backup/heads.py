# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the manifests in a folder of backups say of each: when it was taken, of what, and whether it has been verified.

A backup is a folder with a `manifest.json` in it, which is written last: without one it is no backup. Of the manifest only its
head is read here:

    {"format": "pgops.backup/1", "name": "full", "database": "tim", "started_at": "2026-11-21T02:00:00+00:00",
     "finished_at": "2026-11-21T02:04:10+00:00", "bytes": 734003200, "verified": {"how": "decode", "at": "2026-11-21T02:05:02+00:00"}}

`verified` is null for one that nobody has verified.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

MANIFEST = "manifest.json"
FORMAT = "pgops.backup/"
LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Head:
    """One backup. `verified` is how it was (checksum, decode, restore) or None, `size` its bytes."""

    folder: str
    name: str
    database: str
    started_at: datetime
    finished_at: datetime
    size: int
    verified: str | None = None
    verified_at: datetime | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.finished_at - self.started_at).total_seconds()


def read_heads(folder: str) -> Tuple[List[Head], List[InvalidValue]]:
    """Return the backups in `folder`, newest first, and what is wrong with manifests that cannot be read.

    Raises InvalidValue where the folder is not there or cannot be listed. Hidden folders are work that goes on.
    """
    try:
        manifests = sorted(path / MANIFEST for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        hint = "Name the folder in which the backups of this database stand, on the host that runs the module."
        raise InvalidValue(
            f"the folder of the backups, {folder}, cannot be listed: {error.strerror}", object_name=folder, hint=hint
        ) from None
    heads, faults = [], []
    for path in manifests:
        if not path.exists():
            # Not finished, or no backup of ours.
            continue
        try:
            heads.append(_head(path))
        except InvalidValue as fault:
            faults.append(fault)
    return sorted(heads, key=lambda head: head.finished_at, reverse=True), faults


def _head(path: Path) -> Head:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is larger than any manifest")
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict) or not str(said.get("format", "")).startswith(FORMAT):
            raise ValueError(f"its format is not {FORMAT}...")
        return _read(path, said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
        hint = "Look whether it is a backup at all, and do not trust it."
        raise InvalidValue(f"the manifest {path} cannot be read: {why}", object_name=path.parent.name, hint=hint) from None


def _read(path: Path, said: Mapping[str, Any]) -> Head:
    verified = said.get("verified") or {}
    return Head(
        folder=path.parent.name,
        name=str(said["name"]),
        database=str(said["database"]),
        started_at=_moment(said["started_at"]),
        finished_at=_moment(said["finished_at"]),
        size=int(said["bytes"]),
        verified=str(verified["how"]) if verified else None,
        verified_at=_moment(verified["at"]) if verified else None,
    )


def _moment(text: str) -> datetime:
    # Python before 3.11 does not read a Z.
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} says no zone")
    return moment.astimezone(timezone.utc)
