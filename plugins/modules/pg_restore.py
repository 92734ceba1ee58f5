#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: Restore a database or a part of one from a backup, and compare it with the backup before anybody uses it
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Restores a backup that M(pgops.runbook.pg_backup) made, into a new database, in the place of one, or into tables of one.
  - Every file of the backup is compared with its manifest before anything begins. A backup that a verification found broken is refused.
  - A database grows under a hidden name. It gets its own only when its definitions, the number of rows of every table and the hash over
    them are those that the manifest has from the snapshot of the dump. Where anything differs, it is dropped, the module fails and
    says what differs, and nothing else was changed.
  - So half a restore is never visible under the name that it is meant to have. What a run that was killed has left is dropped by the next.
  - Where the target holds what the backup holds already, nothing happens and RV(ignore:changed=false). That is found by comparing, not by
    remembering.
options:
  folder:
    description:
      - The folder of the backups, on the host that runs the module. Either this or O(path) is required.
    type: path
  backup:
    description:
      - Which of the backups in O(folder), by its RV(backup.id), or V(newest).
      - V(newest) is the newest verified one, by the moment of its snapshot; of whole databases for O(mode=new) and O(mode=swap),
        unless O(name) says otherwise; one with the rows of O(tables), or with O(schema), for the others. A backup that was never verified
        has to be named.
    type: str
    default: newest
  source_database:
    description:
      - The database whose backups are meant. It is required where O(folder) has backups of several.
    type: str
  name:
    description:
      - What the backups that are meant were called (O(pgops.runbook.pg_backup#module:name)). Backups of all names, if it is not given.
    type: str
  path:
    description:
      - The folder of one backup, instead of O(folder), such as a copy that was brought back from a second place.
    type: path
  mode:
    description:
      - V(new), into a database that does not exist yet.
      - V(swap), into a hidden one that then takes the name of O(target) in one transaction, in which that one gets another name. Only a
        backup of a whole database takes the place of one that is not empty.
      - V(tables), only O(tables) of O(target), as O(how) says.
      - V(schema), only O(schema) of O(target), in the place of the one that is there, which gets another name. It is refused where
        something outside of the schema depends on it, such as a view or a publication.
    type: str
    choices: [new, swap, tables, schema]
    default: new
  target:
    description:
      - The database that is restored to. For O(mode=new) and O(mode=swap) it is called as the one that was backed up, if it is not
        given; for the others it is O(login_db).
    type: str
  replace:
    description:
      - The name of the database that may lose its name with O(mode=swap), which is that of O(target). Without it a database is
        replaced only if it is empty.
      - With O(mode=schema), the name of the schema that may be replaced.
    type: str
  tables:
    description:
      - The tables for O(mode=tables), as V(table) in the schema V(public) or as V(schema.table), exactly as the server spells them.
        A part with a dot or a double quote stands in double quotes.
    type: list
    elements: str
    default: []
  schema:
    description:
      - The schema for O(mode=schema), exactly as the server spells it.
    type: str
  how:
    description:
      - What becomes of O(tables).
      - V(replace), a new table grows beside each one and takes its place, with its indexes, constraints, triggers and privileges, in
        one transaction.
      - V(missing_rows), the rows of the backup whose key the table does not have are inserted. What is there stays as it is.
    type: str
    choices: [replace, missing_rows]
    default: replace
  key:
    description:
      - The columns that tell rows apart with O(how=missing_rows). The primary key, if it is not given.
    type: list
    elements: str
    default: []
  token_stores:
    description:
      - The token stores of the system, in the form of C(token_stores) in a system description.
      - With them the restore counts the tokens that are refused now and would be accepted after it, because they were revoked since the
        backup, and fails if there are any. Without them nobody looks.
      - Where what revokes them is younger than the backup, such as a deny list or a column, nobody knows how many there are, and it fails
        too.
      - With O(mode=swap) they are counted again when nobody can revoke any more. If there are more by then, the module fails after the swap
        and says so; the old database is kept.
    type: list
    elements: dict
    default: []
  accept_tokens_back:
    description:
      - Restore although tokens would be accepted again, or although that cannot be told. RV(tokens_back) counts them.
    type: bool
    default: false
  accept_older_server:
    description:
      - Restore a database of a newer major version, or a part of it, to an older server. What the older one does not know makes it fail.
    type: bool
    default: false
  owners:
    description:
      - Restore who owns what. Without that everything belongs to the role that restores, and owners and privileges are not compared.
      - A dump in plain SQL can only be restored with O(owners) and O(privileges).
    type: bool
    default: true
  privileges:
    description:
      - Restore who may do what. Without that privileges are not compared.
    type: bool
    default: true
  disconnect:
    description:
      - End the sessions on O(target) at the moment of the swap, also those that come back at once. Who connects then has to wait.
      - Without that a database that has any is not replaced.
    type: bool
    default: false
  keep_old:
    description:
      - Keep the database, the schema or the tables that were replaced, under a name that ends in C(_before_) and the time. RV(kept) says
        which.
    type: bool
    default: true
  analyze:
    description:
      - Gather the planner's statistics of a restored database. No dump has them, and without them its queries are slow.
    type: bool
    default: true
  jobs:
    description:
      - By how many sessions at once a database is restored. One, for a backup that is encrypted or in plain SQL.
      - The number of processors, but no more than 4, if it is not given.
    type: int
  identity:
    description:
      - The file with the secret key of C(age), for a backup that is encrypted with it.
    type: path
  gpg_home:
    description:
      - The folder of the keyring of C(gpg) with the secret key, for a backup that is encrypted with it. That of the account, if it is
        not given.
    type: path
  scratch_folder:
    description:
      - Where files that a program has compressed are unpacked, for C(pg_restore) to read them, in a folder that only the account sees and
        that goes with the run. Nothing that is encrypted is ever unpacked.
      - The folder of the backup if it can be written to, else that for temporary files, if it is not given.
    type: path
  max_runtime:
    description:
      - The time that the run may take in all, such as V(2 h). When it is over, what was begun is taken back and the module fails.
    type: str
  bin_dir:
    description:
      - The folder of C(pg_restore) and C(psql). The newest that are installed, if it is not given.
      - They are neither older than the server nor older than the C(pg_dump) that made the backup.
    type: path
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Chooses the backup, compares its files with its manifest and the target with the backup, refuses what a run would refuse, and
        changes nothing.
      - How the restored database compares with the backup, and how many tokens it would bring back, is not known before it is restored.
  diff_mode:
    support: none
    details:
      - The result says what was restored instead.
notes:
  - With O(mode=new) and O(mode=swap) the module logs in to O(login_db) if that is not the database that comes or goes, else to V(postgres).
  - The role must be allowed to create databases, to act as the roles that own things in the backup, and to set the settings of the
    database. A superuser is.
  - The roles that own something, have been granted something or are named by a policy must be there, and so must the tablespaces and
    the files of the extensions. What is missing is named before anything begins. The backup's file C(globals.sql) has the roles.
  - The encoding and the locale of the new database, its owner, privileges, comment, connection limit and settings are those of the one
    that was backed up, its settings for single roles too. They are tried before any row is loaded.
  - Event triggers do not fire while a superuser restores them, or they would write into what is being compared; on servers before 17,
    those that are enabled as C(ALWAYS) do.
  - A subscription is restored without its connection, and a publication without the slots of its subscribers. A database that is replaced
    keeps its replication slots and its own subscriptions, and RV(notices) names them.
  - Definitions are compared by how the server writes them where both servers are of one major version, and only by their names between
    two. RV(not_compared) says what else was not compared.
  - Newer programs send an older server a setting that it does not know (C(transaction_timeout)). That is the one error of C(pg_restore)
    that counts for nothing.
  - A dump in plain SQL is restored in one transaction, which is committed only after its last line was seen. Its commands are those of
    whoever could write to the backup or to the names in the database; a C(psql) that does not know C(\\restrict) is refused.
  - Two runs for one target never overlap. The second one fails and names the first.
  - O(statement_timeout) does not bound what depends on the size of the database; O(max_runtime) does.
  - No row and no value of one stands in a result or an error.
  - A pooler that gives each transaction another session will not do. Connect to the server itself.
  - It works on Linux, on the host that runs the module.
seealso:
  - module: pgops.runbook.pg_backup
  - module: pgops.runbook.pg_backup_info
  - module: pgops.runbook.pg_recovery_drill
"""

EXAMPLES = r"""
- name: Restore the newest verified backup of a database beside it, to look at
  pgops.runbook.pg_restore:
    login_db: postgres
    folder: /var/backups/postgresql
    source_database: tim
    target: tim_yesterday

- name: Put it in the place of the damaged one, and end the sessions that are on that
  pgops.runbook.pg_restore:
    login_db: postgres
    folder: /var/backups/postgresql
    source_database: tim
    mode: swap
    target: tim
    replace: tim
    disconnect: true
    token_stores: "{{ system_description.token_stores }}"

- name: Bring back the rows that somebody has deleted, and touch nothing else
  pgops.runbook.pg_restore:
    login_db: tim
    folder: /var/backups/postgresql
    source_database: tim
    mode: tables
    tables: [custom.jwt_metadata]
    how: missing_rows
    token_stores: "{{ system_description.token_stores }}"

- name: Restore an encrypted backup to a server that has none of its roles
  pgops.runbook.pg_restore:
    login_db: postgres
    path: /srv/brought-back/tim.full.20261121T020000Z
    identity: /root/backup.key
    owners: false
    privileges: false
"""

RETURN = r"""
mode:
  description: What was asked for, O(mode).
  returned: success
  type: str
  sample: new
action:
  description:
    - V(restored), there is a new database or schema. V(swapped), it has taken the place of another database. V(replaced), tables or
      a schema were replaced. V(rows_copied), rows were copied back. V(present), the target holds what the backup holds, and nothing was
      done.
    - In check mode, what would be done.
  returned: success
  type: str
  sample: restored
backup:
  description: The backup that was restored.
  returned: success
  type: dict
  contains:
    id:
      description: Its name, which is that of its folder.
      type: str
      sample: tim.full.20261121T020000Z
    path:
      description: Its folder.
      type: str
    database:
      description: The database that was backed up.
      type: str
    kind:
      description: What of it is in the backup, in the words of O(pgops.runbook.pg_backup#module:kind).
      type: str
      sample: full
    taken_at:
      description: The moment that it shows, in ISO 8601, UTC.
      type: str
      sample: "2026-11-21T02:00:00.000013+00:00"
    verified:
      description: How deep it was verified, V(checksum), V(decode) or V(restore). None where it never was.
      type: str
      sample: decode
    bytes:
      description: How large it is.
      type: int
target:
  description: The database that was restored to.
  returned: success
  type: str
  sample: tim
schema:
  description: The schema that was restored.
  returned: success and O(mode=schema)
  type: str
  sample: custom
kept:
  description: What the database or schema is called now that was replaced. None where there was none, or it was dropped.
  returned: success and O(mode) is not V(tables)
  type: str
  sample: tim_before_20261121_093000
tables:
  description: How many tables were restored with their rows and compared. In check mode, those that the manifest names.
  returned: success
  type: int
rows:
  description: How many rows they have, counted in the restored database. In check mode, those of the manifest.
  returned: success
  type: int
restored:
  description: What became of each table.
  returned: success and O(mode=tables)
  type: list
  elements: dict
  contains:
    table:
      description: The table.
      type: str
      sample: custom.jwt_metadata
    in_backup:
      description: How many rows of it the backup has.
      type: int
    compared:
      description: Whether the manifest knows the hash of these rows; if so, it is theirs.
      type: bool
    defaults:
      description: The columns that the backup does not have and that got their default.
      type: list
      elements: str
    rows_before:
      description: With O(how=replace), how many rows it had.
      type: int
    rows:
      description: With O(how=replace), how many it has now.
      type: int
    denials_kept:
      description: With O(how=replace), how many of its deny rows were kept beside those of the backup.
      type: int
    kept:
      description: With O(how=replace), what the old table is called now. None where it was dropped.
      type: str
    key:
      description: With O(how=missing_rows), the columns by which rows were told apart.
      type: list
      elements: str
    present:
      description: With O(how=missing_rows), how many rows of the backup were there.
      type: int
    different:
      description: With O(how=missing_rows), how many of those have other values in the backup.
      type: int
    inserted:
      description: With O(how=missing_rows), how many were not there and are now.
      type: int
    vetoed:
      description: With O(how=missing_rows), how many a trigger or rule of the table kept out.
      type: int
    rewritten:
      description: With O(how=missing_rows), how many have other values than in the backup because a trigger changed them.
      type: int
    triggers:
      description: With O(how=missing_rows), the triggers that fired.
      type: list
      elements: str
    sequences_moved:
      description: With O(how=missing_rows), the sequences that were moved past the values that came back.
      type: list
      elements: str
tokens_back:
  description: How many tokens of each store in O(token_stores) are accepted now and were not before.
  returned: success
  type: list
  elements: dict
  contains:
    store:
      description: The store.
      type: str
    how:
      description: How it revokes.
      type: str
    back:
      description: How many tokens, RV(tokens_back[].revoked), RV(tokens_back[].denied) and RV(tokens_back[].gone) together.
      type: int
    revoked:
      description: How many were there and refused.
      type: int
    denied:
      description: How many had no row and were refused by a deny list or a limit.
      type: int
    gone:
      description: How many had no row.
      type: int
    unknown:
      description: Why they could not be counted. None where they could.
      type: str
left_out:
  description: What the backup does not have, as C(pg_backup) said when it made it.
  returned: success and O(mode) is V(new) or V(swap)
  type: list
  elements: dict
  contains:
    what:
      description: What kind of thing it is.
      type: str
    object:
      description: Which one.
      type: str
    why:
      description: Why it is not in the backup.
      type: str
not_compared:
  description: What of the restored database or schema was not compared with the backup.
  returned: success and O(mode) is not V(tables)
  type: list
  elements: dict
  contains:
    what:
      description: What kind of thing it is.
      type: str
    object:
      description: Which one. Empty where it is all of them.
      type: str
    why:
      description: Why not.
      type: str
dropped:
  description: The hidden databases of runs that were killed, which were dropped.
  returned: success and O(mode) is V(new) or V(swap)
  type: list
  elements: str
seconds:
  description:
    - How long each phase took. Phases that there were not are left out.
    - C(fetch), comparing the files with the manifest; C(create), making the database; C(unpack); C(pre_data), C(data) and C(post_data),
      the definitions, the rows, and the indexes and constraints; C(settings); C(compare); C(analyze); C(publish), giving it its name;
      C(restore), for O(mode=tables) and O(mode=schema) all of it; C(total).
    - With several sessions, indexes of one table are built while rows of others are loaded. C(data) ends with the last row then. A dump
      in plain SQL is all C(data).
  returned: success
  type: dict
  sample: {fetch: 0.4, create: 0.1, unpack: 0.8, pre_data: 0.2, data: 6.1, post_data: 2.3, compare: 1.2, analyze: 1.1, total: 12.3}
differences:
  description: Where what was restored is not what was backed up, the first hundred places.
  returned: failure because of that
  type: list
  elements: dict
  contains:
    kind:
      description: What kind of thing differs, such as C(rows), C(indexes) or C(grants).
      type: str
    object:
      description: Which one.
      type: str
    table:
      description: The table that it belongs to. None where it belongs to none.
      type: str
    what:
      description: V(missing), V(extra) or V(different).
      type: str
    message:
      description: All of that in a sentence.
      type: str
notices:
  description: The warnings, for playbooks to read.
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
        - The type. C(InvalidValue), an option is wrong; C(MissingObject), a backup or database is not there; C(Refused), the restore would
          do harm, or the backup is broken; C(Different), what was restored is not what was backed up; C(Busy), another run is at work;
          C(ProgramMissing) and C(ProgramFailed), a program is not there or failed; C(OutOfTime), O(max_runtime) is over;
          C(ConnectError) and C(DriverMissing), there was no session; C(DatabaseError), the server refused anything else;
          C(RunbookError), a file could not be read or written.
      type: str
      sample: Refused
    object:
      description: The option, table, database or file that it is about. None where there is none.
      type: str
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
from ansible_collections.pgops.runbook.plugins.module_utils._backup.interrupt import taking_back
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._progress import publisher
from ansible_collections.pgops.runbook.plugins.module_utils._restore.engine import restore
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import HOW, MODES, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import OPERATION

ARGUMENTS: dict[str, Any] = {
    **CONNECTION_ARGUMENTS,
    "folder": {"type": "path"},
    "backup": {"type": "str", "default": "newest"},
    "source_database": {"type": "str"},
    "name": {"type": "str"},
    "path": {"type": "path"},
    "mode": {"type": "str", "choices": list(MODES), "default": "new"},
    "target": {"type": "str"},
    "replace": {"type": "str"},
    "tables": {"type": "list", "elements": "str", "default": []},
    "schema": {"type": "str"},
    "how": {"type": "str", "choices": list(HOW), "default": "replace"},
    # The names of columns.
    "key": {"type": "list", "elements": "str", "default": [], "no_log": False},
    # The ids of tokens are in none of these, only the names of tables and columns.
    "token_stores": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "accept_tokens_back": {"type": "bool", "default": False, "no_log": False},
    "accept_older_server": {"type": "bool", "default": False},
    "owners": {"type": "bool", "default": True},
    "privileges": {"type": "bool", "default": True},
    "disconnect": {"type": "bool", "default": False},
    "keep_old": {"type": "bool", "default": True},
    "analyze": {"type": "bool", "default": True},
    "jobs": {"type": "int"},
    # The path of a file.
    "identity": {"type": "path"},
    "gpg_home": {"type": "path"},
    "scratch_folder": {"type": "path"},
    "max_runtime": {"type": "str"},
    "bin_dir": {"type": "path"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    try:
        options = read_options(module.params, application_name(OPERATION))
        login = ConnectionOptions.from_params(module.params)
        with taking_back(), publisher(OPERATION) as watch:
            result = restore(login, options, check_mode=module.check_mode, watch=watch)
    except RunbookError as error:
        module.fail_json(**noticed(error.as_result()))
    module.exit_json(**noticed(result))


if __name__ == "__main__":
    main()
