# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: notify_outcome
short_description: Say what has become of the messages
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Turns what the sending tasks have registered into one line a channel, without any secret of a channel.
    The role P(pgops.runbook.notify#role) uses it.
options:
  _input:
    description: What P(pgops.runbook.notify_plan#filter) returned.
    type: dict
    required: true
  registered:
    description: What the tasks have registered that send.
    type: list
    elements: dict
    required: true
  channels:
    description: The channels, for what must not be shown of them.
    type: list
    elements: dict
    required: true
  check_mode:
    description: Whether nothing was sent because of check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep what has become of the messages
  ansible.builtin.set_fact:
    notify_result: "{{ planned | pgops.runbook.notify_outcome([mailed, posted], notify_channels, check_mode=ansible_check_mode) }}"
"""

RETURN = r"""
_value:
  description:
    - C(channels), each with C(channel), C(type), C(status) (V(sent), V(nothing to tell), V(would be sent) or V(failed)), the mail
      addresses in C(recipients), how many C(messages) there were, how many people or programs were C(told) of how many C(meant),
      and the C(reason) of a failure.
    - C(notices), what somebody should look at, and C(lines), all of it in words.
  type: dict
"""

from typing import Any

from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.pgops.runbook.plugins.plugin_utils._outcome import outcome


def notify_outcome(planned: Any, registered: Any, channels: Any, check_mode: bool = False) -> Any:
    return wrap_var(outcome(planned, registered, channels, check_mode=check_mode))


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"notify_outcome": notify_outcome}
