#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cleanup
short_description: Remove expired rows in bounded batches, without ever bringing a revoked token back
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Deletes the rows whose time is older than an age, for as many tables as there are rules, in batches with a commit each.
  - Everything is looked up and counted first, in one read-only snapshot. A rule that cannot be carried out (a table or
    column that is missing, a column that is no time, a privilege that is lacking) ends the run before the first change.
  - All cut-offs come from the server's clock, read once. Neither the zone of the session nor that of the role matters.
  - A row goes when its time lies before the cut-off. V(NULL) and V(infinity) never do.
  - A deny row whose token could still be accepted is never removed, whatever the rules say and however the description
    was written. See the notes.
  - A second run finds nothing to do and returns RV(ignore:changed=false).
options:
  rules:
    description:
      - What to remove, one rule a table and time column, in the form of C(retention) in a system description.
      - Rules on deny tables are applied first, the others in the order in which they are written. A row that several rules
        cover is counted by the first one.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - What results call the rule. Names must differ.
          - The table's name, if it is not given.
        type: str
      table:
        description:
          - The table, as V(table) in the schema V(public) or as V(schema.table). The name is exact, without folding to lower case.
          - With a partitioned table or a parent table, the rows of all its partitions or children.
          - Rows can only be removed from tables, not through a view or from a foreign table.
        type: str
        required: true
      column:
        description:
          - The column that a row's age counts from, by its name, or as a mapping with C(column), C(time_zone) and C(unit).
          - It is of type C(timestamp with time zone), C(timestamp) (with O(rules[].time_zone)), C(date), or C(integer) or
            C(bigint) (with O(rules[].unit)).
          - A date is past when its day has ended, in O(rules[].time_zone) or, if that is not given, everywhere on Earth. Whole
            seconds and milliseconds are past when they are over. A wall clock that was set back is past when both passes are
            over. So nothing is removed early.
        type: raw
        required: true
      time_zone:
        description:
          - The zone in which a column of type C(timestamp) or C(date) is written, such as V(UTC) or V(Europe/Tallinn).
          - It is required for C(timestamp), because it cannot be known from the data.
        type: str
      unit:
        description:
          - What an integer column counts since 1970. It is required for one.
          - V(ms) is refused if any value is one of seconds since 1970 in this century, because every such row would look
            expired. So it is for the expiry columns of the stores that a rule is about.
        type: str
        choices: [s, ms]
      older_than:
        description:
          - The age at which a row goes, such as V(30 days), V(15 min) or V(0 s). Fractions of a microsecond are rounded up.
          - Deny rows are kept for O(clock_skew) on top of it.
        type: str
        required: true
      older_than_seconds:
        description:
          - The same in seconds, as a loaded system description has it. It is worked out from O(rules[].older_than) and must
            not differ from it.
        type: float
      action:
        description:
          - What happens to the rows.
        type: str
        choices: [delete]
        default: delete
      protects:
        description:
          - The name of the entry of O(token_stores) whose deny rows or tokens the table holds. A rule that names a store
            with which the table has nothing to do is refused.
          - The protection does not depend on it. Every rule whose table belongs to a store's deny list is protected.
        type: str
  token_stores:
    description:
      - The token stores of the system, in the form of C(token_stores) in a system description.
      - They say which tables hold deny rows, which hold the tokens, and when both expire.
      - Those of a store that no rule is about need not exist. A deny list or token list that is a view, a materialized view
        or a foreign table is refused in any store, because the rows behind it could not be protected.
    type: list
    elements: dict
    default: []
  clock_skew:
    description:
      - How far the clock of whoever accepts a token may be behind.
      - Deny rows stay for so long after their tokens have expired.
    type: str
    default: 5 min
  batch_rows:
    description:
      - How many rows one batch removes at most, from 1 to 1000000. Each batch is a transaction of its own.
    type: int
    default: 10000
  max_rows:
    description:
      - Fail before the first change if the rules would remove more rows than this in all. The result holds the counts.
      - It counts what would go, without the rows that are protected.
    type: int
  max_runtime:
    description:
      - Stop between two batches when the run has taken this long, such as V(30 min), counting included. The run does not
        fail, RV(stopped) is V(max_runtime), and the next run goes on from there.
    type: str
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Counts by the very predicate that the run deletes by, in one read-only transaction, and takes no lock. The numbers are
        those of a run at that instant.
      - What cannot be foreseen is what other sessions and triggers do.
  diff_mode:
    support: none
    details:
      - The result counts the rows of each table instead.
