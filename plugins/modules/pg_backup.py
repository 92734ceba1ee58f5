#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: See that a fresh and verified backup of databases exists, and that old ones are whole
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - If a verified backup of the same databases and the same scope is there that is younger than O(fresh_for), nothing happens and no
    C(pg_dump) is started. Otherwise one is made, verified, and only then counts.
  - A backup is a folder of its own in O(folder), with what C(pg_dump) wrote, the roles and tablespaces of the server, the settings of
    the database, and a manifest. The manifest has the versions, the time and WAL position of the snapshot, size and SHA-256 of every
    file, and for each table the number of its rows and a hash over all of them, counted in the very snapshot that was dumped. It says
    what is not in the backup as well.
  - It grows under a hidden name and gets its own in one step, when everything in it has been flushed to the disk and verified. Whatever
    ends a run before, a full disk, a lost server or a C(kill -9), leaves neither half a backup nor any harm to those that are there.
  - After that it is copied to second places and backups that are not kept any more are deleted. A run in which anything failed deletes
    nothing.
  - With O(state=verified) it makes none, and looks at those that are there again.
options:
  folder:
    description:
      - The folder of the backups, on the host that runs the module. It is made for its owner alone if it is missing.
      - One folder may hold the backups of many databases and servers. What else is in it is never touched.
      - A clone has the system identifier of its origin, so that O(keep) counts the backups of both together. Give it another folder, or
        another O(name).
    type: path
    required: true
  name:
    description:
      - What this backup is called, such as V(full) or V(before-upgrade). Freshness and O(keep) count the backups of one name and database.
      - With O(state=verified), V(*) stands for all names, and then for every O(kind).
    type: str
    default: full
  state:
    description:
      - V(present), a fresh backup is there.
      - V(verified), the backups of O(databases) that are called O(name) and hold what O(kind), O(schemas) and O(tables) say are looked
        at as deep as O(verify) says, the newest first, and what was found is written down beside each. Those of all databases, where
        neither O(databases) nor O(login_db) names any.
      - One that is broken counts for nothing from then on, for neither O(fresh_for) nor O(keep), and no restore takes it. All the others
        are looked at before the module fails and names it. A level that a backup has reached before stays.
      - Nothing is locked for it, so that backups can be made meanwhile, and none is made, copied or deleted. Only O(verify=restore)
        connects to a server. What has to do with making one is not looked at.
    type: str
    choices: [present, verified]
    default: present
  backup:
    description:
      - With O(state=verified), the only backup that is looked at, as the name of its folder, or V(latest) for the newest of those that are
        meant.
    type: str
  identity:
    description:
      - With O(state=verified), the file with the secret key of C(age), for backups that are encrypted with it. Of one that is encrypted and
        has no key here only the checksums are looked at, which RV(notices) says.
    type: path
  gpg_home:
    description:
      - With O(state=verified), the folder of the keyring of C(gpg) with the secret key, for backups that are encrypted with it.
    type: path
  databases:
    description:
      - The databases, each of which gets a backup of its own. O(login_db) alone, if it is not given.
      - V(*), by itself, stands for all databases that take connections. Those that take none, and those that an interrupted
        C(DROP DATABASE) has left invalid, are named in RV(notices).
      - O(login_db) is the database that the module logs in to first.
    type: list
    elements: str
    default: []
  kind:
    description:
      - What of each database is in the backup.
      - V(full), everything. V(schemas) and V(tables), what O(schemas) and O(tables) name; large objects, extensions and the roles
        of the server are then not in it.
      - V(schema_only), the definitions without rows; V(data_only), the rows without definitions. Both are of the whole database, or of
        what O(schemas) or O(tables) names.
    type: str
    choices: [full, schemas, tables, schema_only, data_only]
    default: full
  schemas:
    description:
      - The schemas, exactly as the server spells them. No character in a name stands for others.
    type: list
    elements: str
    default: []
  tables:
    description:
      - The tables, as V(table) in the schema V(public) or as V(schema.table), exactly as the server spells them. A part with a dot or a
        double quote stands in double quotes.
      - With a partitioned table, or a parent table, all that is below it is in the backup.
    type: list
    elements: str
    default: []
  format:
    description:
      - V(directory), one file for each table, written by O(jobs) processes at once. V(custom), a single file that
        C(pg_restore) reads. V(plain), SQL for C(psql).
    type: str
    choices: [directory, custom, plain]
    default: directory
  compression:
    description:
      - How it is compressed. V(auto) is C(zstd) where C(pg_dump) or the program C(zstd) can do it, else C(gzip).
      - C(pg_dump) does it where it can. Where it cannot, which is so before PostgreSQL 16, the program of that name does; with
        O(format=directory) after C(pg_dump) has ended, so that there has to be room for the uncompressed files meanwhile.
    type: str
    choices: [auto, zstd, lz4, gzip, none]
    default: auto
  compression_level:
    description:
      - The level of O(compression), which is then one of V(zstd) (1 to 19), V(lz4) (1 to 12) and V(gzip) (1 to 9). The default is that of
        the program that compresses.
    type: int
  encrypt:
    description:
      - For whom the backup is encrypted. What was not encrypted never stands on the disk, so that O(format) has to be V(custom) or
        V(plain).
      - The dump and the roles of the server are encrypted. The manifest and the file with the fingerprints of all definitions are not; they
        have the names of tables and other objects, and the hash of each table, but no row. The manifest also has the settings of the
        database (C(ALTER DATABASE ... SET)); RV(notices) names those that applications have made up, which may be secrets.
      - Nobody can read it without a key, which does not belong on this host. So it is read whole before it is encrypted, and from then on
        its checksums tell that it is whole.
    type: dict
    suboptions:
      age:
        description: Public keys for the program C(age), such as C(age1...) or C(ssh-ed25519 ...).
        type: list
        elements: str
      gpg:
        description: Key ids, fingerprints or addresses of recipients in the keyring of C(gpg). All keys there are trusted.
        type: list
        elements: str
      gpg_home:
        description: The folder of that keyring, instead of that of the account.
        type: path
  jobs:
    description:
      - How many processes work at once with O(format=directory), and how many threads compress and hash. C(pg_dump) then opens as many
        sessions and one more, and the module has one of its own.
      - The number of processors, but no more than 4, if it is not given.
    type: int
  fresh_for:
    description:
      - How long a backup counts as fresh, such as V(20 h), from the moment of its snapshot by the server's clock.
      - V(0 s) always makes a new one.
      - One of another database that had the name before, of another timeline (before a promotion or a recovery, or of the server that this
        one is a clone of), or one that is not encrypted as O(encrypt) says does not count as fresh.
    type: str
    default: 20 h
  verify:
    description:
      - How deep the backup is verified before it counts.
      - V(checksum) reads every file from the disk again and compares its SHA-256.
      - V(decode) also decodes every file to its end and lets C(pg_restore) read it; a dump in plain SQL has to end as a whole one does.
      - V(restore) also restores it, into a database that nobody sees and that is dropped afterwards, and compares every table and
        definition with the manifest. The server needs the room for it, and the role the right to create databases.
      - A fresh backup that was not verified as deep is verified again instead of making a new one, unless it is encrypted. Where it cannot
        be read or restored here, such as after a role that it needs was dropped, a warning says so, and a new one is made.
      - What a restore could not compare, or what another major version of the server may have made of a definition, proves nothing. The
        backup then counts as decoded, and a warning says why. It needs O(contents).
      - With O(state=verified) it says how deep those that are there are looked at. One that holds rows alone, or was made with
        O(contents=false), is decoded instead of being restored. A server that is older than the one of the backup restores none.
    type: str
    choices: [checksum, decode, restore]
    default: decode
  keep:
    description:
      - Which backups of this database and O(name) stay. One stays if any of the rules wants it, and without any rule all do.
      - Only verified backups count whose files are all there. The newest verified one always stays. One that is not verified goes by
        its age, and only if a newer one is verified.
    type: dict
    suboptions: &keep
      age:
        description: What is younger stays, such as V(30 days).
        type: str
      count:
        description: So many of the newest stay.
        type: int
      daily:
        description: The newest of each of so many days stays. Days without any are not counted; days are those of UTC.
        type: int
      weekly:
        description: The newest of each of so many weeks, from Monday.
        type: int
      monthly:
        description: The newest of each of so many months.
        type: int
      yearly:
        description: The newest of each of so many years.
        type: int
  copies:
    description:
      - Second places, to each of which the backup is copied and where its hashes are compared. A fresh backup that is missing there is
        copied by a run that makes none.
      - Exactly one of O(copies[].path), O(copies[].rsync) and O(copies[].rclone) names a place.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A folder that is there already, such as a share that is mounted.
        type: path
      rsync:
        description: A target of C(rsync), such as V(backup@host:/srv/backups), reached without a password.
        type: str
      rclone:
        description: A remote of C(rclone) with a path, such as V(offsite:backups).
        type: str
      keep:
        description: What stays there. Only for O(copies[].path); nothing is deleted elsewhere.
        type: dict
        suboptions: *keep
  globals:
    description:
      - Put the roles and tablespaces of the server into a backup of kind V(full). Where the role may not read C(pg_authid), which takes
        a superuser, they are without passwords, and RV(notices) says so.
    type: bool
    default: true
  contents:
    description:
      - Count and hash the rows of every table beside the dump, in its snapshot. Without that a restore cannot tell whether rows are
        missing.
    type: bool
    default: true
  min_free:
    description:
      - What is to stay free on the file system of O(folder), such as V(1 GB). If a backup and that do not fit, none is begun.
      - What it takes is told from the one before, and a fifth more; for the first one, from the size of the tables.
    type: str
    default: 1 GB
  max_runtime:
    description:
      - The time that the run may take in all, such as V(2 h). When it is over, what is not finished is taken back and the module fails.
      - With O(state=verified) the run ends without a failure then, and RV(notices) says how many backups are left.
    type: str
  bin_dir:
    description:
      - The folder of C(pg_dump), C(pg_dumpall) and C(pg_restore). The newest that are installed, if it is not given.
      - They are never older than the server. RV(notices) names flaws that they are known to have.
    type: path
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Says which backups would be made, verified again, copied and deleted, from what is there. Nothing is written and no folder made.
      - The size of a backup that would be made is an estimate.
  diff_mode:
    support: none
    details:
      - The result lists the backups instead.
