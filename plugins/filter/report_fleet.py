# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_fleet
short_description: Put the rows of all hosts into what a fleet page says
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns the rows worst first and how many there are of each verdict, every text escaped for HTML.
  - A host that this run did not look at and that was last seen too long ago is stale, whatever it once said. Nothing here is compared
    with the clock, only with the newest moment of all rows.
positional: _input
options:
  _input:
    description: The rows, as P(pgops.runbook.report_rows#filter) returns them.
    type: list
    elements: dict
    required: true
  stale_after:
    description: After how long a row counts as stale, a duration such as V(2 days).
    type: str
    required: true
  title:
    description: The title of the page.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Count the hosts
  ansible.builtin.debug:
    msg: "{{ (rows | pgops.runbook.report_fleet(stale_after='2 days')).total }} hosts"
"""

RETURN = r"""
_value:
  description: >-
    C(rows), C(counts), C(total), C(status) of the worst, C(title), when the newest was C(looked) at, and C(valid_until) when it holds.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_fleet import fleet


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_fleet": fleet}
