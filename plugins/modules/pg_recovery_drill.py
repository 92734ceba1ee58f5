#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_recovery_drill
short_description: Rehearse a recovery, and prove that a backup can be restored, completely and in time
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Restores the newest verified backup, or one by its name, into a scratch place, compares every table by the number of its rows and a
    hash over all of them, and every other object by its definition, with what was there when the backup was taken, runs checks on it,
    and measures how long each phase took. Then all of it goes again.
  - It passes when nothing differs, no check is critical, and the targets are met. Otherwise the module B(fails), with the whole result.
  - What was found is written into a sealed file as evidence, and beside the backup. A backup that came back whole counts as verified
    by C(restore) from then on, one that did not as broken. A missed target or a critical check does not make a backup broken, nor does
    what is this host's fault or that of its server, such as a full disk, another key, a missing library or privilege, or another major
    version.
  - What was not compared has not come back. A backup without its contents (C(contents=false) of M(pgops.runbook.pg_backup)) does not pass.
  - With O(in=cluster) the source is not needed. The drill passes while its server is down.
  - The files of the backup are compared with their hashes before anything is restored.
options:
  folder:
    description:
      - The folder on the host that runs the module in which the backups stand.
    type: path
    required: true
  backup:
    description:
      - The id of a backup, which is the name of its folder. RV(ignore:backups[].id) of M(pgops.runbook.pg_backup_info) shows it.
      - V(newest) takes the newest one that has been verified and was not found broken since. Newer ones that are passed over become a
        warning.
      - One that is named may have been found broken before. If the drill finds it whole, it counts again.
    type: str
    default: newest
  source_database:
    description:
      - Whose backup it is, where the folder holds those of several databases.
    type: str
  name:
    description:
      - The newest backup of this policy (C(name) of M(pgops.runbook.pg_backup)).
      - Without it, the newest of a whole database.
    type: str
  in:
    description:
      - Where it is restored to.
      - V(cluster) makes a server for the drill, on the host that runs the module. See the notes. Roles are restored first, from the
        backup. It needs the server programs, and no connection, so that O(login_host) and its like mean nothing.
      - V(database) makes a database with a hidden name on the server of the connection. Nobody else may connect to it, so that the
        settings and the privileges of the database itself are tried and taken back. It needs the
        roles of the backup to be there, and C(CREATEDB). What is restored runs code there, of whoever could create functions in the
        source.
    type: str
    choices: [cluster, database]
    default: cluster
  scratch_folder:
    description:
      - The folder below which the scratch server lives, and in which files that a program compressed are unpacked.
      - The account that runs the server must be able to enter it. It needs room for the whole database and its indexes, and a local disk
        like the one of a real recovery, or the time that is measured says little.
      - Its path has 65 bytes at most.
    type: path
    default: /var/tmp
  server_bin_dir:
    description:
      - The folder with C(initdb) and C(postgres) for O(in=cluster), which must not be older than the server that was backed up.
      - Without it, the newest installed server of the same major version, else the next newer one.
    type: path
  run_as:
    description:
      - The account that runs the scratch server where the module runs as root, which no server does. C(nobody), else C(postgres), if it is
        left out.
      - Where that account runs another server on the same host, name one of its own. What is restored may be able to read and change its
        files. A warning says so. Without root the server runs as the account of the module itself, which may own the backups.
      - The files of the backup need not be readable to it.
    type: str
  checks:
    description:
      - The checks of M(pgops.runbook.pg_health) that are run on the restored database, by id or group. An empty list runs none.
      - Checks of how a database is used say nothing about a copy, so that none is among those that are run by default.
      - A check that finds something critical fails the drill. One that could not see what it looks at becomes a warning.
    type: list
    elements: str
    default:
      - schema.present
      - index.invalid
      - constraint.not_valid
      - seq.exhaustion
      - partition.default_rows
      - security.rls
      - token.orphaned_deny
      - token.duplicate_ids
      - token.zone_ahead
      - integrity.amcheck
  system:
    description:
      - The system description, as for M(pgops.runbook.pg_health). It tells the checks which tables must be there, what is a token store,
        and which thresholds hold. Its targets are not read; O(rto) and O(rpo) name them.
    type: dict
  rto:
    description:
      - The recovery time objective, such as V(1 h). The drill fails where it took longer until the database could be used.
    type: str
  rpo:
    description:
      - The recovery point objective, such as V(24 h). The drill fails where the snapshot of the backup was older when it began.
    type: str
  identity:
    description:
      - The file with the secret key for a backup that is encrypted with age.
    type: path
  gpg_home:
    description:
      - The home folder of gpg with the secret key for a backup that is encrypted with gpg.
    type: path
  jobs:
    description:
      - How many sessions restore at the same time, from 1 to 64. As many as there are processors, and four at most, if it is left out.
    type: int
  evidence:
    description:
      - The folder for the evidence, one file each drill. It is made, with mode 0700, if it is not there.
      - C(drills) in O(folder) if it is left out.
    type: path
  bin_dir:
    description:
      - The folder with C(pg_restore) and its like. The newest on this host if it is left out.
    type: path
  max_runtime:
    description:
      - Give up when the drill has taken this long, such as V(4 h). That fails, and says nothing of the backup.
    type: str
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Says which backup would be restored, by which programs, how old it is, and whether there is room. Nothing is made or written, and no
        connection opened. RV(passed) is null.
  diff_mode:
    support: none
    details:
      - The result lists what differs from the backup instead.
