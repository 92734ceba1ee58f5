# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: restore_lines
short_description: Say in lines for a person what was restored and how to take it back
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns from which backup it came, what became of each table, which tokens are accepted again, and what takes it back. The role
    P(pgops.runbook.restore#role) uses it.
positional: _input
options:
  _input:
    description: What M(pgops.runbook.pg_restore) returned.
    type: dict
    required: true
  preview:
    description: Whether it was only looked at.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what was restored
  ansible.builtin.debug:
    msg: "{{ restore_result | pgops.runbook.restore_lines }}"
"""

RETURN = r"""
_value:
  description: The lines, empty where nothing was restored or looked at.
  type: list
  elements: str
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._backup_words import restore_lines


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"restore_lines": restore_lines}
