# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_nagios
short_description: Put a result of pg_health into a line of Nagios
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns the line and the exit code that a plugin of Nagios gives, from one result of M(pgops.runbook.pg_health).
  - The numbers are those of the checks that compare one, in V(s), V(B) or V(%), the ones that are wrong first, as many as fit. What is not
    known is V(U). A range such as V(80:) belongs to a check of which a lower value is worse.
positional: _input
options:
  _input:
    description: What M(pgops.runbook.pg_health) returned.
    type: dict
    required: true
  host:
    description: The name of the host, which stands for the system where that has none.
    type: str
    required: true
  system:
    description: The name of the system, where the result does not say it.
    type: str
    default: ""
  failure:
    description: Why the host could not be looked at, which makes it UNKNOWN.
    type: str
    default: ""
  most:
    description: So many bytes has the line at most.
    type: int
    default: 1000
  max_age:
    description:
      - How old the result may get, a duration such as V(2 h), for C(max_age) of the return value.
      - Empty, it follows the tier of the result. V(hourly) is 2 hours, V(daily) 26 hours, V(weekly) 8 days, V(monthly) 32 days,
        none 2 hours.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Print the line
  ansible.builtin.debug:
    msg: "{{ (health_result | pgops.runbook.report_nagios(host=inventory_hostname)).line }}"
"""

RETURN = r"""
_value:
  description: >-
    C(line), C(code) from 0 to 3, C(word) for it, when it C(looked) in seconds since the epoch (0 if the result does not say), and
    C(max_age) in seconds.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_nagios import line


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_nagios": line}