notes:
  - A deny row goes when its own C(expires_at), and that of every token row with its id, lies further back than O(clock_skew).
    If the deny list has no C(expires_at), the tokens' alone count, and a deny row without any token row stays for good.
    A deny row whose C(expires_at) is V(NULL) is permanent.
  - A token row stays while a deny row that has no expiry of its own, or one that ends before the live token does, refers to
    it by id. Both hold for partitions and parents of the tables too.
  - The ids of a deny list and of its tokens may be of one type, two sorts of integers or texts, or C(uuid) and a text in any
    form that C(uuid) can be written in. Other pairs of types are refused, because they might silently match nothing.
  - Foreign keys that refer to the table of a rule are followed before the first change, in check mode too, also through
    further tables by C(ON DELETE CASCADE). The run fails if they would remove deny rows of any store in O(token_stores), or
    set their id or expiry (C(SET NULL), C(SET DEFAULT)), whether or not there are such rows at the time; if they would do
    so to token rows that a deny row still needs; and if rows that would go are still referred to by a foreign key with
    C(NO ACTION) or C(RESTRICT). Referring rows that an earlier rule of the run removes do not count.
  - Not counted are references from tables that the role may not read, and from those that a cascade empties as well.
    There the server may still refuse a batch. Of several ways by which cascades reach one table, the shortest is followed.
  - Rows that go by a cascade are not in the numbers of the result. RV(rules[].references) lists the foreign keys. One
    that is not indexed has the server read its whole table for each row that goes.
  - A rule on a table with a rewrite rule on C(DELETE) is refused. Triggers fire; RV(rules[].triggers) lists them. They
    find what they name without a schema in C(pg_catalog), in the schema of the rule's table, in those of the other rules'
    tables and in C(public), in this order. The search path of the role does not matter.
  - One run at a time on a database. A second one fails at once and names the first. The lock goes with the session.
  - Rows that others hold locked are passed over and tried again after the rest of the table. Those that are still locked
    then are counted in RV(rules[].skipped_locked) and left to the next run.
  - The role needs C(SELECT), C(UPDATE) (to lock rows) and C(DELETE) on each table and each of its partitions, and C(SELECT) on the tables
    of a token store that a rule is about.
  - C(application_name) shows the table and the percentage that is done.
seealso:
  - module: pgops.runbook.pg_health
"""

EXAMPLES = r"""
- name: Remove what has expired, as the system description says for daily
  pgops.runbook.pg_cleanup:
    login_host: db.example.com
    login_db: tim
    rules: "{{ system_description.retention.daily }}"
    token_stores: "{{ system_description.token_stores }}"
    clock_skew: "{{ system_description.clock_skew }}"

- name: Remove login states after 15 minutes, but never more than a million rows or for longer than half an hour
  pgops.runbook.pg_cleanup:
    login_db: tim
    rules:
      - {table: tara.oauth_state, column: created_at, time_zone: UTC, older_than: 15 min}
    max_rows: 1000000
    max_runtime: 30 min

- name: Remove deny rows, each when its token can no longer be accepted
  pgops.runbook.pg_cleanup:
    login_db: tim
    rules:
      - name: deny list
        table: custom.denylist
        column: {column: expires_at, time_zone: UTC}
        older_than: 0 s
    token_stores:
      - name: custom
        tokens: {table: custom.jwt_metadata, id: jwt_uuid, expires_at: {column: expires_at, time_zone: UTC}}
        revoke: {how: denylist, table: custom.denylist, id: jwt_uuid, expires_at: {column: expires_at, time_zone: UTC}}
