# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_drill
short_description: Put a result of pg_recovery_drill into what a page says
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns the verdict, the times against their targets, the phases, the differences and the checks of a drill. The role
    P(pgops.runbook.report#role) uses it.
  - Every text in it is escaped for HTML, since names of objects and messages are those of others. Lists are bounded.
positional: _input
options:
  _input:
    description: What M(pgops.runbook.pg_recovery_drill) returned.
    type: dict
    required: true
  host:
    description: The name of the host.
    type: str
    required: true
  system:
    description: The name of the system.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Say the verdict
  ansible.builtin.debug:
    msg: "{{ (recovery_drill_result | pgops.runbook.report_drill(host=inventory_hostname)).sentence }}"
"""

RETURN = r"""
_value:
  description: The parts of the page, C(status), C(word), C(sentence), C(targets), C(phases), C(differences), C(checks) and others.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_drill import drill_page


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_drill": drill_page}
