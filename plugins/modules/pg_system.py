#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module runs on the control node: its work is done by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_system
short_description: Load and check a system description
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Reads the description of an application database, checks it, and returns it in the one form that the other modules and roles work from.
  - A wrong description fails with every fault at once, each with the path of its key, the value, and what is allowed.
  - Runs on the control node and opens no connection, so that a wrong description stops a play before anything is reached.
options:
  source:
    description:
      - The name of a built-in system, V(tim), V(oauth2_server), V(tmi), V(showtrack) or V(azth), or that of a well-known application,
        V(django_oauth_toolkit), V(simplejwt), V(keycloak), V(ory_hydra), V(doorkeeper) or V(supabase_auth).
      - Or the path of a YAML file, which ends in C(.yml), C(.yaml) or C(.json) or has a C(/) in it. A relative path is looked for in the
        folder of the inventory, then of the playbook, then in the current folder. The file may be encrypted with Ansible Vault.
      - Or the description itself, as a mapping.
      - The form of a description is told in C(docs/system-description.md).
    type: raw
    required: true
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    description: Returns what has changed, or would change in C(check_mode), when in diff mode.
    support: N/A
    details:
      - This module changes nothing.
  action:
    description: Has an action plugin, which runs on the control node.
    support: full
  platform:
    description: Target operating systems of the host that a task is for. Nothing runs there.
    platforms: all
    support: full
seealso:
  - module: pgops.runbook.pg_health
  - module: pgops.runbook.pg_cleanup
"""

EXAMPLES = r"""
- name: Load a built-in system
  pgops.runbook.pg_system:
    source: tim
  register: loaded

- name: Load a description that lies beside the inventory
  pgops.runbook.pg_system:
    source: systems/login.yml

- name: Check a description that is written here
  pgops.runbook.pg_system:
    source:
      name: login
      time_zone: UTC
      retention:
        daily:
          - {table: login_state, column: created_at, older_than: 15 min}
"""

RETURN = r"""
system:
  description:
    - The description with every section present, every table with its schema and every time with its zone.
    - Beside each duration C(x) stand its seconds in C(x_seconds), beside each size C(x) its bytes in C(x_bytes).
    - Loading it again gives the same.
  returned: success
  type: dict
  sample:
    name: login
    schemas: [public]
    clock_skew: 5 min
    clock_skew_seconds: 300.0
name:
  description: The name of the system.
  returned: success
  type: str
  sample: tim
origin:
  description: Where the description came from, a file's path or words.
  returned: success
  type: str
  sample: built-in system tim
errors:
  description: Every fault of a wrong description, each with the path of its key, what is wrong and what is allowed.
  returned: failure
  type: list
  elements: str
  sample:
    - "token_stores[1].revoke.how: 'denlyist' is not one of denylist, timestamp, flag, delete, not_before"
error:
  description: The type of the error, and the file or other origin that it is about.
  returned: failure
  type: dict
  sample: {type: DescriptionError, object: /etc/ansible/systems/login.yml, sqlstate: null, hint: null}
"""