"""

RETURN = r"""
as_of:
  description: The instant of the server's clock that all cut-offs are computed from, in ISO 8601, UTC.
  returned: when the rules were planned
  type: str
  sample: "2026-03-01T02:00:00.000013+00:00"
matched:
  description: How many rows lay past their cut-off, over all rules.
  returned: when the rules were planned
  type: int
protected:
  description: How many of them must stay so that a revoked token stays revoked.
  returned: when the rules were planned
  type: int
removed:
  description:
    - How many rows the statements removed. In check mode, how many they would remove.
    - If the module fails, how many it had removed by then. Those stay removed.
  returned: when the rules were planned
  type: int
remaining:
  description: How many rows should have gone and are still there.
  returned: when the rules were planned
  type: int
stopped:
  description:
    - Why the run ended, the worst over all rules.
    - V(done), nothing is left to do; V(locked), others held rows; V(vetoed), a trigger kept rows; V(max_runtime), the time was over;
      V(check_mode); V(max_rows), more rows than allowed; V(error), the module fails.
  returned: when the rules were planned
  type: str
  sample: done
rules:
  description: The numbers of each rule, in the order in which they were written.
  returned: when the rules were planned
  type: list
  elements: dict
  contains:
    name:
      description: The rule's name.
      type: str
      sample: custom.denylist
    table:
      description: Its table.
      type: str
      sample: custom.denylist
    column:
      description: Its time column.
      type: str
      sample: expires_at
    cutoff:
      description: Rows whose time lies before this instant have matched, in ISO 8601, UTC. For deny rows the clock skew is in it.
      type: str
      sample: "2026-03-01T01:55:00.000013+00:00"
    matched:
      description: How many rows lay past the cut-off.
      type: int
    protected:
      description: How many of them must stay.
      type: int
    removed:
      description: How many were removed; in check mode, would be.
      type: int
    remaining:
      description: How many should have gone and are still there.
      type: int
    rows_left:
      description: How many rows the table has after the run, counted exactly. None if the module fails after its first change.
      type: int
    batches:
      description: How many transactions removed rows.
      type: int
    skipped_locked:
      description: How many of the remaining rows were locked by others.
      type: int
    seconds:
      description: How long the removal took.
      type: float
    stopped:
      description: Why the rule ended, in the words of RV(stopped).
      type: str
      sample: done
    references:
      description: The foreign keys that refer to the table.
      type: list
      elements: dict
      contains:
        constraint:
          description: The foreign key's name.
          type: str
        table:
          description: The table that has it.
          type: str
        on_delete:
          description: What it does when rows go, C(no action), C(restrict), C(cascade), C(set null) or C(set default).
          type: str
          sample: no action
        indexed:
          description: Whether an index finds the rows that refer to one that goes. Without it, the server reads the whole table each time.
          type: bool
    triggers:
      description: The names of the enabled triggers that fire when rows of the table go.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import CONNECTION_ARGUMENTS, application_name, keep_readable
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import OPERATION, clean_up, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError

RULE_ARGUMENTS = {
    "name": {"type": "str"},
    "table": {"type": "str", "required": True},
    "column": {"type": "raw", "required": True},
    "time_zone": {"type": "str"},
    "unit": {"type": "str", "choices": ["s", "ms"]},
    "older_than": {"type": "str", "required": True},
    "older_than_seconds": {"type": "float"},
    "action": {"type": "str", "choices": ["delete"], "default": "delete"},
    "protects": {"type": "str"},
}
ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "rules": {"type": "list", "elements": "dict", "required": True, "options": RULE_ARGUMENTS},
    # The ids of tokens are in none of these, only the names of tables and columns.
    "token_stores": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "clock_skew": {"type": "str", "default": "5 min"},
    "batch_rows": {"type": "int", "default": 10000},
    "max_rows": {"type": "int"},
    "max_runtime": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    name = application_name(OPERATION)
    try:
        options = read_options(module.params, name)
        with connect(ConnectionOptions.from_params(module.params), application_name=name, read_only=module.check_mode) as database:
            result = clean_up(database, options, check_mode=module.check_mode)
    except RunbookError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
