# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup is restored, and that its files are, byte for byte, those that were written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import from_iso, iso, read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import standing
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import checksum_faults
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import NEW, NEWEST, SCHEMA, SWAP, TABLES, Options
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

WITH_ROWS = ("full", "schemas", "tables", "data_only")
_BROKEN = "Take another one: pg_backup_info lists them."


@dataclass(frozen=True)
class Backup:
    """A backup that may be restored: its folder, its manifest, and how it was verified (None where it never was)."""

    path: Path
    manifest: Mapping[str, Any]
    verified: str | None

    @property
    def id(self) -> str:
        """The name of its folder when it was made."""
        return str(self.manifest["id"])

    @property
    def database(self) -> str:
        """The database that it was taken of."""
        return str(self.manifest["database"])

    @property
    def kind(self) -> str:
        """What of the database is in it."""
        return str((self.manifest.get("scope") or {}).get("kind", "full"))

    @property
    def taken_at(self) -> datetime:
        """The moment that it shows."""
        return from_iso((self.manifest.get("snapshot") or {}).get("at") or self.manifest["started_at"])

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(self.manifest["bytes"])

    def summary(self) -> Dict[str, Any]:
        """Return what a result says of it."""
        return {
            "id": self.id,
            "path": str(self.path),
            "database": self.database,
            "kind": self.kind,
            "taken_at": iso(self.taken_at),
            "verified": self.verified,
            "bytes": self.size,
        }


def pick(options: Options) -> Backup:
    """Return the backup that `options` mean. Raises MissingObject where there is none, Refused where it is broken, InvalidValue."""
    if options.path is not None:
        return read_backup(options.path)
    if options.folder is None:
        raise InvalidValue("folder: name the folder in which the backups stand, or one backup by path", object_name="folder")
    if options.backup != NEWEST:
        chosen = options.folder / options.backup
        if not chosen.is_dir():
            raise MissingObject(f"backup: {options.folder} holds no {options.backup}", object_name="backup", hint=_BROKEN)
        return read_backup(chosen)
    return newest(options, options.folder, *read_heads(str(options.folder)))


def read_backup(path: Path) -> Backup:
    """Return the backup in the folder `path`. Raises Refused where a later verification found it broken, InvalidValue."""
    manifest = read_manifest(path)
    found = standing(path, manifest)
    if found.broken:
        raise Refused(f"the backup {manifest['id']} is broken: {found.broken}", object_name=str(manifest["id"]), hint=_BROKEN)
    return Backup(path, manifest, found.how)


def newest(options: Options, folder: Path, heads: Sequence[Head], faults: Sequence[InvalidValue]) -> Backup:
    """Return the newest of the backups in `folder` that `options` allow, where `heads` and `faults` are what is in it.

    Raises MissingObject where there is none that was verified, InvalidValue where it is open of which database one is meant.
    """
    wanted = [head for head in heads if _suits(options, head)]
    databases = sorted({head.database for head in wanted})
    if len(databases) > 1:
        raise InvalidValue(
            f"source_database: {folder} holds backups of {', '.join(databases)}: say which is meant", object_name="source_database"
        )
    verified = sorted((head for head in wanted if head.verified), key=lambda head: (head.taken_at, head.folder), reverse=True)
    for head in verified:
        backup = read_backup(folder / head.folder)
        if _holds(backup, options.tables):
            return backup
    unread = f"; {len(faults)} there cannot be trusted (the first: {faults[0].message})" if faults else ""
    raise MissingObject(
        f"{folder} holds no verified backup{_meaning(options)}; {len(wanted) - len(verified)} are not verified or broken{unread}",
        object_name=str(folder),
        hint="Look at pg_backup_info. A backup that is whole but not verified is restored when backup names it.",
    )


def _suits(options: Options, head: Head) -> bool:
    if options.source_database and head.database != options.source_database:
        return False
    if options.name:
        return head.name == options.name
    if options.mode == TABLES:
        return head.kind in WITH_ROWS
    return head.kind == "full" or (options.mode == SCHEMA and head.kind == "schemas" and options.schema in head.schemas)


def _holds(backup: Backup, tables: Sequence[str]) -> bool:
    """Say whether the rows of `tables` are in the backup; one that does not list its tables is not asked."""
    listed = {parse_relation(str(table["name"])) for table in backup.manifest.get("tables") or ()}
    return not listed or listed.issuperset(map(parse_relation, tables))


def _meaning(options: Options) -> str:
    parts = [f" of database {options.source_database}"] if options.source_database else []
    parts += [f" called {options.name}"] if options.name else [" of a whole database"] if options.mode in (NEW, SWAP) else []
    parts += [f" with {', '.join(options.tables)}"] if options.tables else []
    parts += [f" with schema {options.schema}"] if options.schema else []
    return "".join(parts)


def check_files(backup: Backup, tick: Tick | None = None) -> None:
    """Compare every file of a backup with its manifest. Raises Refused, which names what is missing or was changed."""
    faults = checksum_faults(backup.path, backup.manifest, tick)
    if faults:
        raise Refused(f"the backup {backup.id} is broken: {faults_in_words(faults, most=1)}", object_name=backup.id, hint=_BROKEN)
