# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the checks, written from the registry so that it cannot say anything else than the code."""

from __future__ import annotations

from typing import Iterable

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration, format_size
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check
from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import CHECKS, TIERS

_HEAD = """\
# The checks of `pg_health`

Written from the registry by `python3 -m tests.tools.checks_page`; a test compares.

A check is `ok`, `warning`, `critical`, `unknown` (it could not see; the finding says which grant would change that) or `skipped` (it has
nothing to say here, and says why). An id that the system description has thresholds for and that no check of this version looks at is
skipped too, and the summary counts what was skipped. A run of one tier includes the tiers before it. A value *beyond* a threshold is a
finding, a value equal to it is not.
Thresholds come from this page, over it from `thresholds` of the system description, over that from `thresholds` of the call, where `null`
switches one off.
"""


def page() -> str:
    """Return docs/checks.md: for every tier a table, then for every check what it looks at, what to do, and what it needs."""
    parts = [_HEAD]
    for tier in TIERS:
        checks = [check for check in CHECKS.values() if check.tier == tier]
        if checks:
            parts.append(f"## {tier.capitalize()}\n\n| check | what | warning | critical | needs |\n|---|---|---|---|---|\n{_rows(checks)}")
    parts.append("## What each looks at and what to do\n")
    parts += [_details(check) for check in CHECKS.values()]
    return "\n".join(parts)


def _rows(checks: Iterable[Check]) -> str:
    return "".join(
        f"| `{check.id}` | {check.title} | {_bound(check, 'warning')} | {_bound(check, 'critical')} | {check.needs} |\n" for check in checks
    )


def _details(check: Check) -> str:
    minimum = f" Judged from {_least(check)} (`minimum`)." if check.minimum is not None else ""
    return f"### {check.id}\n\n{check.looks_at}{minimum}\n\nTo do: {check.action}\n"


def _least(check: Check) -> str:
    if check.minimum is not None and check.minimum_of.startswith("bytes"):
        return format_size(check.minimum) + check.minimum_of[len("bytes") :]
    return f"{check.minimum:g} {check.minimum_of}"


def _bound(check: Check, bound: str) -> str:
    value: float | None = getattr(check, bound)
    if value is None:
        return check.decides.get(bound, "-")
    written = {"seconds": format_duration, "bytes": format_size}.get(check.unit or "", "{:g}".format)(value)
    written += " %" if check.unit == "percent" else ""
    return f"{'under' if check.worse == 'below' else 'over'} {written}"
