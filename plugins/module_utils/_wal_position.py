# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions in the WAL, and the names of its segments, as numbers."""

from __future__ import annotations

import re

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_LOG_BYTES = 1 << 32  # what the second third of a segment's name counts


def wal_bytes(position: str) -> int:
    """Return a position in the WAL, such as `0/16B3740`, as a number of bytes."""
    high, low = position.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def segment_number(name: str | None, size: int) -> int | None:
    """Return the number of the segment called `name` among all of the WAL, or None where that is not the name of a segment.

    The timeline, the first third of the name, does not matter: numbers go on from one to the next.
    """
    if name is None or not _SEGMENT.fullmatch(name):
        return None
    return int(name[8:16], 16) * (_LOG_BYTES // size) + int(name[16:], 16)
