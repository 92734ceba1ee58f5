# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of backups in their folder, and of what stands beside them."""

from __future__ import annotations

import re
from datetime import datetime, timezone

PARTIAL = ".partial-"
DELETED = ".deleted-"
LOCK = ".lock"
OBJECTS = "objects.json"
SUMS = "SHA256SUMS"
VERIFIED = "verified.json"

_TIME = "%Y%m%dT%H%M%SZ"
_PLAIN = re.compile(r"[A-Za-z0-9_-]")


def backup_id(database: str, name: str, moment: datetime) -> str:
    """Return the folder name of a backup: database, name and UTC time between dots; sorted, those of one name are in order of time.

    Two databases never share a name: what is no letter, digit, underscore or dash of ASCII is written as `%` and the hexadecimal digits
    of its UTF-8 bytes, the dot and the percent sign included.
    """
    return ".".join([_safe(database), _safe(name), moment.astimezone(timezone.utc).strftime(_TIME)])


def _safe(text: str) -> str:
    return "".join(one if _PLAIN.match(one) else "".join(f"%{byte:02x}" for byte in one.encode("utf-8")) for one in text)
