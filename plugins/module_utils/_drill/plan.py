# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup a drill takes, where it would go and whether there is room: nothing is made here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import standing
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import find_client
from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import server_account
from ansible_collections.pgops.runbook.plugins.module_utils._drill.finding import Finding
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import CLUSTER, Options
from ansible_collections.pgops.runbook.plugins.module_utils._drill.servers import find_server
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import names_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import NEWEST
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup, newest
from ansible_collections.pgops.runbook.plugins.module_utils._restore.unpack import is_packed, unpacked_size

# What pg_dump has compressed itself does not say how large it was.
_GUESSED_RATIO = 4
_WITH_INDEXES = 1.6  # of the bytes of the rows as text
_EMPTY_SERVER = 100 << 20


@dataclass(frozen=True)
class Room:
    """What a scratch server is expected to take, and what is free where it would stand."""

    folder: str
    needed: int
    free: int

    def as_result(self) -> Dict[str, Any]:
        """Return it as a result has it."""
        return {"folder": self.folder, "needed_bytes": self.needed, "free_bytes": self.free, "enough": self.free >= self.needed}


def choose(options: Options, notices: List[str]) -> Backup:
    """Return the backup that is rehearsed. Raises MissingObject, Refused, InvalidValue.

    One that is named may have been found broken before: that it is whole is what a drill can show. What is newer than the one that is
    taken is said.
    """
    folder = Path(str(options.restore.folder))
    if options.restore.backup == NEWEST:
        heads, faults = read_heads(str(folder))
        backup = newest(options.restore, folder, heads, faults)
        notices += _newer(heads, backup) + _others(folder, heads, backup)
        return backup
    path = folder / options.restore.backup
    manifest = read_manifest(path)
    found = standing(path, manifest)
    if found.broken:
        notices.append(f"the backup {manifest['id']} was found broken before: {found.broken}")
    return Backup(path, manifest, found.how)


def plan(options: Options) -> Dict[str, Any]:
    """Return what a drill would restore, by which programs, and whether there is room. Raises RunbookError where it could not begin."""
    notices: List[str] = []
    backup = choose(options, notices)
    versions, room = {"source": str(backup.manifest["versions"]["server"])}, None
    if options.place == CLUSTER:
        account = server_account(options.run_as)
        programs = find_server(_major(backup.manifest), options.server_bin_dir, account)
        versions["server"] = f"{programs.version[0]}.{programs.version[1]}"
        versions["client"] = find_client(programs.major * 10000, options.restore.bin_dir).text
        room = room_for(options, backup)
        if not room.as_result()["enough"]:
            notices.append(_too_little(room))
    found = Finding(options, datetime.now(timezone.utc), backup=backup)
    return {
        "changed": True,
        "passed": None,
        "in": options.place,
        "backup": backup.summary(),
        "server_version": versions.get("server"),
        "versions": versions,
        "room": room.as_result() if room else None,
        "rto": {**found.rto.as_result(), "met": None},
        "rpo": found.rpo.as_result(),
        "warnings": notices,
    }


def require_room(options: Options, backup: Backup) -> List[str]:
    """Refuse where not even the files of the backup would fit; return a notice where they would and the estimate does not."""
    room = room_for(options, backup)
    if room.free < backup.size:
        raise Refused(_too_little(room), object_name="scratch_folder", hint="Make room, or name a folder on a larger file system.")
    return [] if room.as_result()["enough"] else [_too_little(room)]


def room_for(options: Options, backup: Backup) -> Room:
    """Return what the scratch server and what is unpacked for it take, by estimate. Raises InvalidValue where the folder is not there."""
    try:
        about = os.statvfs(str(options.scratch_folder))
    except OSError as error:
        raise InvalidValue(
            f"scratch_folder: {options.scratch_folder} cannot be looked at: {error.strerror}", object_name="scratch_folder"
        ) from None
    plain = unpacked = 0
    for file in backup.manifest["files"]:
        path = backup.path / str(file["path"])
        if is_packed(path.name):
            size = unpacked_size(path) if path.exists() else _GUESSED_RATIO * int(file["bytes"])
            unpacked += size
        else:
            size = int(file["bytes"]) * (_GUESSED_RATIO if _by_pg_dump(backup.manifest) else 1)
        plain += size
    return Room(str(options.scratch_folder), int(plain * _WITH_INDEXES) + unpacked + _EMPTY_SERVER, about.f_bavail * about.f_frsize)


def _by_pg_dump(manifest: Mapping[str, Any]) -> bool:
    return manifest["dump"]["compression"].get("by") == "pg_dump"


def _too_little(room: Room) -> str:
    return f"{room.folder} has {format_size(room.free)} free, and the scratch server takes about {format_size(room.needed)}"


def _newer(heads: Sequence[Head], backup: Backup) -> List[str]:
    newer = [head for head in heads if head.database == backup.database and head.taken_at > backup.taken_at and not head.verified]
    if not newer:
        return []
    names = names_in_words([head.folder for head in newer], most=1)
    return [f"{names} is newer, and is not verified or is broken: {newer[0].broken or 'nobody has verified it'}"]


def _others(folder: Path, heads: Sequence[Head], backup: Backup) -> List[str]:
    """Return a notice where the folder has backups of a database of that name of another server, which may be the one that is meant."""
    mine = str(backup.manifest.get("system_identifier"))
    if all(head.database != backup.database or head.system_identifier in (mine, None) for head in heads):
        return []
    return [f"{folder} holds backups of {backup.database} of several servers; the newest, {backup.id}, was taken"]


def _major(manifest: Mapping[str, Any]) -> int:
    return int(manifest["versions"]["server_version_num"]) // 10000
