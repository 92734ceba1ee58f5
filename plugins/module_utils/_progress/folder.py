# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file in a folder that a watcher on the same host has made and named in the environment."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Mapping

VARIABLE = "PGOPS_RUNBOOK_PROGRESS"
_SUFFIX = ".json"


class ProgressFile:
    """The one file of this process; whoever reads it finds a whole view or none."""

    def __init__(self, folder: Path, operation: str) -> None:
        self._path = folder / f"{operation}.{os.getpid()}{_SUFFIX}"

    @classmethod
    def asked_for(cls, environment: Mapping[str, str], operation: str) -> ProgressFile | None:
        """Return the file to write to, or None if no watcher asked."""
        folder = environment.get(VARIABLE)
        return cls(Path(folder), operation) if folder else None

    def show(self, view: Mapping[str, Any]) -> None:
        """Replace the file's content. Raises OSError."""
        # mkstemp makes it for the owner alone and follows no link that someone else has put there.
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(view, file)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink()
            raise

    def close(self) -> None:
        """Remove the file. Raises OSError."""
        self._path.unlink()


def newest(folder: Path) -> Any:
    """Return the view in `folder` that was written last, or None where there is none."""
    try:
        path = max(folder.glob(f"*{_SUFFIX}"), key=lambda one: one.stat().st_mtime)
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # There is none, or its process ended while it was looked at.
        return None
