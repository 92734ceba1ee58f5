# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be right before a backup begins: a folder that can be written to, with room for it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import flush_folder
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, Refused

GROWTH = 1.2  # of the previous backup of the same scope
# Of the bytes of tables without their indexes, where there is no previous backup. Text and numbers come out smaller.
_SHARE = {"zstd": 0.5, "gzip": 0.5, "lz4": 0.7, "none": 1.2}
_FILES_BESIDE = 16
_OF_RELATIONS = """
SELECT coalesce(pg_catalog.sum(pg_catalog.pg_table_size(c.oid)), 0)::bigint
FROM pg_catalog.pg_class c
WHERE c.oid = ANY(%s::oid[])
"""
_OF_LARGE_OBJECTS = "SELECT pg_catalog.pg_table_size('pg_catalog.pg_largeobject')"


@dataclass(frozen=True)
class Need:
    """The bytes and the files that a backup is expected to take at the most while it is being made, and what that was told from."""

    size: int
    files: int
    source: str


def prepare_folder(folder: Path, *, check_mode: bool) -> None:
    """Make `folder` for its owner alone where it is missing (not in check mode), and see that it can be written to. Raises InvalidValue."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        _make(folder, check_mode)
        return
    except OSError as error:
        raise _unusable(folder, f"cannot be looked at: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(folder, "is a file, not a folder")
    _require_access(folder)


def exposed(folder: Path) -> str | None:
    """Return what to say about a folder that everybody may write to: its backups are still closed, and can be taken away or planted."""
    if not folder.is_dir() or not folder.stat().st_mode & stat.S_IWOTH:
        return None
    return f"the folder {folder} can be written to by every account, which can remove backups and put false ones there: give it mode 0700"


def estimate(database: Any, oids: Sequence[int], previous: Head | None, *, method: str, raw_first: bool, large_objects: bool) -> Need:
    """Return what a backup needs: what the previous one took and a fifth more, or else what its tables take in the database.

    `raw_first` is for files that stand there uncompressed before they are compressed.
    """
    # Asked for only where it counts, since the server looks at every file for it.
    size = 0 if previous is not None and not raw_first else _size(database, oids, large_objects)
    if previous is not None:
        need, source = int(previous.size * GROWTH), f"the backup {previous.folder}"
    else:
        need, source = int(size * _SHARE[method]), "the size of its tables"
    if raw_first:
        need += int(size * _SHARE["none"])
    return Need(need, len(oids) + _FILES_BESIDE, source)


def _size(database: Any, oids: Sequence[int], large_objects: bool) -> int:
    size = int(database.value(_OF_RELATIONS, (list(oids),)) or 0)
    return size + (int(database.value(_OF_LARGE_OBJECTS) or 0) if large_objects else 0)


def require_room(folder: Path, need: Need, min_free: int) -> None:
    """Refuse to begin where what the backup needs, and `min_free` beside it, are not free for this account. Raises Refused."""
    found = os.statvfs(str(_existing(folder)))
    # What only root may use (f_bfree) is not counted.
    free = found.f_bavail * found.f_frsize
    if free < need.size + min_free:
        raise Refused(
            f"{folder} has {format_size(free)} free; the backup needs about {format_size(need.size)} (told from {need.source})"
            f" and {format_size(min_free)} are to stay free (min_free)",
            object_name=str(folder),
            hint="Make room, keep fewer backups, or name a folder on a larger file system.",
        )
    if found.f_files and found.f_favail < need.files:
        raise Refused(
            f"{folder} has room for {found.f_favail} more files; the backup needs about {need.files}",
            object_name=str(folder),
            hint="Use format=custom, which is one file, or a file system with more inodes.",
        )


def _make(folder: Path, check_mode: bool) -> None:
    if check_mode:
        _require_access(_existing(folder))
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(mode=0o700, parents=True)
        # What the umask of the caller took away as well would keep the owner out.
        folder.chmod(0o700)
        for path in reversed(missing):
            # Where it may write to and not read, nobody can flush.
            with suppress(PermissionError):
                flush_folder(path.parent)
    except OSError as error:
        raise _unusable(folder, f"cannot be made: {error.strerror}") from None


def _existing(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _require_access(folder: Path) -> None:
    if not folder.is_dir():
        raise _unusable(folder, "is a file, not a folder")
    # First, since nobody has access to such a one either, and another account would not help.
    if os.statvfs(str(folder)).f_flag & os.ST_RDONLY:
        raise _unusable(folder, "is on a file system that is mounted read-only")
    if not os.access(str(folder), os.W_OK | os.X_OK | os.R_OK):
        raise _unusable(folder, "cannot be written to by the account that runs the module")


def _unusable(folder: Path, why: str) -> InvalidValue:
    return InvalidValue(
        f"folder: {folder} {why}", object_name=str(folder), hint="Name a folder that the account which runs the module may write to."
    )
