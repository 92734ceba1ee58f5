# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_file_name
short_description: Make a file name of any name
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns the name if it holds nothing but letters, digits, dot, dash and underscore. Otherwise what is left of it, with a fingerprint of
    the whole, so that two names never share one.
positional: _input
options:
  _input:
    description: The name.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Name a file after a host
  ansible.builtin.debug:
    msg: "{{ inventory_hostname | pgops.runbook.report_file_name }}.html"
"""

RETURN = r"""
_value:
  description: The name without a folder and without an extension.
  type: str
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import file_name


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_file_name": file_name}