notes:
  - The scratch server listens on a socket in a private folder and nowhere else. It archives nothing, loads no library in advance, fires
    no event trigger (PostgreSQL 17), and writes to no disk for good (C(fsync=off) and what else RV(settings) names), which makes it
    faster than a server at work. As root, the module gives it no network as well (RV(has_network)).
  - The scratch server ends with the module, however that ends. After a C(kill -9) the next drill removes its folder, and drops hidden
    databases that a killed one has left.
  - The recovery time counts from the start of the module until the last statement that an application would have to wait for. It
    includes comparing the files with their hashes, decoding, starting a server, roles, the restore, the planner's statistics and the
    settings of the database, not comparing rows and checking what was restored. Definitions are compared beside the statistics, so that
    the time is rather overstated where there are very many of them.
  - Tablespaces of the source are not used. Everything goes to the default one.
  - Between major versions the server writes some definitions differently. Then only their presence is compared, and RV(not_compared)
    says so.
  - Files of the evidence have mode 0600. No password and no row is in them.
  - It works on Linux, on the host that runs the module.
seealso:
  - module: pgops.runbook.pg_backup
  - module: pgops.runbook.pg_backup_info
  - module: pgops.runbook.pg_restore
"""

EXAMPLES = r"""
- name: Prove that the newest backup can be restored, within an hour, and with the loss of a day at most
  pgops.runbook.pg_recovery_drill:
    folder: /var/backups/postgresql
    source_database: tim
    rto: 1 h
    rpo: 24 h
    system: "{{ system_description }}"
  become: true

- name: Restore one backup by name, with a server of its own account, on the large disk
  pgops.runbook.pg_recovery_drill:
    folder: /var/backups/postgresql
    backup: tim.full.20261121T020000Z
    scratch_folder: /srv/scratch
    run_as: drill
    evidence: /var/lib/pgops/evidence
  become: true

- name: Into a scratch database of the test server, without checks
  pgops.runbook.pg_recovery_drill:
    login_host: test-db.example.com
    login_user: restorer
    folder: /mnt/backups/postgresql
    in: database
    checks: []
"""

RETURN = r"""
passed:
  description: Whether everything came back as it was, in time. Null in check mode.
  returned: when a backup was looked for
  type: bool
reasons:
  description: Why it has not passed, the gravest first.
  returned: when a drill took place
  type: list
  elements: str
  sample: ["app.tokens: 1 row missing (99999 instead of 100000)"]
in:
  description: Where it was restored to.
  returned: when a backup was looked for
  type: str
  sample: cluster
began_at:
  description: When the drill began, in ISO 8601, UTC.
  returned: when a drill took place
  type: str
