# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a folder of backups holds: of each when it was taken, of what, and whether it has been verified.

A backup is a folder with a `manifest.json` in it, which is written last: without one it is no backup. Hidden folders are work that goes
on. A backup whose manifest was changed, or that stands under another name than its own, counts for nothing; nor does a link.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import MANIFEST, from_iso, read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import Verification, standing
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

WHOLE = "full"  # the kind that a whole database is in
_UNTRUSTED = "Look whether it is a backup at all, and do not trust it."


@dataclass(frozen=True)
class Head:
    """One backup. `verified` is how it was (checksum, decode, restore) or None, `size` its bytes.

    `taken_at` is the moment of its snapshot, from which its freshness counts. `broken` says why one that was verified once does not
    count any more. `schemas` and `tables` are what it was restricted to. `database_oid` and `timeline` tell a database that was made again
    from the one before it, and a clone from its origin; None where the manifest does not say.
    """

    folder: str
    name: str
    database: str
    started_at: datetime
    finished_at: datetime
    size: int
    taken_at: datetime
    verified: str | None = None
    verified_at: datetime | None = None
    kind: str = WHOLE
    schemas: Tuple[str, ...] = ()
    tables: Tuple[str, ...] = ()
    system_identifier: str | None = None
    broken: str | None = None
    drill: Verification | None = None
    database_oid: int | None = None
    timeline: int | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def series(self) -> Tuple[str | None, str, str]:
        """Which backups it follows on and is followed by: those of the same name, of the same database of the same server."""
        return self.system_identifier, self.database, self.name

    @property
    def scope(self) -> Tuple[str, Tuple[str, ...], Tuple[str, ...]]:
        """What of the database is in it."""
        return self.kind, self.schemas, self.tables


def read_heads(folder: str) -> Tuple[List[Head], List[InvalidValue]]:
    """Return the backups in `folder`, newest first, and what is wrong with those that cannot be trusted.

    Raises InvalidValue where the folder is not there or cannot be listed.
    """
    heads: List[Head] = []
    faults: List[InvalidValue] = []
    for found in each_backup(folder):
        if isinstance(found, InvalidValue):
            faults.append(found)
        else:
            heads.append(found[0])
    return sorted(heads, key=lambda head: (head.finished_at, head.folder), reverse=True), faults


def each_backup(folder: str) -> Iterator[Tuple[Head, Mapping[str, Any]] | InvalidValue]:
    """Yield each backup in `folder` with its manifest, by name, or what is wrong with it. Raises InvalidValue as `read_heads` does."""
    for path in backup_folders(folder):
        if not has_manifest(path):
            # Not finished, or no backup of ours.
            continue
        try:
            yield read_head(path)
        except InvalidValue as fault:
            # One that was deleted meanwhile was renamed first.
            if has_manifest(path):
                yield fault


def read_head(path: Path) -> Tuple[Head, Mapping[str, Any]]:
    """Return the backup in the folder `path` with its manifest. Raises InvalidValue where that cannot be trusted or is another's."""
    document = read_manifest(path)
    try:
        if document["id"] != path.name:
            raise ValueError(f"it is that of {document['id']}, which somebody has moved or copied here")
        return head_of(path, document), document
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidValue(f"the manifest {path / MANIFEST} cannot be read: {why}", object_name=path.name, hint=_UNTRUSTED) from None


def head_of(path: Path, said: Mapping[str, Any]) -> Head:
    """Return the backup in the folder `path`, whose manifest is `said`. Raises ValueError, KeyError or TypeError where that is not one."""
    found = standing(path, said)
    scope = said.get("scope") or {}
    finished_at = from_iso(said["finished_at"])
    snapshot = said.get("snapshot") or {}
    return Head(
        folder=path.name,
        name=str(said["name"]),
        database=str(said["database"]),
        started_at=from_iso(said["started_at"]),
        finished_at=finished_at,
        size=int(said["bytes"]),
        verified=found.how,
        verified_at=found.at,
        taken_at=from_iso(snapshot["at"]) if snapshot else from_iso(said["started_at"]),
        kind=str(scope.get("kind", WHOLE)),
        schemas=tuple(scope.get("schemas") or ()),
        tables=tuple(scope.get("tables") or ()),
        system_identifier=str(said["system_identifier"]) if said.get("system_identifier") is not None else None,
        broken=found.broken,
        drill=found.drill,
        database_oid=said.get("database_oid"),
        timeline=snapshot.get("timeline"),
    )


def counting(folder: Path, head: Head) -> Head:
    """Return what a backup counts as now, after a look at its record and at its files: one that has lost some is not verified any more.

    Whoever verifies or drills takes no lock of the folder: what was read of it before may not hold any more.
    """
    try:
        now, manifest = read_head(folder / head.folder)
    except InvalidValue as fault:
        return replace(head, verified=None, broken=fault.message)
    why = now.broken or missing_file(folder / head.folder, manifest)
    return replace(now, verified=None, broken=why) if why else now


def missing_file(backup: Path, manifest: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the files of a backup as far as it shows without reading them, None where nothing is."""
    for file in manifest["files"]:
        try:
            fault = file_fault(backup / str(file["path"]), int(file["bytes"]))
        except OSError as error:
            fault = f"cannot be looked at: {error.strerror}"
        if fault:
            return f"{file['path']} {fault}"
    return None


def file_fault(path: Path, size: int) -> str | None:
    """Return what is wrong with a file of a backup before it is read, None where nothing is. Raises OSError."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        return "is no plain file"
    return None if about.st_size == size else f"has {about.st_size} bytes instead of {size}"


def backup_folders(folder: str) -> List[Path]:
    """Return the folders in `folder` in which backups may stand, by name. Raises InvalidValue where it cannot be listed."""
    try:
        return sorted(path for path in Path(folder).iterdir() if not path.name.startswith(".") and not path.is_symlink() and path.is_dir())
    except OSError as error:
        hint = "Name the folder in which the backups of this database stand, on the host that runs the module."
        raise InvalidValue(
            f"the folder of the backups, {folder}, cannot be listed: {error.strerror}", object_name=folder, hint=hint
        ) from None


def has_manifest(path: Path) -> bool:
    """Say whether a folder has a manifest, of whatever kind. One that cannot be looked into counts as having one, so that it is told."""
    try:
        (path / MANIFEST).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
