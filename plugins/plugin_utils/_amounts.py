# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values with their units, for people."""

from __future__ import annotations


def against(value: float | None, threshold: float | None, unit: str | None) -> str:
    """Return a value and the threshold that it passed, in words; empty where there is no value."""
    if value is None:
        return ""
    passed = "" if threshold is None else f", the threshold is {amount(threshold, unit)}"
    return amount(value, unit) + passed


def amount(value: float, unit: str | None) -> str:
    """Return a value with its unit: bytes and seconds in the largest unit that fits; 1 GB is 2**30 bytes, as the checks have it."""
    if unit == "bytes":
        return _scaled(value, (("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)), "bytes")
    if unit == "seconds":
        if 0 < abs(value) < 1:
            return f"{_plain(value * 1000)} ms"
        return _scaled(value, (("days", 86400), ("h", 3600), ("min", 60)), "s")
    return f"{_plain(value)} %" if unit == "percent" else _plain(value)


def _scaled(value: float, scale: tuple[tuple[str, float], ...], smallest: str) -> str:
    for name, size in scale:
        if abs(value) >= size:
            return f"{_plain(value / size)} {name}"
    return f"{_plain(value)} {smallest}"


def _plain(value: float) -> str:
    """Return a number with at most one decimal, its thousands apart."""
    rounded = round(value, 1)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.1f}"
