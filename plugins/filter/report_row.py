# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_row
short_description: Put a result of pg_health into one row of a fleet page
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns the verdict, the counts and the worst finding of a host. The role P(pgops.runbook.report#role) keeps one for each host.
positional: _input
options:
  _input:
    description: What M(pgops.runbook.pg_health) returned.
    type: dict
    required: true
  host:
    description: The name of the host.
    type: str
    required: true
  system:
    description: The name of the system, where the result does not say it.
    type: str
    default: ""
  failure:
    description: Why the host could not be looked at.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Keep what the fleet page says of this host
  ansible.builtin.set_fact:
    row: "{{ health_result | pgops.runbook.report_row(host=inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The row, with C(status) being V(failed) for a host that could not be looked at. Not escaped.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_page import row


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_row": row}