notes:
  - The tables are locked first (C(ACCESS SHARE)) and the snapshot is taken then, so that no C(TRUNCATE) and no C(ALTER TABLE) comes
    between. Whoever wants to change the form of a table has to wait for the end of the dump, and O(lock_timeout) is how long the module
    waits for such a one.
  - O(statement_timeout) does not bound the statements that count and hash rows, which take as long as the tables are large;
    O(max_runtime) does.
  - The role needs C(SELECT) on everything that is in the backup, and must see all rows (C(BYPASSRLS)) where there is row-level
    security. A table of which it would not see every row ends the backup before it begins. A superuser has all that.
  - One run at a time works in a folder. A second one fails at once and names the first. The lock goes with the process, however that ends.
  - If a run was killed, the next one ends the programs that it may have left, and removes its hidden folder, before anything else.
  - On a standby the rows of unlogged tables are not there; RV(backups[].left_out) names them.
  - A pooler that gives each transaction another session will not do. Connect to the server itself.
  - Files have mode 0600 and folders 0700. Passwords are in no argument and in no environment of a program.
  - The manifest has, under C(by_hand), the commands that restore the backup without this collection.
  - C(application_name) shows the database and how far its backup is.
  - It works on Linux, on the host that runs the module.
seealso:
  - module: pgops.runbook.pg_backup_info
  - module: pgops.runbook.pg_restore
  - module: pgops.runbook.pg_recovery_drill
