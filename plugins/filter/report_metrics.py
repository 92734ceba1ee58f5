# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_metrics
short_description: Put a result of pg_health into metrics of Prometheus
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns families of gauges and counters in base units with escaped labels, from one result of M(pgops.runbook.pg_health).
  - Of each metric the 20 worst objects are there. No label is a process or the text of a statement.
positional: _input
options:
  _input:
    description: What M(pgops.runbook.pg_health) returned.
    type: dict
    required: true
  host:
    description: The label C(host).
    type: str
    required: true
  system:
    description: The label C(system), where the result does not say it.
    type: str
    default: ""
  last_success:
    description: When an earlier run last reached the database, in seconds since the epoch, for a result of one that did not.
    type: float
"""

EXAMPLES = r"""
- name: Print the families
  ansible.builtin.debug:
    msg: "{{ health_result | pgops.runbook.report_metrics(host=inventory_hostname) | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: Each with C(name), C(type), C(help) and C(samples), the lines of its series.
  type: list
  elements: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_metrics import families


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_metrics": families}
