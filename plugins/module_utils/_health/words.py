# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and moments as messages say them."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun: `1 login`, `2 logins`, or the plural that is given."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def moment(text: str) -> str:
    """Return a timestamp of a session in UTC to the second: `2026-11-21 03:18:58 UTC`; `infinity` stays as it is."""
    whole, _plus, zone = text.partition("+")
    return f"{whole.partition('.')[0]} UTC" if zone else text


def span(seconds: float) -> str:
    """Return a time to the second in one unit: `90 s`, `25 min`; a clock that went back gives `0 s`."""
    return format_duration(round(max(0.0, seconds)))


def age(seconds: float) -> str:
    """Return a time as people say it, exact to about a tenth: `42 s`, `31 min`, `2 h 5 min`, `3 days`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 2:
        return f"{minutes} min"
    if days < 2:
        rest = minutes % 60 if hours < 10 else 0
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{days} days"
