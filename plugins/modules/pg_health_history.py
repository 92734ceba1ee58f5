#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_health_history
short_description: Keep the history of a database's health in a file
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Reads the history of M(pgops.runbook.pg_health) from a file, and adds the snapshot of a run to it. Nothing is written to the database.
  - Run it with C(delegate_to=localhost), so that the file stands on the control node. The role P(pgops.runbook.health#role) does.
  - The file has one line of JSON a run. It is appended to under a lock and synced; of two runs at once both are recorded, and one that is
    killed while it writes leaves half a line that nobody reads and the next run removes.
  - The file, and the folders that are made for it, can be read by their owner alone.
options:
  path:
    description: The file, one for each host. Missing folders are made.
    type: path
    required: true
  state:
    description:
      - V(present) adds O(snapshot), or reads the file where no snapshot is given. A file that is not there is an empty history.
      - V(absent) removes the file.
    type: str
    choices: [present, absent]
    default: present
  snapshot:
    description:
      - The key C(snapshot) of a result of M(pgops.runbook.pg_health). Without one, or with an empty one, the file is read.
    type: dict
    default: {}
  system:
    description:
      - Read only the runs of the system of this name; without it every run.
      - An empty string counts as not given.
    type: str
  keep:
    description:
      - How long a run is kept. Older ones are removed when a snapshot is added, by replacing the file.
      - Of a run older than eight days only the numbers stay whose course is charted, which is what makes a file of 10,000 runs small.
      - An empty string counts as not given.
    type: str
    default: 400 days
notes:
  - A recorded snapshot is like a line in a log, and so it is no change of the task.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - The history is read; nothing is written.
  diff_mode:
    description: Returns what has changed, or would change in C(check_mode), when in diff mode.
    support: none
  platform:
    description: Target operating systems on which the module can run.
    platforms: posix
    support: full
seealso:
  - module: pgops.runbook.pg_health
"""

EXAMPLES = r"""
- name: Read the history
  pgops.runbook.pg_health_history:
    path: "/var/lib/pgops/health/{{ inventory_hostname }}.jsonl"
  delegate_to: localhost
  register: earlier

- name: Look, and compare with the runs before
  pgops.runbook.pg_health:
    login_db: tim
    history: "{{ earlier.history }}"
    fail_on: never
  register: health

- name: Record the run
  pgops.runbook.pg_health_history:
    path: "/var/lib/pgops/health/{{ inventory_hostname }}.jsonl"
    snapshot: "{{ health.snapshot }}"
  delegate_to: localhost
"""

RETURN = r"""
history:
  description: What M(pgops.runbook.pg_health) takes as its option O(pgops.runbook.pg_health#module:history).
  type: dict
  returned: when the file was read
  contains:
    place: {description: The file., type: str}
    records: {description: "The newest runs, the latest first", type: list, elements: dict}
    series: {description: "The course of numbers, a point an hour for two days and before that a point a day", type: dict}
    snapshots: {description: How many runs the file holds., type: int}
    damaged: {description: How many lines could not be read., type: int}
recorded:
  description: Whether the snapshot was added; false in check mode.
  type: bool
  returned: when a snapshot was given
bytes:
  description: How long its line is.
  type: int
  returned: when a snapshot was added
notices:
  description: Sentences about what did not work and does no harm.
  type: list
  elements: str
  returned: when a snapshot was added
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._duration import time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import file_store
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.sealed import opened

KEEP = "400 days"
ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "snapshot": {"type": "dict", "default": {}},
    "system": {"type": "str"},
    "keep": {"type": "str", "default": KEEP},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    path, checking = module.params["path"], module.check_mode
    try:
        snapshot = opened(module.params["snapshot"])
        keep = time_to_wait(module.params["keep"] or KEEP, "keep")
        if module.params["state"] == "absent":
            module.exit_json(changed=Path(path).is_file() if checking else file_store.remove(path))
        if not snapshot:
            module.exit_json(changed=False, history=file_store.read(path, module.params["system"] or None))
        if checking:
            file_store.snapshot(snapshot)
            module.exit_json(changed=False, recorded=False)
        size, notices = file_store.append(path, snapshot, keep)
        module.exit_json(changed=False, recorded=True, bytes=size, notices=notices)
    except RunbookError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
