# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of backups in their folder, of what stands beside them, and of the databases that they are restored into at first."""

from __future__ import annotations

import re
from datetime import datetime, timezone

PARTIAL = ".partial-"
DELETED = ".deleted-"
COPYING = ".copy-"
LOCK = ".lock"
OBJECTS = "objects.json"
SUMS = "SHA256SUMS"
VERIFIED = "verified.json"
RESTORING = "pgops_restore_"  # how the names of databases begin in which restores grow until they get their own

_TIME = "%Y%m%dT%H%M%SZ"
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_ID = r"(?:[A-Za-z0-9_-]|%[0-9a-f]{2})+\.(?:[A-Za-z0-9_-]|%[0-9a-f]{2})+\.\d{8}T\d{6}Z"
_OWN = re.compile(_ID)
_HIDDEN = re.compile(rf"(\.partial-)[0-9a-f]{{16}}-\d+|(\.deleted-){_ID}|(\.copy-){_ID}")
_RESTORING = re.compile(rf"{RESTORING}[0-9a-f]{{8}}")


def backup_id(database: str, name: str, moment: datetime) -> str:
    """Return the folder name of a backup: database, name and UTC time between dots; sorted, those of one name are in order of time.

    Two databases never share a name: what is no letter, digit, underscore or dash of ASCII is written as `%` and the hexadecimal digits
    of its UTF-8 bytes, the dot and the percent sign included.
    """
    return ".".join([part_of_id(database), part_of_id(name), moment.astimezone(timezone.utc).strftime(_TIME)])


def part_of_id(text: str) -> str:
    """Return how the name of a database or of a backup stands in `backup_id`."""
    return "".join(one if _PLAIN.match(one) else "".join(f"%{byte:02x}" for byte in one.encode("utf-8")) for one in text)


def is_backup_id(name: str) -> bool:
    """Say whether `name` is such a one as `backup_id` returns."""
    return _OWN.fullmatch(name) is not None


def hidden(name: str) -> str | None:
    """Return what a hidden folder of that name is for, PARTIAL, DELETED or COPYING; None for one that no run has made."""
    found = _HIDDEN.fullmatch(name)
    return next(start for start in found.groups() if start) if found else None


def is_restoring(database: str) -> bool:
    """Say whether a database of that name is one that a restore fills: half of one is no database of anybody."""
    return _RESTORING.fullmatch(database) is not None
