# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a backup: what was written is hashed and flushed, then the manifest, then it gets its name, in one step."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.leftovers import RUN
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import (
    MANIFEST,
    flush_folder,
    require_readable,
    write_document,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import SUMS, backup_id
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import Written, hash_files
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

_NOT_LISTED = (RUN, SUMS, MANIFEST)


def listed_files(partial: Path, known: Mapping[str, Written], jobs: int, tick: Tick) -> List[Dict[str, Any]]:
    """Return path, size and SHA-256 of every file in `partial`, and make all of them and their names survive a crash.

    `known` are those that were hashed and flushed while they were written, by path. Raises RunbookError where a file cannot be read.
    """
    paths = sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file() and path.name not in _NOT_LISTED)
    fresh = [path for path in paths if path not in known]
    for path in fresh:
        # lz4 and its like give a file the mode that the umask leaves.
        (partial / path).chmod(0o600)
    hashed = hash_files([partial / path for path in fresh], workers=jobs, tick=tick, flush=True)
    for folder in sorted({(partial / path).parent for path in paths}):
        flush_folder(folder)
    found = {**{path: hashed[str(partial / path)] for path in fresh}, **known}
    return [{"path": path, "bytes": found[path].bytes, "sha256": found[path].sha256} for path in paths]


def free_id(folder: Path, database: str, name: str, moment: datetime) -> str:
    """Return the id of a backup taken at `moment`, or of the first second after it whose id nothing in `folder` has."""
    found = backup_id(database, name, moment)
    while os.path.lexists(str(folder / found)):
        moment += timedelta(seconds=1)
        found = backup_id(database, name, moment)
    return found


def publish(partial: Path, manifest: Mapping[str, Any]) -> Path:
    """Write the sums and the sealed manifest and give the backup its name; return where it stands. Raises Refused, OSError.

    Until the last step nothing has that name, and after it everything is there.
    """
    sums = "".join(f"{file['sha256']}  {file['path']}\n" for file in manifest["files"])
    _write(partial / SUMS, sums)
    (partial / RUN).unlink()
    write_document(partial / MANIFEST, manifest)
    require_readable(partial / MANIFEST)
    target = partial.parent / str(manifest["id"])
    partial.rename(target)
    flush_folder(target.parent)
    return target


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
