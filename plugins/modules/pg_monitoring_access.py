#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_monitoring_access
short_description: Give a monitoring role exactly what the health checks need, without access to data
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Grants an existing role what M(pgops.runbook.pg_health) needs in one database, and nothing that shows what rows hold.
  - These are membership in C(pg_monitor); C(CONNECT) on the database; C(SELECT) on sequences, without which nobody sees that one runs out;
    of C(pg_statistic) the columns that say how wide values are and how often V(NULL), from which bloat is estimated; of the
    tables of a system the columns that checks read, with C(USAGE) on their schemas; and what O(configuration), O(integrity),
    O(row_counts) and O(history_schema) say.
  - What the role has already, through V(PUBLIC) or another role too, is not granted again. One more run changes nothing.
  - Everything is done in one transaction, or nothing.
options:
  role:
    description:
      - The role that monitors, exactly as the server spells it. It must exist.
    type: str
    required: true
  state:
    description:
      - V(present) grants what is lacking.
      - V(absent) takes away what V(present) with the same options would grant, as far as it was given to the role itself. What the role has
        through V(PUBLIC) or through other roles stays, and so does everything that was granted to it with the right to pass it on.
    type: str
    choices: [present, absent]
    default: present
  system:
    description:
      - The system description, in which the checks find their tables. Without it, only what the server needs is granted.
    type: dict
  sequence_schemas:
    description:
      - The schemas of whose sequences the role may see where they stand.
      - All but the system's own, if it is not given.
    type: list
    elements: str
    default: []
  default_privileges:
    description:
      - Open sequences that come later as well, by the default privileges of every role that has sequences in those schemas.
      - Where the session may not act for such a role, RV(not_granted) names it.
    type: bool
    default: true
  token_ids:
    description:
      - Grant C(SELECT) on the columns with the ids of tokens, by which the checks find tokens that stand twice and deny rows without
        a token.
      - Say V(false) where the id itself is what a client presents. C(token.duplicate_ids) and C(token.orphaned_deny) are unknown then.
      - A column that the description lists under C(secrets) or C(encrypted), or as a token's C(token), is never granted.
    type: bool
    default: true
  row_counts:
    description:
      - Grant C(SELECT) on one column of each table of the system of which the checks read none otherwise, a time, a flag or a number, so
        that tables which the server has never counted can be counted.
    type: bool
    default: true
  configuration:
    description:
      - Grant C(SELECT) on C(pg_hba_file_rules) and C(pg_file_settings), and C(EXECUTE) on the functions behind them, by which the
        checks read the server's configuration files.
      - C(pg_hba_file_rules) shows the passwords and secrets that lines for LDAP or RADIUS have. It is not granted while there are any.
        What was granted before they came stays, and RV(not_granted) has the statement that takes it away.
    type: bool
    default: true
  integrity:
    description:
      - Grant C(EXECUTE) on C(bt_index_check), C(gin_index_check) and C(verify_heapam) where the extension C(amcheck) is installed.
      - They read whole tables and indexes, and their messages tell where one is corrupt.
    type: bool
    default: true
  history_schema:
    description:
      - The schema in which the history of the checks is kept, O(pgops.runbook.pg_health#module:history_schema). It is made where it does
        not exist, and the role may make tables in it, and write the table of another role's runs.
      - With O(state=absent) it goes if this module has made it and it is empty.
      - None, if it is not given.
    type: str
  partial:
    description:
      - Grant what the session may grant although it may not grant everything. RV(missing) has the rest, with the statements that a
        superuser runs.
      - Without it, nothing is changed and the module fails then.
    type: bool
    default: false
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Returns the very statements that a run would execute.
  diff_mode:
    support: full
notes:
  - Membership in C(pg_monitor), C(pg_statistic) and the configuration take a superuser. All else takes the owners of the objects.
  - Where row-level security hides rows from the role, the checks of that table stay unknown. RV(not_granted) has the statement with
    C(BYPASSRLS) that a superuser may choose to run; the module never does.
  - The passwords of roles, C(pg_authid), are never granted. Which of them are MD5 is known to a superuser alone.
  - C(SELECT) on a sequence shows where it stands, and no more. C(USAGE), which shows the same, would let the role draw numbers as well. It
    counts as enough where somebody has granted it.
  - A column grant shows every value of that column. The columns are times, ids of tokens (see O(token_ids)), and those by which a store
    tells its rows apart.
  - Roles are made elsewhere, by M(community.postgresql.postgresql_user) for example.
  - Memberships and C(CONNECT) count for the whole server, all else for the one database. Run it on each database that is watched.
seealso:
  - module: pgops.runbook.pg_health
"""

EXAMPLES = r"""
- name: A role that monitors
  community.postgresql.postgresql_user:
    name: pgops_monitor
    password: "{{ vault_monitor }}"
    role_attr_flags: LOGIN

- name: It sees what the checks of TIM need
  pgops.runbook.pg_monitoring_access:
    login_host: db1.example.com
    login_db: tim
    role: pgops_monitor
    system: "{{ system_description }}"

- name: Grant what the owner of the database may grant, and keep the statements for a superuser
  pgops.runbook.pg_monitoring_access:
    login_db: tim
    login_user: tim_owner
    role: pgops_monitor
    system: "{{ system_description }}"
    history_schema: pgops
    partial: true
  register: access

- name: Take it all away again
  pgops.runbook.pg_monitoring_access:
    login_db: tim
    role: pgops_monitor
    system: "{{ system_description }}"
    state: absent
"""

RETURN = r"""
role:
  description: The role.
  type: str
  returned: success
  sample: pgops_monitor
database:
  description: The database.
  type: str
  returned: success
  sample: tim
grants:
  description: What was granted, or taken away, in the order in which it was done.
  type: list
  elements: dict
  returned: success
  contains:
    what: {description: The privilege., type: str, sample: "SELECT (issued_at, jwt_uuid)"}
    "on": {description: The object., type: str, sample: custom.jwt_metadata}
    statement:
      description: The statement, as a person can run it.
      type: str
      sample: GRANT SELECT ("issued_at", "jwt_uuid") ON TABLE "custom"."jwt_metadata" TO "pgops_monitor";
missing:
  description: What the session may not grant or take away. Empty unless O(partial), because the module fails otherwise.
  type: list
  elements: dict
  returned: success, and when the session may not do everything
  contains: &gap
    what: {description: The privilege., type: str, sample: membership}
    "on": {description: The object., type: str, sample: role pg_monitor}
    statement: {description: The statement that would do it; null where there is none., type: str}
    reason: {description: Why it was not done., type: str, sample: "tim_owner may not grant it: a superuser may"}
not_granted:
  description: What a check would need and what is left to a person, because it would show more than it should, or has no object.
  type: list
  elements: dict
  returned: success, and when the session may not do everything
  contains: *gap
error:
  description: What the failure is, in parts. C(msg) says it in words.
  returned: failure
  type: dict
  contains:
    type:
      description:
        - The type. C(MissingObject), the role or a schema does not exist; C(NotAllowed), the session may not do everything; C(Busy),
          another run is at work; C(InvalidValue) and C(DescriptionError), an option is wrong; C(ConnectError) and C(DriverMissing), it did
          not come to a session; C(DatabaseError), the server refused anything else.
      type: str
      sample: NotAllowed
    object: {description: The role or object that it is about; null where there is none., type: str}
    sqlstate: {description: The server's error code; null where the server did not refuse anything., type: str, sample: "42501"}
    hint: {description: What would help; null where nothing is known to., type: str}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import CONNECTION_ARGUMENTS, application_name, keep_readable
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access import OPERATION, arrange, read_options

ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "role": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "system": {"type": "dict"},
    "sequence_schemas": {"type": "list", "elements": "str", "default": []},
    "default_privileges": {"type": "bool", "default": True},
    # Whether, not which.
    "token_ids": {"type": "bool", "default": True, "no_log": False},
    "row_counts": {"type": "bool", "default": True},
    "configuration": {"type": "bool", "default": True},
    "integrity": {"type": "bool", "default": True},
    "history_schema": {"type": "str"},
    "partial": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    try:
        options = read_options(module.params)
        login = ConnectionOptions.from_params(module.params)
        with connect(login, application_name=application_name(OPERATION), read_only=module.check_mode) as database:
            result = arrange(database, options, check_mode=module.check_mode)
    except RunbookError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