"""

EXAMPLES = r"""
- name: A verified backup of the database that is younger than 20 hours
  pgops.runbook.pg_backup:
    login_host: db.example.com
    login_db: tim
    folder: /var/backups/postgresql

- name: Every database of the server, kept for a week, a month of Sundays, and a year
  pgops.runbook.pg_backup:
    login_db: postgres
    databases: ["*"]
    folder: /var/backups/postgresql
    keep: {daily: 7, weekly: 5, monthly: 12}
    copies:
      - {path: /mnt/second/postgresql, keep: {daily: 30}}
      - {rclone: "offsite:postgresql"}

- name: One schema before a migration, whatever there is already
  pgops.runbook.pg_backup:
    login_db: tim
    folder: /var/backups/postgresql
    name: before-migration
    kind: schemas
    schemas: [custom]
    fresh_for: 0 s
    keep: {count: 3}

- name: A single file that only the holders of two keys can read
  pgops.runbook.pg_backup:
    login_db: tim
    folder: /var/backups/postgresql
    format: custom
    encrypt:
      age:
        - age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
        - age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg

- name: Once a week, restore it as well before it counts
  pgops.runbook.pg_backup:
    login_db: tim
    folder: /var/backups/postgresql
    name: weekly
    fresh_for: 6 days
    verify: restore
    max_runtime: 4 h

