# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_answers
short_description: Name the extra variables of this run that a runbook does not know
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Looks at the extra variables of the run (C(-e), a survey, a job template) and returns a sentence about each that is none of the names
    given, with the nearest of them. A mistyped criterion would otherwise be ignored, and the rest would select more than was meant.
  - That C(-e name=two words) has left words without a name is told as well.
  - Variables of Ansible and AWX (C(ansible_), C(awx_), C(tower_)) and those that any runbook of this collection may be given are known.
options:
  _terms:
    description: The names that the runbook knows.
    type: list
    elements: str
    required: true
  allowed:
    description: Further names that are right, with V(*) for anything, such as extra variables that the inventory uses.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Stop where an answer is mistyped
  ansible.builtin.assert:
    that: wrong | length == 0
    fail_msg: "{{ wrong | join('; ') }}"
  vars:
    wrong: "{{ query('pgops.runbook.unknown_answers', 'subjects', 'issued_from', 'issued_to', allowed=['site_*']) }}"
"""

RETURN = r"""
_raw:
  description: A sentence about each that is not known. No value is in it.
  type: list
  elements: str
"""

import difflib
from fnmatch import fnmatchcase
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

# Every runbook may be given these; the last two are what a runbook leaves to the next node of an AWX workflow.
EVERYWHERE = (
    *("target", "pgops_system", "pgops_connection", "pgops_cache_connection", "pgops_introspection", "pgops_fail_on"),
    *("pgops_environment", "pgops_other_variables", "pgops_summary", "pgops_revocation"),
)
PREFIXES = ("ansible_", "awx_", "tower_")
# Under this name Ansible keeps what of `-e name=two words` stands behind the first word.
WITHOUT_NAME = "_raw_params"


class LookupModule(LookupBase):
    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        known = [str(term) for term in terms] + list(EVERYWHERE)
        allowed = [str(one) for one in self.get_option("allowed")]
        return [
            _sentence(str(name), known)
            for name in load_extra_vars(self._loader)
            if name not in known and not str(name).startswith(PREFIXES) and not any(fnmatchcase(str(name), one) for one in allowed)
        ]


def _sentence(name: str, known: list[str]) -> str:
    if name == WITHOUT_NAME:
        return 'words behind a space belong to no answer, write one with spaces in it as -e \'{"reason": "two words"}\''
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name} is no answer that this runbook knows{f', did you mean {near[0]}?' if near else ''}"