backup:
  description: The backup. Null where none could be chosen.
  returned: when a backup was looked for
  type: dict
  contains:
    id:
      description: The name of its folder when it was made.
      type: str
      sample: tim.full.20261121T020000Z
    path:
      description: Its folder.
      type: str
    database:
      description: The database that it was taken of.
      type: str
    kind:
      description: What of the database is in it.
      type: str
      sample: full
    taken_at:
      description: The moment that it shows, in ISO 8601, UTC.
      type: str
    verified:
      description: How it had been verified before. Null where it never was.
      type: str
      sample: decode
    bytes:
      description: Its size.
      type: int
phases:
  description:
    - What took how long, in the order in which it began; phases may overlap. C(fetch) compares the files with their hashes, C(start)
      makes and starts a server, C(globals) are roles, C(create) makes the database, C(unpack) decompresses, C(pre_data), C(data) and
      C(post_data) are the restore itself, C(settings) those of the database, C(analyze) the planner's statistics, C(compare) and
      C(checks) look at what was restored, C(cleanup) removes it.
    - Of a format that is restored in one go, only C(data) is known. C(load) is a restore that failed.
  returned: when a drill took place
  type: list
  elements: dict
  contains:
    name:
      description: The phase.
      type: str
      sample: data
    began:
      description: When it began, in seconds after the drill did.
      type: float
    seconds:
      description: How long it took.
      type: float
total_seconds:
  description: How long everything took.
  returned: when a drill took place
  type: float
rto:
  description: The recovery time.
  returned: when a backup was looked for
  type: dict
  contains:
    seconds:
      description: How long it took until the database could be used. Null where it never could.
      type: float
    target_seconds:
      description: The target. Null where there is none.
      type: float
    met:
      description: Whether it was met. Null where there is none.
      type: bool
rpo:
  description:
    - The age of the snapshot of the backup when the drill began. What was committed since then would be lost.
  returned: when a backup was looked for
  type: dict
  contains:
    seconds:
      description: The age. Null where the snapshot is more than a minute ahead of the clock of this host.
      type: float
    target_seconds:
      description: The target. Null where there is none.
      type: float
    met:
      description: Whether it was met. Null where there is none.
      type: bool
tables:
  description: How many tables were compared. Null where it did not come to that, or the backup holds no rows.
  returned: when a drill took place
  type: int
rows:
  description: How many rows they have. Null where tables is.
  returned: when a drill took place
  type: int
differences:
  description: What is not as it was, the first hundred.
  returned: when a drill took place
  type: list
  elements: dict
  contains:
    kind:
      description: What kind of thing it is, C(rows), C(indexes), C(triggers), C(table_grants) and so on.
      type: str
      sample: indexes
    object:
      description: The thing, by its full name.
      type: str
    table:
      description: The table that it belongs to. Null where it belongs to none.
      type: str
      sample: app.tokens
    what:
      description: C(missing), C(extra) or C(different).
      type: str
      sample: missing
    message:
      description: A sentence about it.
      type: str
      sample: "app.tokens: index tokens_by_user is missing"
differences_total:
  description: How many there are. Null where it did not come to comparing.
  returned: when a drill took place
  type: int
not_compared:
  description: What could not be compared.
  returned: when a drill took place
  type: list
  elements: dict
  contains:
    what:
      description: What it is about.
      type: str
      sample: definitions
    object:
      description: The object. Empty where it is about all.
      type: str
    why:
      description: The reason.
      type: str
left_out:
  description: What was not in the backup in the first place, and why, as its manifest says.
  returned: when a drill took place
  type: list
  elements: dict
checks:
  description: What each check says of the restored database.
  returned: when a drill took place
  type: list
  elements: dict
  contains:
    id:
      description: The check.
      type: str
      sample: index.invalid
    title:
      description: What it looks at.
      type: str
    status:
      description: C(ok), C(warning), C(critical), C(unknown), or C(skipped) where there is nothing for it to look at.
      type: str
      sample: ok
    message:
      description: What it found.
      type: str
