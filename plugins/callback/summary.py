# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary of a runbook as the last thing on a terminal."""

from __future__ import annotations

DOCUMENTATION = r"""
name: summary
type: aggregate
short_description: Prints the summary of a runbook after the recap
version_added: 0.1.0
description:
  - The role P(pgops.runbook.summary#role) prints the summary as a task, so that it reaches every job output.
    This callback prints the same lines once more after the recap, without quotes and in colour, for a person at a terminal.
requirements:
  - Enable it with C(callbacks_enabled = pgops.runbook.summary) in the section C([defaults]) of the configuration, or
    with E(ANSIBLE_CALLBACKS_ENABLED).
author:
  - pgops.runbook contributors (@pgops)
"""

from typing import Any

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

COLOURS = {"FAILED": C.COLOR_ERROR, "CRITICAL": C.COLOR_ERROR, "UNKNOWN": C.COLOR_UNREACHABLE, "WARNING": C.COLOR_WARN, "OK": C.COLOR_OK}


class CallbackModule(CallbackBase):
    """Prints `pgops_summary.lines`, which the role summary leaves among the custom statistics."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "pgops.runbook.summary"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the lines of the last runbook; nothing where no runbook got as far as its summary."""
        summary = stats.custom.get("_run", {}).get("pgops_summary", {})
        for line in summary.get("lines", []):
            self._display.display(line, color=COLOURS.get(line.partition(" ")[0]))
