# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_rows
short_description: Bring the rows of a fleet page up to date
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns a row for each host, that of this run where it has one, else the one that was kept, so that a run over a few hosts loses none.
  - A host that the inventory no longer has goes.
positional: _input
options:
  _input:
    description: The rows that were kept, as a list or as the text of C(fleet.json). A text that cannot be read holds none.
    type: raw
    required: true
  current:
    description: The rows of this run by host, as P(pgops.runbook.report_row#filter) returns them.
    type: dict
    required: true
  known:
    description: The hosts of the inventory.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Keep the rows of the fleet
  ansible.builtin.copy:
    content: "{{ kept | pgops.runbook.report_rows(current={inventory_hostname: row}, known=groups['all']) | to_json }}"
    dest: /srv/reports/fleet.json
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The rows by name of the host.
  type: list
  elements: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_fleet import merge


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_rows": merge}
