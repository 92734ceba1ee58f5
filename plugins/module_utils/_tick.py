# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What long work calls about once a second, so that it can be shown, and ended: what it raises passes through."""

from __future__ import annotations

from typing import Callable

Tick = Callable[[], None]