- name: Once a week, read all backups of the folder again, whatever they are called
  pgops.runbook.pg_backup:
    state: verified
    databases: ["*"]
    name: "*"
    folder: /var/backups/postgresql
    max_runtime: 3 h

- name: Restore the newest one that is encrypted, where the key is
  pgops.runbook.pg_backup:
    state: verified
    login_db: tim
    folder: /var/backups/postgresql
    backup: latest
    verify: restore
    identity: /root/backup.key
"""

RETURN = r"""
backups:
  description: What became of each database. Also returned if the module fails because a backup or a copy of it did.
  returned: with O(state=present), when the databases are known
  type: list
  elements: dict
  contains:
    database:
      description: The database.
      type: str
      sample: tim
    action:
      description:
        - V(made), a backup was made. V(verified), a fresh one was there and was verified deeper. V(present), a fresh one was
          there. V(failed), there is none; RV(backups[].msg) says why.
        - In check mode, what would become of it.
      type: str
      sample: made
    id:
      description: The name of the backup, which is that of its folder. None in check mode for one that would be made.
      type: str
      sample: tim.full.20261121T020000Z
    path:
      description: Where it stands. None where there is none yet.
      type: str
      sample: /var/backups/postgresql/tim.full.20261121T020000Z
    bytes:
      description: Its size; in check mode, for one that would be made, what it is expected to take.
      type: int
      sample: 734003200
    age_seconds:
      description: How long ago its snapshot was taken.
      type: float
      sample: 3600.5
    verified:
      description: How deep it was verified, V(checksum), V(decode) or V(restore); in check mode, would be.
      type: str
      sample: decode
    tables:
      description: How many tables it has rows of. None where that is not known, as in check mode.
      type: int
      sample: 42
    rows:
      description: How many rows it has in all. None where they were not counted.
      type: int
      sample: 1200000
    left_out:
      description: What is not in it, or only in another form.
      type: list
      elements: dict
      contains:
        what:
          description: What kind of thing it is.
          type: str
          sample: rows of foreign table
        object:
          description: Its name.
          type: str
          sample: public.remote_users
        why:
          description: Why it is not in it.
          type: str
          sample: "a foreign table: its rows are on another server"
    seconds:
      description:
        - How long the parts took, C(preflight), C(lock), C(dump), C(contents), C(globals), C(compress), C(hash), C(verify) and C(publish),
          and C(total). C(contents) runs beside C(dump).
        - Empty unless a backup was made.
      type: dict
      sample: {"dump": 61.2, "contents": 12.9, "verify": 6.0, "total": 71.5}
    copies:
      description: What became of each of O(copies), in their order.
      type: list
      elements: dict
      contains:
        place:
          description: The place.
          type: str
          sample: /mnt/second/postgresql
        how:
          description: Whether it is reached by C(path), C(rsync) or C(rclone).
          type: str
          sample: path
        action:
          description: V(copied), V(present) where it was there already, or V(failed).
          type: str
          sample: copied
        bytes:
          description: How much was copied.
          type: int
        seconds:
          description: How long that took.
          type: float
        purged:
          description: The older copies that were deleted there.
          type: list
          elements: str
        msg:
          description: Why it failed. None where it did not.
          type: str
    msg:
      description: Why there is no backup of the database. None where there is one.
      type: str
