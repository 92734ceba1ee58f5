# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_lines
short_description: Say in lines for a person what was backed up
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns a line for each backup that was made, was there, or failed, for what was deleted, and for what is to be known.
positional: _input
options:
  _input:
    description: The fact C(backup_result) of the role P(pgops.runbook.backup#role).
    type: dict
    required: true
  check:
    description: Whether the run was one in check mode, which only says what would be.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what was backed up
  ansible.builtin.debug:
    msg: "{{ backup_result | pgops.runbook.backup_lines(check=ansible_check_mode) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._backup_words import backup_lines


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"backup_lines": backup_lines}
