# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_page
short_description: Put a result of pg_health into what a page says
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Returns the verdict, the findings, what changed, the tables, and every chart as numbers that a template draws, from one result of
    M(pgops.runbook.pg_health). The role P(pgops.runbook.report#role) uses it.
  - Every text in it is escaped for the form that is asked for, since names of objects and messages are those of others. What is too long
    is cut, and every list is bounded.
  - A result that is old or partial, such as that of a refused connection, is fine. What is missing is told as missing, never as well.
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
  title:
    description: The title of the page. Without it, it is made from the system and the host.
    type: str
    default: ""
  system:
    description: The name of the system, where the result does not say it.
    type: str
    default: ""
  targets:
    description: What the service promises, C(targets) of the system description.
    type: dict
    default: {}
  failure:
    description: Why the host could not be looked at.
    type: str
    default: ""
  form:
    description: What the texts are escaped for.
    type: str
    choices: [html, markdown]
    default: html
"""

EXAMPLES = r"""
- name: Say the verdict
  ansible.builtin.debug:
    msg: "{{ page.word }}: {{ page.sentence }}"
  vars:
    page: "{{ health_result | pgops.runbook.report_page(host=inventory_hostname, form='markdown') }}"
"""

RETURN = r"""
_value:
  description: The parts of the page, C(status), C(word), C(sentence), C(findings), C(unseen), C(changes), C(charts) and others.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.plugin_utils._report_page import page


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"report_page": page}
