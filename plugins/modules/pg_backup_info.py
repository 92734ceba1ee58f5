#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_info
short_description: Tell which backups there are, what they are worth, and how much would be lost now
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Reads a folder of backups that M(pgops.runbook.pg_backup) has made. No server is needed, and nothing is written.
  - A backup counts when it has been verified, and counts no more when a later verification or drill has found fault with it. Its files
    are looked at here by their names and sizes; their content is not read.
  - What would be lost now (RPO) is the time since the snapshot of the newest backup that counts. How long a recovery takes (RTO) is what
    the last drill has measured.
options:
  folder:
    description: The folder of the backups, on the host that runs the module. It may be a second place with copies.
    type: path
    required: true
  database:
    description:
      - Only the backups of this database.
      - An empty string counts as not given.
    type: str
  name:
    description:
      - Only the backups of this name, which is the option O(pgops.runbook.pg_backup#module:name).
      - An empty string counts as not given.
    type: str
  rpo:
    description:
      - How much may be lost at most, such as V(15 min) or V(26 h).
      - An empty string counts as not given.
    type: str
  rto:
    description:
      - How long a recovery may take at most, such as V(1 h).
      - An empty string counts as not given.
    type: str
notes:
  - A target that is missed does not fail the task. Use M(ansible.builtin.assert) with RV(rpo) and RV(rto), or M(pgops.runbook.pg_health),
    whose checks C(backup.age) and C(backup.verify_age) have thresholds.
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
  platform:
    description: Target operating systems on which the module can run.
    platforms: posix
    support: full
seealso:
  - module: pgops.runbook.pg_backup
  - module: pgops.runbook.pg_restore
  - module: pgops.runbook.pg_recovery_drill
"""

EXAMPLES = r"""
- name: See what there is
  pgops.runbook.pg_backup_info:
    folder: /var/backups/postgresql
  register: backups

- name: Require that no more than a day would be lost, and that a recovery was rehearsed within an hour
  pgops.runbook.pg_backup_info:
    folder: /var/backups/postgresql
    database: tim
    rpo: 26 h
    rto: 1 h
  register: backups

- name: Stop otherwise
  ansible.builtin.assert:
    that:
      - backups.rpo.met
      - backups.rto.met
      - backups.broken | length == 0
"""

RETURN = r"""
backups:
  description: The backups that were asked for, the newest first.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: "Its name in the folder, which M(pgops.runbook.pg_restore) takes.", type: str, sample: tim.full.20261121T020001Z}
    path: {description: Where it stands., type: str}
    database: {description: The database that was backed up., type: str}
    name: {description: What the backup is called in its policy., type: str, sample: full}
    system_identifier: {description: "The server's, which its standbys share.", type: str}
    scope:
      description: What of the database is in it.
      type: dict
      contains:
        kind: {description: "C(full), C(schemas), C(tables), C(schema_only) or C(data_only).", type: str}
        schemas: {description: "The schemas, where it was restricted to some.", type: list, elements: str}
        tables: {description: "The tables, where it was restricted to some.", type: list, elements: str}
    taken_at: {description: "The moment of its snapshot, in UTC. What was written later is not in it.", type: str}
    finished_at: {description: When it was finished., type: str}
    age_seconds: {description: How long ago its snapshot was taken., type: float}
    seconds: {description: How long it took., type: float}
    bytes: {description: Its size., type: int}
    format: {description: "C(directory), C(custom) or C(plain).", type: str}
    compression: {description: "C(zstd), C(lz4), C(gzip) or C(none).", type: str}
    encryption: {description: "C(age) or C(gpg). None where it is not encrypted.", type: str}
    tables: {description: How many tables are in it., type: int}
    rows: {description: How many rows its tables have. None where they were not counted., type: int}
    left_out:
      description: What is not in it, with the reason.
      type: list
      elements: dict
    server_version: {description: The version of the server that was backed up., type: str}
    client_version: {description: The version of C(pg_dump)., type: str}
    verified:
      description:
        - "How deep it has been verified, C(checksum), C(decode) or C(restore). None where nobody has, or where it is broken."
      type: str
    verified_at: {description: When that was. None where it does not count., type: str}
    broken: {description: Why it does not count any more. None where it is whole as far as is known., type: str}
    last_drill:
      description: The last drill that restored it. None where there was none.
      type: dict
      contains:
        at: {description: When it began., type: str}
        age_seconds: {description: How long ago that was., type: float}
        passed: {description: Whether it met everything that was asked of it., type: bool}
        rto_seconds: {description: How long the recovery took. None where it did not come to an end., type: float}
        reasons: {description: Why it did not pass., type: list, elements: str}
databases:
  description: The same by database, and how much of each would be lost now.
  returned: success
  type: list
  elements: dict
  contains:
    database: {description: The database., type: str}
    system_identifier: {description: Whose database it is; two servers may have one of the same name., type: str}
    backups: {description: How many there are., type: int}
    verified: {description: How many of them count., type: int}
    bytes: {description: How much room they take., type: int}
    newest_verified:
      description:
        - "The newest that counts. Without O(name), one of parts of a database does not stand for the whole. None where there is none."
      type: str
    rpo: {description: As RV(rpo)., type: dict}
newest_verified:
  description: The newest of RV(backups) that is verified. Empty where there is none.
  returned: success
  type: dict
rpo:
  description: How much would be lost now, of the database that would lose most.
  returned: success
  type: dict
  contains:
    seconds: {description: "The time since its newest backup that counts. None where there is none, and all would be lost.", type: float}
    target_seconds: {description: O(rpo) in seconds. None without it., type: float}
    met: {description: Whether that is within the target. None without a target., type: bool}
rto:
  description: How long a recovery takes.
  returned: success
  type: dict
  contains:
    seconds: {description: What the last drill of these backups has measured. None where there was none., type: float}
    target_seconds: {description: O(rto) in seconds. None without it., type: float}
    met: {description: Whether that is within the target. None without a target., type: bool}
broken:
  description:
    - What counts for nothing, with the reason; backups whose manifest cannot be trusted are here alone, whatever was asked for.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: Its name in the folder., type: str}
    database: {description: Its database. None where its manifest cannot be trusted., type: str}
    why: {description: What is wrong., type: str}
unfinished:
  description: What is being made, copied or deleted, or was when its run was killed; the next run removes it.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The name in the folder., type: str}
    state:
      description: "C(being made), C(being copied), C(being deleted) or C(without a manifest)."
      type: str
    bytes: {description: How much room it takes., type: int}
    since: {description: When its folder was last changed., type: str}
foreign:
  description: What else is in the folder, which is never touched.
  returned: success
  type: list
  elements: str
locked:
  description: Whether a run is at work in the folder.
  returned: success
  type: bool
error:
  description: What the failure is, in parts. C(msg) says it in words.
  returned: failure
  type: dict
  contains:
    type: {description: "C(InvalidValue), an option is wrong or the folder cannot be listed.", type: str}
    object: {description: The option or folder., type: str}
    sqlstate: {description: Always None., type: str}
    hint: {description: What would help., type: str}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._backup.catalogue import look_through, read_question
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError

ARGUMENTS = {
    "folder": {"type": "path", "required": True},
    "database": {"type": "str"},
    "name": {"type": "str"},
    "rpo": {"type": "str"},
    "rto": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = look_through(read_question(module.params))
    except RunbookError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
