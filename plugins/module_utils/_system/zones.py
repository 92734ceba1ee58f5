# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of time zones."""

from __future__ import annotations

import difflib
import re

try:
    from zoneinfo import ZoneInfo, available_timezones

    HAS_ZONEINFO = True
except ImportError:  # Python 3.8
    HAS_ZONEINFO = False

# Any word with a number behind it is a zone to the server, of POSIX's form, which counts hours west of Greenwich: UTC-5 is five
# hours ahead of UTC, and hardly what was meant. The few names of the zone database that have this form mean what they say.
_POSIX = re.compile(r"(<[^>]*>|[^\d,+-]+)[+-]?\d.*", re.DOTALL)
_NAMED_LIKE_POSIX = re.compile(r"Etc/GMT([+-]?0|[+-][1-9]|[+-]1[0-2]|-1[34])|GMT[+-]?0|EST5EDT|CST6CDT|MST7MDT|PST8PDT")
_WRITTEN = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*")


def zone_fault(name: str) -> str | None:
    """Return what is wrong with a zone's name, or None.

    Where the interpreter has a zone database the name must be in it; elsewhere it must only look like one, and
    the server has the last word when the zone is used.
    """
    if _POSIX.fullmatch(name) and not _NAMED_LIKE_POSIX.fullmatch(name):
        return (
            f"{name!r} is not a time zone: the server would take its number with the opposite sign; write a name such as "
            "America/New_York, or Etc/GMT+5 for five hours behind UTC"
        )
    if not _WRITTEN.fullmatch(name):
        return f"{name!r} is not a time zone: write a name such as UTC or Europe/Tallinn"
    # An interpreter without a zone database does not even know UTC, and so cannot say which names are wrong.
    if _known("UTC") and not _known(name):
        near = difflib.get_close_matches(name, sorted(available_timezones()), n=1)
        advice = f"; did you mean {near[0]}?" if near else ": write a name such as UTC or Europe/Tallinn"
        return f"{name!r} is not a known time zone{advice}"
    return None


def _known(name: str) -> bool:
    if not HAS_ZONEINFO:
        return False
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
