# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a backup: written last, whole or not at all, and sealed with a hash of itself.

The document is described in docs/backup.md. `heads.py` says of many what matters for choosing among them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, Refused

MANIFEST = "manifest.json"
LARGEST = 512 * 1024 * 1024  # of three million files
VERSION = "pgops.backup/1"
SEAL = "sha256"


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON to `path` so that a crash leaves the old content or the new one, readable by its owner alone. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(str(draft), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, ensure_ascii=False, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    flush_folder(path.parent)


def require_readable(path: Path) -> None:
    """Refuse a manifest that has just been written and that `read_document` would not read again. Raises Refused, OSError."""
    if path.stat().st_size > LARGEST:
        message = f"{path.parent} has more files than a manifest can hold, such as one for each large object"
        raise Refused(message, object_name=str(path), hint="Use format=custom, which is one file.")


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` survive a crash of the machine. Raises OSError."""
    place = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def sealed(document: Mapping[str, Any]) -> Dict[str, Any]:
    """Return `document` with the hash of everything else in it."""
    return {**document, SEAL: _seal(document)}


def read_manifest(backup: Path) -> Dict[str, Any]:
    """Return the manifest of the backup in the folder `backup`.

    Raises InvalidValue where there is none, where it is not this format, where its seal does not fit, or where it names a file outside
    the folder.
    """
    path = backup / MANIFEST
    try:
        document = read_document(path)
        if not isinstance(document, dict) or document.get("format") != VERSION:
            raise ValueError(f"its format is not {VERSION}")
        if document.get(SEAL) != _seal(document):
            raise ValueError("it has been changed: the hash of its content is another than the one in it")
        _inside(document)
    except FileNotFoundError:
        raise InvalidValue(f"{backup} holds no backup: there is no {MANIFEST} in it", object_name=str(backup)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
        hint = "Do not trust this backup; take another one."
        raise InvalidValue(f"the manifest {path} cannot be trusted: {why}", object_name=backup.name, hint=hint) from None
    return document


def read_document(path: Path) -> Any:
    """Return the JSON in `path`. Raises OSError, and ValueError where it is none, no plain file, or larger than any manifest."""
    about = path.stat()
    # A pipe of that name would keep the reader waiting.
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no plain file")
    if about.st_size > LARGEST:
        raise ValueError("it is larger than any manifest")
    return json.loads(path.read_text(encoding="utf-8"))


def iso(moment: datetime) -> str:
    """Return a moment as manifests write it, in UTC."""
    return moment.astimezone(timezone.utc).isoformat()


def from_iso(text: str) -> datetime:
    """Return the moment that a manifest says. Raises ValueError, also where no zone is said."""
    # Python before 3.11 does not read a Z.
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} says no zone")
    return moment.astimezone(timezone.utc)


def _seal(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _inside(document: Mapping[str, Any]) -> None:
    files: List[Mapping[str, Any]] = document["files"]
    for file in files:
        path = Path(str(file["path"]))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"it names a file outside the backup, {path}")
