# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders that options name, and how much stands in one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue


def absolute_path(parameters: Mapping[str, Any], option: str) -> Path | None:
    """Return the path that an option holds, None where it is not given. Raises InvalidValue for one that is not absolute."""
    value = parameters.get(option)
    if value in (None, ""):
        return None
    path = Path(str(value)).expanduser()
    if not path.is_absolute():
        # It would be taken from wherever the module happens to run.
        raise InvalidValue(f"{option}: {str(value)!r} is no absolute path; write one that begins with a slash", object_name=option)
    return path


def folder_of_backups(parameters: Mapping[str, Any]) -> Path:
    """Return the folder that the option `folder` names. Raises InvalidValue."""
    folder = absolute_path(parameters, "folder")
    if folder is None:
        raise InvalidValue("folder: name the folder in which the backups stand, such as /var/backups/postgresql", object_name="folder")
    return folder


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below `folder`, in which a run may be at work: what has just gone, or may not be looked at, is none."""
    total = 0
    for place, _folders, files in os.walk(str(folder)):
        for file in files:
            with suppress(OSError):
                total += Path(place, file).lstat().st_size
    return total
