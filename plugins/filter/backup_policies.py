# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_policies
short_description: Say which backups of a system are due, with the options of pg_backup for each
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Turns C(backup) of a system description into the options of M(pgops.runbook.pg_backup). The role P(pgops.runbook.backup#role) uses it.
  - A policy with C(every) is due in the hourly runs too. One with the schedule C(on_demand) is due only where it is named.
  - What this version of the collection cannot make, physical and incremental backups and WAL, is named in C(notices), and in C(faults)
    where it was asked for by its name.
  - Where a policy has the C(location) C(external), its C(keep) and C(generations) hold in every path of C(copies) that has no C(keep).
positional: _input
options:
  _input:
    description: The section C(backup) of a description that the role P(pgops.runbook.system#role) has loaded.
    type: dict
    required: true
  schedule:
    description: The schedule whose backups are meant. Empty means all that have one.
    type: str
    choices: ["", hourly, daily, weekly, monthly]
    default: ""
  names:
    description: Names of policies that are asked for. Then no schedule counts, and no older backup is fresh enough.
    type: list
    elements: str
    default: []
  host:
    description:
      - What holds for all backups of a host, options of M(pgops.runbook.pg_backup) that go before the policy where they are not empty.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Say what the daily run backs up
  ansible.builtin.debug:
    msg: "{{ (system_description.backup | pgops.runbook.backup_policies(schedule='daily')).runs | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description:
    - C(runs), each with C(name), C(kind), C(schemas), C(tables), C(format), C(compression), C(encrypt), C(verify), C(keep), C(copies) and
      C(fresh_for) as far as they are said.
    - C(notices), C(faults) that keep a backup from being made, and in C(declared) how many policies are due.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._backup_policies import plan


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"backup_policies": plan}
