# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: drill_lines
short_description: Say in lines for a person what a recovery drill has shown
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns whether the drill passed, how long recovery took against its target, how much would have been lost, and what was different.
positional: _input
options:
  _input:
    description: The fact C(recovery_drill_result) of the role P(pgops.runbook.recovery_drill#role), empty where there was no drill.
    type: dict
    required: true
  check:
    description: Whether the run was one in check mode, which only says what would be.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what the drill has shown
  ansible.builtin.debug:
    msg: "{{ recovery_drill_result | pgops.runbook.drill_lines }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._backup_words import drill_lines


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"drill_lines": drill_lines}
