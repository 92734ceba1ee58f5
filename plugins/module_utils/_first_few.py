# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many names or faults in one sentence: the first few, and how many more there are."""

from __future__ import annotations

from typing import Sequence


def names_in_words(names: Sequence[str], most: int = 5) -> str:
    """Return names such as `a, b and 7 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def faults_in_words(messages: Sequence[str], most: int = 3) -> str:
    """Return sentences such as `this is missing; that is broken (and 7 more)`."""
    return "; ".join(messages[:most]) + (f" (and {len(messages) - most} more)" if len(messages) > most else "")
