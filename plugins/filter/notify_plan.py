# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: notify_plan
short_description: Decide who is told of what
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Turns the results of M(pgops.runbook.pg_health) of one or more hosts into the messages that have to be sent, by channel and by
    the contacts of the systems. The role P(pgops.runbook.notify#role) uses it.
  - Sends nothing and returns nothing secret. A channel that is not set up right is named in C(faults), and the others are planned.
options:
  _input:
    description:
      - Mappings of C(host), C(system), C(result), C(failure) (why the run broke off; a text, or a mapping of C(type) and C(message)),
        C(contacts) and C(report_url). The bare name of a host stands for one that left the run.
      - An empty list only looks at the channels.
    type: list
    elements: raw
    required: true
  channels:
    description: The channels, as the role describes them.
    type: list
    elements: dict
    required: true
  'on':
    description: What is told of findings, by what has become of them since the run before. Without a history every finding is new.
    type: list
    elements: str
    choices: [new, worse, still, better, resolved, all]
    default: [new, worse, resolved]
"""

EXAMPLES = r"""
- name: Stop where a channel is not set up right
  ansible.builtin.assert:
    that: faults | length == 0
    fail_msg: "{{ faults }}"
  vars:
    faults: "{{ ([] | pgops.runbook.notify_plan(notify_channels)).faults }}"
"""

RETURN = r"""
_value:
  description:
    - C(deliveries), each with its C(number), C(channel), C(type), the mail addresses in C(to), and the C(message).
    - C(channels) with their types, C(faults) by channel, and C(notices), such as a contact that no channel reaches.
    - C(mail_is_there), whether C(community.general.mail) can be called, and C(bounded_by), a program that ends another one in time.
  type: dict
"""

import shutil
from typing import Any

from ansible.plugins.loader import module_loader
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.pgops.runbook.plugins.plugin_utils._routing import USUAL, plan


def notify_plan(hosts: Any, channels: Any, on: Any = USUAL) -> Any:
    planned = plan(hosts, channels, [on] if isinstance(on, str) else on)
    around = {
        "mail_is_there": module_loader.find_plugin("community.general.mail") is not None,
        "bounded_by": [one for one in (shutil.which("timeout"),) if one],
    }
    # Names of objects may look like templates.
    return wrap_var({**planned, **around})


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"notify_plan": notify_plan}
