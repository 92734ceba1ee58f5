# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations and sizes as people write them: `30 days`, `15 min`, `200 ms`, `5 GB`."""

from __future__ import annotations

import re

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

# One entry a unit, in seconds. Months and years are left out because their length is not fixed.
SECONDS = {
    "ms": 0.001,
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
# Units of 1024, as PostgreSQL's own settings and pg_size_pretty() have them.
BYTES = {"B": 1, "kB": 1 << 10, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}

_SHOWN = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 0.001))
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)?\s*")


def parse_duration(text: str | int | float) -> float:
    """Return the seconds of `text`, such as `30 days`; a bare number is seconds. Raises InvalidValue."""
    return _parse(text, SECONDS, "s", "duration", "30 days, 15 min or 200 ms")


def time_to_wait(value: str | int | float, path: str) -> float:
    """Return the seconds of the option at `path`, a duration above 0. Raises InvalidValue, which names it."""
    try:
        seconds = parse_duration(value)
    except InvalidValue as error:
        raise InvalidValue(f"{path}: {error.message}", object_name=path) from None
    if seconds <= 0:
        raise InvalidValue(f"{path}: {value!r} is no time to wait; write more than 0, such as 10 s", object_name=path)
    return seconds


def parse_size(text: str | int | float) -> int:
    """Return the bytes of `text`, such as `5 GB` (units of 1024); a bare number is bytes. Raises InvalidValue."""
    return int(_parse(text, BYTES, "B", "size", "5 GB or 512 MB"))


def format_duration(seconds: float) -> str:
    """Return `seconds` in the largest unit that leaves a whole number, such as `15 min`."""
    for unit, size in _SHOWN:
        count = round(seconds / size, 6)
        if count >= 1 and count == int(count):
            return f"{int(count)} {'day' if unit == 'days' and count == 1 else unit}"
    return f"{seconds:g} s"


def format_size(size: float) -> str:
    """Return `size` (bytes) with one decimal in the largest unit that fits, such as `5.0 GB`."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= BYTES[unit]:
            return f"{size / BYTES[unit]:.1f} {unit}"
    return f"{int(size)} B"


def _parse(text: str | int | float, units: dict[str, float] | dict[str, int], default: str, noun: str, example: str) -> float:
    match = None if isinstance(text, bool) else _QUANTITY.fullmatch(str(text))
    unit = (match.group(2) or default) if match else default
    if match is None or unit not in units:
        message = f"{text!r} is not a {noun}: write a number and a unit ({', '.join(units)}), such as {example}"
        raise InvalidValue(message, object_name=str(text))
    return float(match.group(1)) * units[unit]
