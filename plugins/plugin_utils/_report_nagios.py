# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result as the line and the exit code that Nagios and what speaks like it read."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_page import verdict
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import EXIT_CODES, Result, rank
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import tidy

MOST_BYTES = 1000
_NAMED = 3
# A result holds until the next one of its schedule, and some time for that to run.
_HOLDS = {"hourly": "2 h", "daily": "26 h", "weekly": "8 days", "monthly": "32 days"}
_UNITS = {"seconds": "s", "bytes": "B", "percent": "%"}


def line(raw: Any, *, host: str, system: str = "", failure: str = "", most: int = MOST_BYTES, max_age: Any = "") -> Dict[str, Any]:
    """Return `code` (0 to 3), `word` and `line`, which has at most `most` bytes: first what is wrong, then the numbers that fit.

    A connection that was refused is critical, as pg_health has it; a host of which nothing is known is UNKNOWN.
    Without `max_age` the tier of the result says how old it may get.
    """
    result = Result(raw)
    said = verdict(result, failure)
    status = "unknown" if said["status"] == "failed" else result.status
    name = re.sub(r"[^\w.-]+", "_", tidy(result.raw.get("system") or system or host, 60), flags=re.ASCII).strip("_") or "database"
    word = status.upper()
    found = [f"{one.get('key') or one.get('check')} {one.get('message') or ''}" for one in result.findings[:_NAMED]]
    total = sum(result.count(severity) for severity in ("critical", "warning", "unknown"))
    more = [f"and {total - _NAMED} more"] if total > _NAMED else []
    text = "; ".join([said["sentence"], *([] if said["status"] == "failed" else [*found, *more])])
    head = _cut(f"PGOPS {name} {word} - {_plain(text)}", most * 2 // 3)
    numbers = ""
    for one in _performance(result):
        longer = f"{numbers} {one}" if numbers else one
        # The whole of one or nothing: half a number would be another one.
        if len(f"{head} | {longer}".encode()) > most:
            continue
        numbers = longer
    return {
        "code": EXIT_CODES[status],
        "word": word,
        "name": name,
        "line": f"{head} | {numbers}" if numbers else head,
        "looked": int(result.time or 0),
        "max_age": int(parse_duration(max_age or _HOLDS.get(str(result.raw.get("tier")), "2 h"))),
    }


def _plain(text: str) -> str:
    """Return a text without what ends the line, or begins the numbers."""
    return tidy(text.replace("|", "/"), 4000)


def _cut(text: str, most: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= most else encoded[: most - 3].decode("utf-8", "ignore").rstrip() + "..."


def _performance(result: Result) -> List[str]:
    """Return the numbers of the checks that have one, those that are wrong first."""
    checks = sorted(result.checks, key=lambda one: rank(one.get("status")))
    return [_one(result, check) for check in checks if check.get("unit") and check.get("status") in EXIT_CODES]


def _one(result: Result, check: Mapping[str, Any]) -> str:
    """Return one number: `'label'=value[unit];warning;critical;min;max`, `U` where it is not known."""
    check_id = str(check.get("id"))
    label = re.sub(r"[^\w. -]", "_", check_id, flags=re.ASCII)[:60]
    unit = str(check.get("unit"))
    value = number(check.get("value"))
    below = result.worse_below(check_id)
    warning, critical = result.limits_of(check_id)
    ends = (
        ("0", "100")
        if unit == "percent" and (value is None or 0 <= value <= 100)
        else ("0", "")
        if value is None or value >= 0
        else ("", "")
    )
    negative = value is not None and value < 0
    bounds = [_range(bound, below=below, negative=negative) for bound in (warning, critical)]
    said = "U" if value is None or check.get("status") == "unknown" else f"{_digits(value)}{_UNITS.get(unit, '')}"
    return f"'{label}'={said};{bounds[0]};{bounds[1]};{ends[0]};{ends[1]}"


def _range(bound: float | None, *, below: bool, negative: bool) -> str:
    """Return the range that is well: `80` is 0 to 80, `80:` is 80 and more."""
    if bound is None:
        return ""
    if below:
        return f"{_digits(bound)}:"
    # A plain number means from 0 on.
    return _digits(bound) if bound >= 0 and not negative else f"~:{_digits(bound)}"


def _digits(value: float) -> str:
    """Return a number without an exponent."""
    if value == int(value):
        return str(int(value))
    return f"{value:.3f}".rstrip("0").rstrip(".")
