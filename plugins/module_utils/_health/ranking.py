# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of many objects become readings: every one beyond a limit, and of those that are well the nearest to it."""

from __future__ import annotations

from typing import Callable, Iterable, List, Tuple, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, judge

KEPT = 50
Thing = TypeVar("Thing")


def ranked(
    check: Check,
    limits: Limits,
    amounts: Iterable[Tuple[float, Thing]],
    read: Callable[[float, Thing], Reading],
) -> List[Reading]:
    """Return the readings of the worst things, worst first: all that are beyond a limit, and at least KEPT of them all."""
    worst = sorted(amounts, key=lambda pair: -check.sign * pair[0])
    bad = sum(judge(check, limits, amount)[0] != OK for amount, _thing in worst)
    return [read(amount, thing) for amount, thing in worst[: max(bad, KEPT)]]