settings:
  description: What makes the scratch server faster than one that keeps its data. Empty with O(in=database).
  returned: when a drill took place
  type: dict
  sample: {"fsync": "off"}
has_network:
  description: Whether what was restored could have reached a network. Null where it did not come to a server.
  returned: when a drill took place
  type: bool
server_version:
  description: The version of the server that it was restored to. Null where it did not come to one.
  returned: when a backup was looked for
  type: str
  sample: "15.18"
versions:
  description: The versions of what took part, C(server), C(client), and in check mode C(source).
  returned: when a backup was looked for
  type: dict
room:
  description: What the scratch server is expected to take, and what is free. Null with O(in=database).
  returned: in check mode
  type: dict
  contains:
    folder:
      description: The folder.
      type: str
    needed_bytes:
      description: An estimate, from the files of the backup.
      type: int
    free_bytes:
      description: What is free for this account.
      type: int
    enough:
      description: Whether that is enough.
      type: bool
evidence:
  description:
    - The file with the evidence. It holds all of this result, who let the drill happen, on which host and in which job, and a hash of
      itself. Null where it could not be written, for which the drill fails.
  returned: when a drill took place
  type: str
  sample: /var/backups/postgresql/drills/drill.20261121T030000Z.1f3a9c.json
warnings:
  description:
    - What a person should know although it changed nothing. A newer backup that is not verified, a check that is unknown, a disk that is
      tight, leftovers of killed runs that were cleared.
    - Ansible shows them as warnings of the task, and takes them out of what is registered.
  returned: when there is something
  type: list
  elements: str
notices:
  description: The same as RV(warnings), for a playbook to read.
  returned: always
  type: list
  elements: str
error:
  description: What the failure is, in parts. C(msg) says it in words.
  returned: failure
  type: dict
  contains:
    type:
      description:
        - The type. C(DrillFailed), a drill took place and has not passed; anything else, there was none, because an option is wrong
          (C(InvalidValue), C(DescriptionError)) or, in check mode, because it could not begin.
      type: str
      sample: DrillFailed
    object:
      description: The option, table or other object that it is about. Null where there is none.
      type: str
    sqlstate:
      description: The server's error code. Null where the server did not refuse anything.
      type: str
    hint:
      description: What would help. Null where nothing is known to.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import CONNECTION_ARGUMENTS, application_name, keep_readable, noticed
from ansible_collections.pgops.runbook.plugins.module_utils._backup.interrupt import taking_back
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._drill.checks import DEFAULT_CHECKS
from ansible_collections.pgops.runbook.plugins.module_utils._drill.engine import OPERATION, drill
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import PLACES, SCRATCH_FOLDER, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._progress import publisher

ARGUMENTS: dict[str, Any] = {
    **CONNECTION_ARGUMENTS,
    "folder": {"type": "path", "required": True},
    "backup": {"type": "str", "default": "newest"},
    "source_database": {"type": "str"},
    "name": {"type": "str"},
    "in": {"type": "str", "choices": list(PLACES), "default": PLACES[0]},
    "scratch_folder": {"type": "path", "default": SCRATCH_FOLDER},
    "server_bin_dir": {"type": "path"},
    "run_as": {"type": "str"},
    "checks": {"type": "list", "elements": "str", "default": list(DEFAULT_CHECKS)},
    "system": {"type": "dict"},
    "rto": {"type": "str"},
    "rpo": {"type": "str"},
    # A file; the key in it is in no argument.
    "identity": {"type": "path", "no_log": False},
    "gpg_home": {"type": "path"},
    "jobs": {"type": "int"},
    "evidence": {"type": "path"},
    "bin_dir": {"type": "path"},
    "max_runtime": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    try:
        options = read_options(module.params, application_name(OPERATION))
        login = ConnectionOptions.from_params(module.params)
        with taking_back(), publisher(OPERATION) as watch:
            result = drill(login, options, check_mode=module.check_mode, watch=watch)
    except RunbookError as error:
        module.fail_json(**noticed(error.as_result()))
    module.exit_json(**noticed(result))


if __name__ == "__main__":
    main()