verifications:
  description:
    - What was found of each backup, those that cannot be trusted at all first, then from the newest to the oldest. Also returned if the
      module fails because one is broken.
    - The module has changed something where a backup counts for more or for less than before. One that is found as it was known is no
      change; the time of the look is written down all the same.
  returned: with O(state=verified), when the backups are known
  type: list
  elements: dict
  contains:
    id:
      description: The name of the backup, which is that of its folder.
      type: str
      sample: tim.full.20261121T020000Z
    path:
      description: Where it stands.
      type: str
      sample: /var/backups/postgresql/tim.full.20261121T020000Z
    database:
      description: Its database. None where its manifest cannot be trusted.
      type: str
      sample: tim
    name:
      description: What it is called. None where its manifest cannot be trusted.
      type: str
      sample: full
    taken_at:
      description: The moment of its snapshot. None where its manifest cannot be trusted.
      type: str
      sample: "2026-11-21T02:00:00+00:00"
    bytes:
      description: Its size. None where its manifest cannot be trusted.
      type: int
      sample: 734003200
    level:
      description:
        - How deep it was looked at now, V(checksum), V(decode) or V(restore); less than O(verify) where RV(verifications[].msg) says why.
          None where it was not looked at.
        - In check mode, how deep it would be.
      type: str
      sample: decode
    result:
      description:
        - V(whole). V(broken), now, or deeper than it was looked at. V(unknown), it could not be looked at. V(left), the time was over, or
          it was deleted meanwhile. V(planned) in check mode.
        - The module fails where one is V(broken) or V(unknown).
      type: str
      sample: whole
    verified:
      description:
        - As what it counts now, V(checksum), V(decode) or V(restore), from all looks at it. None where it does not count as verified.
      type: str
      sample: restore
    changed:
      description: Whether it counts for something else than before; in check mode, whether it would if it is whole.
      type: bool
      sample: false
    seconds:
      description: How long the look took.
      type: float
      sample: 6.1
    msg:
      description: What is wrong with it, or why it was not looked at as deep as was asked for. None where there is nothing to say.
      type: str
purged:
  description: The backups that were deleted, or would be in check mode. None is deleted by a run in which anything failed.
  returned: with O(state=present), when the databases are known
  type: list
  elements: str
  sample: [tim.full.20261020T020000Z]
kept:
  description: The backups of these databases and this name that stay, in check mode without those that would be made.
  returned: with O(state=present), when the databases are known
  type: list
  elements: str
  sample: [tim.full.20261121T020000Z, tim.full.20261120T020000Z]
notices:
  description: The warnings of the module, for a playbook to read.
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
        - The type. C(Unfinished), a backup or a copy failed, and RV(backups) says which, or one is broken, and RV(verifications)
          says which; C(InvalidValue), an option is wrong or a folder
          cannot be used; C(MissingObject), a database is not there; C(ProgramMissing), a program is not installed; C(Busy), another run
          is at work in the folder; C(ConnectError) and C(DriverMissing), it did not come to a session; C(DatabaseError), the server
          refused anything else.
      type: str
      sample: Unfinished
    object:
      description: The option, database, program or folder that it is about. None where there is none.
      type: str
      sample: tim
    sqlstate:
      description: The server's error code. None where the server did not refuse anything.
      type: str
    hint:
      description: What would help. None where nothing is known to.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import CONNECTION_ARGUMENTS, application_name, keep_readable, noticed
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import back_up
from ansible_collections.pgops.runbook.plugins.module_utils._backup.interrupt import taking_back
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import FORMATS, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._backup.progress import OPERATION
from ansible_collections.pgops.runbook.plugins.module_utils._backup.state_verified import (
    PRESENT,
    STATES,
    asked_for,
    read_wanted,
    verify_those_there,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import LEVELS
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import METHODS
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import KINDS
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._progress import publisher

KEEP_ARGUMENTS = {
    "type": "dict",
    "options": {
        "age": {"type": "str"},
        "count": {"type": "int"},
        "daily": {"type": "int"},
        "weekly": {"type": "int"},
        "monthly": {"type": "int"},
        "yearly": {"type": "int"},
    },
}
COPY_ARGUMENTS = {"path": {"type": "path"}, "rsync": {"type": "str"}, "rclone": {"type": "str"}, "keep": KEEP_ARGUMENTS}
ENCRYPT_ARGUMENTS = {
    "age": {"type": "list", "elements": "str"},
    "gpg": {"type": "list", "elements": "str"},
    "gpg_home": {"type": "path"},
}
ARGUMENTS: dict[str, Any] = {
    **CONNECTION_ARGUMENTS,
    "folder": {"type": "path", "required": True},
    "name": {"type": "str", "default": "full"},
    "state": {"type": "str", "choices": list(STATES), "default": PRESENT},
    "backup": {"type": "str"},
    # The path of a file.
    "identity": {"type": "path"},
    "gpg_home": {"type": "path"},
    "databases": {"type": "list", "elements": "str", "default": []},
    "kind": {"type": "str", "choices": list(KINDS), "default": "full"},
    "schemas": {"type": "list", "elements": "str", "default": []},
    "tables": {"type": "list", "elements": "str", "default": []},
    "format": {"type": "str", "choices": list(FORMATS), "default": "directory"},
    "compression": {"type": "str", "choices": list(METHODS), "default": "auto"},
    "compression_level": {"type": "int"},
    # Public keys, and the names of such.
    "encrypt": {"type": "dict", "options": ENCRYPT_ARGUMENTS, "no_log": False},
    "jobs": {"type": "int"},
    "fresh_for": {"type": "str", "default": "20 h"},
    "verify": {"type": "str", "choices": list(LEVELS), "default": "decode"},
    "keep": KEEP_ARGUMENTS,
    "copies": {"type": "list", "elements": "dict", "default": [], "options": COPY_ARGUMENTS},
    "globals": {"type": "bool", "default": True},
    "contents": {"type": "bool", "default": True},
    "min_free": {"type": "str", "default": "1 GB"},
    "max_runtime": {"type": "str"},
    "bin_dir": {"type": "path"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    try:
        name = application_name(OPERATION)
        login = ConnectionOptions.from_params(module.params)
        with taking_back(), publisher(OPERATION) as watch:
            if asked_for(module.params):
                result = verify_those_there(login, read_wanted(module.params, name), check_mode=module.check_mode, watch=watch)
            else:
                result = back_up(login, read_options(module.params, name), check_mode=module.check_mode, watch=watch)
    except RunbookError as error:
        module.fail_json(**noticed(error.as_result()))
    module.exit_json(**noticed(result))


if __name__ == "__main__":
    main()
