#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_health
short_description: Tell the truth about a database and its token stores
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Runs checks of one schedule over one read-only session, compares what they read with thresholds, and returns findings with
    what to do about each.
  - What the role may not see, and what fails or takes too long, is V(unknown) with the grant that would change it, never V(ok). No check
    takes another with it.
  - What has nothing to judge is V(skipped) and says why, which is not V(ok). C(token.zone_ahead) skips a column without a row of the
    last ten minutes, and is V(unknown) where the newest row suggests a zone that is behind the declared one, or a service idle for just
    so long.
  - A connection that is refused is a finding as well, the critical C(avail.connect) with the layer that refused it.
  - With a history, of O(history_schema) or O(history), a run says what is new, worse, better, the same or resolved since the run before,
    and when something runs out. Without one, and on the first run, it says that there is no history yet.
options:
  system:
    description:
      - The system description, as written or as the role P(pgops.runbook.system#role) returns it. It says which schemas and tables
        must be there, what is a token store or a login flow, and which thresholds and actions hold.
      - Without it only the server and the database are looked at.
    type: dict
  tier:
    description:
      - The schedule whose checks run. A schedule includes the more frequent ones.
      - V(hourly) if neither this nor O(checks) is given; every schedule if only O(checks) is.
      - An empty string counts as not given.
    type: str
    choices: ["", hourly, daily, weekly, monthly]
  checks:
    description:
      - Run only these checks, each named by its id such as V(login.stuck) or its group such as V(token). Empty means all of the tier.
      - C(avail.connect) always runs. What O(system) has thresholds for and no check of this version looks at is V(skipped) and says so.
    type: list
    elements: str
    default: []
  thresholds:
    description:
      - Thresholds by the id of the check, which go before those of the system and the defaults. Each is a dictionary of C(warning),
        C(critical), C(minimum) (the least sample that is judged, where a check has one) and C(action).
      - A value beyond a threshold is a finding, a value equal to it is not. C(null) switches a threshold off, one left out is inherited.
      - Durations such as V(30 s) and sizes such as V(5 GB) are understood where the check compares those.
    type: dict
    default: {}
  exact_counts:
    description:
      - Count the rows of the system's tables exactly instead of taking what VACUUM or ANALYZE counted last. Reads every table.
    type: bool
    default: false
  suppressions:
    description:
      - Findings that are known and that nobody is to be told of for a while, beside those of O(system). They move from RV(findings) to
        RV(suppressed) and no longer count in RV(status), but what could not be seen is then V(skipped), never V(ok).
    type: list
    elements: dict
    default: []
    suboptions:
      finding:
        description: The key of the finding, as RV(findings[].key) has it. C(avail.connect) cannot be suppressed.
        type: str
        required: true
      reason:
        description: Why nobody is to be told.
        type: str
        required: true
      until:
        description: The last day on which it holds, such as V(2027-03-31), in UTC. After it the finding is back, and RV(notices) says so.
        type: str
        required: true
      severity:
        description: The worst that it covers. What gets worse than that is told again.
        type: str
        choices: [unknown, warning, critical]
        default: warning
  expected_role:
    description:
      - What this server is meant to be. C(avail.role_expected) is critical where it is the other; without it nothing is compared.
      - An empty string counts as not given.
    type: str
    choices: ["", primary, standby]
  expected_standbys:
    description:
      - The C(application_name) of each standby that is meant to stream from this server. A dead standby has no row anywhere, so only who
        is expected can be missed. See C(repl.standbys).
      - On a server that is itself a standby it counts only where O(expected_role=standby), so that a failover does not turn it around.
    type: list
    elements: str
    default: []
  backup_folder:
    description:
      - The folder on the host that runs the module in which the backups of this database stand. See C(backup.age).
      - An empty string counts as not given.
    type: path
  max_runtime:
    description:
      - After this time no further check begins. Those left are V(unknown).
      - An empty string counts as not given.
    type: str
    default: 5 min
  check_timeout:
    description:
      - How long one statement of a check may run, such as V(10 s). A check that needs longer is V(unknown).
      - An empty string counts as not given.
      - Used in place of O(statement_timeout). O(lock_timeout) is not used either; a check waits 100 ms for a lock, because whoever
        queues behind it would wait as well.
    type: str
    default: 10 s
  history_schema:
    description:
      - A schema of the database in which the runs are kept, in the table C(health_snapshots). The table is made on the first run, and the
        schema too where the role may make one; docs/checks.md says what to grant.
      - It is read over the session of the run and written at its end over a second one that may write, in a transaction of one row.
        No other table is written or locked. A run that is recorded is like a line in a log, and is no change of the task.
      - Where the run cannot be recorded (a standby, a full disk, a missing privilege, a lock) its result stands, RV(history.recorded) is
        false, and RV(notices) says what to do. Nothing is recorded in check mode.
      - An empty string counts as not given.
    type: str
  history_keep:
    description:
      - How long a run is kept in O(history_schema).
      - An empty string counts as not given.
    type: str
    default: 400 days
  history:
    description:
      - The history in a file of the control node, as the module M(pgops.runbook.pg_health_history) returns it in its key C(history).
        That module also records RV(snapshot) afterwards; the role P(pgops.runbook.health#role) does both.
      - Not together with O(history_schema). An empty mapping counts as not given.
    type: dict
    default: {}
  fail_on:
    description:
      - The status from which the task fails. V(warning) fails on critical too, V(unknown) on all three, V(never) on none.
      - A failed task returns the whole result, and C(msg) is its summary.
      - An empty string counts as not given.
    type: str
    choices: ["", critical, warning, unknown, never]
    default: critical
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.cache
  - pgops.runbook.attributes
  - pgops.runbook.attributes.read_only
seealso:
  - module: pgops.runbook.pg_health_history
  - name: The checks
    description: Every check with its thresholds, what it looks at, what to do, and what privilege it needs.
    link: https://github.com/pgops/runbook/blob/main/docs/checks.md
"""

EXAMPLES = r"""
- name: Look at the database of TIM, and fail on anything critical
  pgops.runbook.pg_health:
    login_host: db1.example.com
    login_db: tim
    system: "{{ system_description }}"
    tier: daily

- name: Look at the token stores only, with another threshold, and never fail
  pgops.runbook.pg_health:
    login_db: tim
    system: "{{ system_description }}"
    checks: [token]
    thresholds:
      token.revocation_rate: {warning: 5, critical: 20, minimum: 50}
    fail_on: never
  register: health

- name: Say what is new since the run before, and when something runs out
  pgops.runbook.pg_health:
    login_db: tim
    system: "{{ system_description }}"
    tier: daily
    history_schema: pgops
    history_keep: 180 days

- name: Look at everything once a month, and set aside until the summer what is known
  pgops.runbook.pg_health:
    login_db: tim
    system: "{{ system_description }}"
    tier: monthly
    max_runtime: 1 h
    check_timeout: 10 min
    backup_folder: /var/backups/tim
    suppressions:
      - finding: ver.eol
        reason: The upgrade is planned for June, see OPS-217.
        until: "2027-06-30"
      - finding: "bloat.table[audit.events]"
        reason: It is dropped with the old audit.
        until: "2027-03-31"
        severity: critical

- name: Look at a primary that two standbys follow, every hour
  pgops.runbook.pg_health:
    login_host: db1.example.com
    login_db: tim
    system: "{{ system_description }}"
    tier: hourly
    expected_role: primary
    expected_standbys: [db2, db3]

- name: Look at a server about which nothing is declared
  pgops.runbook.pg_health:
    login_unix_socket: /run/postgresql
    login_db: postgres
"""

RETURN = r"""
status:
  description: The worst status of a check. V(unknown) is worse than V(ok) and better than V(warning).
  type: str
  returned: always, also if the connection was refused
  sample: warning
exit_code:
  description: The same as Nagios has it. 0 is ok, 1 warning, 2 critical, 3 unknown.
  type: int
  returned: always, also if the connection was refused
  sample: 1
summary:
  description: One line that says it all.
  type: str
  returned: always, also if the connection was refused
  sample: "tim warning: 1 warning: login.pending[tara.oauth_state] 112 logins pending"
checks:
  description: Every check that was chosen, in the order in which they ran.
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    id: {description: The id., type: str, sample: login.stuck}
    title: {description: What it is., type: str}
    group: {description: The first part of the id., type: str, sample: login}
    tier: {description: The schedule that it belongs to., type: str, sample: hourly}
    status: {description: "V(ok), V(warning), V(critical), V(unknown) or V(skipped)", type: str}
    message: {description: What was found., type: str}
    value: {description: The worst value that was compared; null where there is none., type: float}
    unit: {description: "Of the value and its thresholds; V(seconds), V(bytes), V(percent), V(count) or null", type: str}
    thresholds: {description: "The thresholds used, and in C(sources) where each comes from (V(default), V(system), V(call))", type: dict}
    action: {description: What to do about a finding., type: str}
    needs: {description: The privilege that it needs., type: str}
    objects: {description: How many stores or tables were looked at; 1 for the whole database., type: int}
    findings_total:
      description: How many of them are critical, wrong or could not be seen; RV(findings) has at most 20 of them.
      type: int
    suppressed: {description: How many more were set aside; RV(suppressed) has at most 20 of them., type: int}
    timing_ms: {description: How long it took., type: float}
findings:
  description:
    - What is critical, wrong or could not be seen, worst first; at most 20 of one check.
    - RV(checks[].findings_total) counts all of them.
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    key:
      description: The check and the object; the same problem has the same key in every run.
      type: str
      sample: "login.stuck[tara.oauth_state]"
    change:
      description:
        - V(new), V(worse), V(better) or V(same) since the run before that looked; null where there is none to compare with.
        - What is back after it was set aside or had nothing to judge is V(new).
      type: str
    first_seen: {description: Since when it is known; null where no history is kept., type: str}
    title: {description: What the check is., type: str}
    check: {description: The id of the check., type: str, sample: login.stuck}
    severity: {description: "V(critical), V(warning) or V(unknown)", type: str}
    object: {description: "The store, table or column; empty for the whole database", type: str, sample: tara.oauth_state}
    message: {description: What was found., type: str}
    value: {description: The value; null where there is none., type: float}
    unit: {description: The unit of the value., type: str}
    warning: {description: The threshold of a warning., type: float}
    critical: {description: The threshold of what is critical., type: float}
    threshold: {description: The threshold that was passed; null where the check decided by itself., type: float}
    threshold_source: {description: "Where that threshold comes from; V(default), V(system) or V(call)", type: str}
    action: {description: "What to do; for what could not be seen, the statement that would show it", type: str}
    sqlstate: {description: The server's code of an error., type: str}
    layer: {description: What refused a connection., type: str}
metrics:
  description: Every number by the id of its check, with the object in brackets.
  type: dict
  returned: always, also if the connection was refused
  sample: {"conn.used_pct": 12.5, "token.revocation_rate[custom]": 1.2}
time:
  description: When the run was, in UTC, by the clock of the server; by that of this host where there was no session.
  type: str
  returned: always, also if the connection was refused
  sample: "2026-11-21T10:47:30.120034+00:00"
system:
  description: The name of the system; null without one.
  type: str
  returned: always, also if the connection was refused
  sample: tim
tier:
  description: The schedule; null where single checks were asked for and no schedule.
  type: str
  returned: always, also if the connection was refused
  sample: daily
notices:
  description: Sentences about the run itself, such as a suppression that has expired, or why the run is not recorded.
  type: list
  elements: str
  returned: always, also if the connection was refused
  sample: ["the suppression of ver.eol has expired on 2027-06-30: The upgrade is planned for June, see OPS-217."]
suppressed:
  description: Findings that O(suppressions) or the system set aside, with these keys beside those of RV(findings).
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    reason: {description: Why nobody is to be told., type: str}
    until: {description: The last day on which that holds., type: str, sample: "2027-03-31"}
standing:
  description:
    - Findings that an earlier run of another tier has left open, and that this run could not judge, worst first; at most 100.
    - They do not count in RV(status), which is what this run saw. What the role P(pgops.runbook.report#role) writes counts them.
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    key: {description: "As RV(findings[].key).", type: str, sample: "seq.exhaustion[public.orders_id_seq]"}
    check: {description: The id of the check., type: str}
    title: {description: What the check is., type: str}
    object: {description: The object; empty for the whole database., type: str}
    severity: {description: "V(critical), V(warning) or V(unknown)", type: str}
    message: {description: What was found., type: str}
    first_seen: {description: When it was found first., type: str}
    seen: {description: When it was found last., type: str}
    action: {description: What to do., type: str}
resolved:
  description:
    - Findings of earlier runs that are gone.
    - Only what its check looked for, and could have seen, is gone. What another server showed stays open.
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    key: {description: "As RV(findings[].key).", type: str, sample: "login.stuck[tara.oauth_state]"}
    check: {description: The id of the check., type: str}
    title: {description: What the check is., type: str}
    object: {description: The object; empty for the whole database., type: str}
    severity: {description: The last that was known of it., type: str}
    message: {description: What was found last., type: str}
    first_seen: {description: Since when it was known., type: str}
history:
  description: The history that the run was compared with.
  type: dict
  returned: always, also if the connection was refused
  contains:
    kept_in: {description: "V(none), V(schema) or V(file)", type: str}
    place: {description: The schema or the file., type: str}
    previous: {description: When the run before was., type: str}
    snapshots: {description: How many runs are recorded., type: int}
    recorded: {description: Whether this one is. With a file pg_health_history says it., type: bool}
    note: {description: What is particular about it., type: str, sample: no history yet}
series:
  description:
    - The course of numbers such as C(size.database), each a list of pairs of seconds since the epoch and value, ascending.
    - A point an hour for two days, before that a point a day; at most 40 numbers.
  type: dict
  returned: always, also if the connection was refused
  sample: {"size.database": [[1795171650, 8123456], [1795258050, 8223456]]}
forecasts:
  description: What runs out when, the soonest first, if it goes on as in the last 30 days. It takes three days of history.
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    metric: {description: The number., type: str, sample: "seq.exhaustion[public.orders_id_seq]"}
    title: {description: What it is., type: str}
    unit: {description: Its unit., type: str}
    now: {description: Its value now., type: float}
    per_day: {description: Its change a day., type: float}
    limit: {description: Where it runs out; null where that is not known., type: float}
    days_left: {description: Days until then; null where it does not run out., type: float}
    points: {description: The days it is drawn from., type: int}
    since: {description: When the first of them was., type: str}
details:
  description:
    - Lists for a report of the checks that ran, each with at most 50 rows. A list is there only if its check could look.
    - A list may be empty. A key of a row is null where the server does not say, or not to this role.
  type: dict
  returned: always, also if the connection was refused
  contains:
    sessions:
      description: Sessions beyond a threshold of C(query.longest), C(transaction.longest) or C(conn.idle_in_transaction).
      type: list
      elements: dict
      contains:
        check: {description: The id of the check., type: str}
        pid: {description: The number of the process., type: int}
        user: {description: The role., type: str}
        database: {description: The database., type: str}
        application: {description: The C(application_name)., type: str}
        state: {description: Its state., type: str}
        lasted_seconds: {description: For how long., type: float}
    clients:
      description: Where sessions come from, the most first.
      type: list
      elements: dict
      contains:
        application: {description: The C(application_name)., type: str}
        user: {description: The role., type: str}
        database: {description: The database., type: str}
        address: {description: The address; V(local) for a socket., type: str}
        sessions: {description: How many., type: int}
    blocking:
      description: Sessions at the root of a tree of sessions that wait for locks.
      type: list
      elements: dict
      contains:
        root: {description: The session., type: str}
        waiters: {description: "How many wait for it, directly or not.", type: int}
        longest_seconds: {description: How long the longest of them has waited., type: float}
        locked: {description: What they wait for; at most five., type: str}
        ddl_queue: {description: "V(held) where it has a table to itself, V(queued) where one who waits wants that, or empty.", type: str}
        open_seconds: {description: How long the transaction of the root is open., type: float}
    horizon:
      description: What keeps VACUUM from removing rows, the furthest back first.
      type: list
      elements: dict
      contains:
        holder: {description: What it is., type: str}
        kind: {description: Its kind., type: str}
        transactions: {description: How many transactions it lies back., type: int}
        held_seconds: {description: For how long., type: float}
        catalogue_only: {description: Whether it holds rows of the catalogue alone., type: bool}
    slots:
      description: Replication slots.
      type: list
      elements: dict
      contains:
        name: {description: The name., type: str}
        kind: {description: V(physical) or V(logical)., type: str}
        database: {description: The database of a logical one., type: str}
        active: {description: Whether somebody reads from it., type: bool}
        retained_bytes: {description: The WAL that is kept for it., type: int}
        wal_status: {description: What the server says of that WAL; since PostgreSQL 13., type: str}
        inactive_since: {description: Since when nobody reads; since PostgreSQL 17., type: str}
        invalidation_reason: {description: Why it is lost; since PostgreSQL 17., type: str}
    standbys:
      description: Standbys that stream from this server.
      type: list
      elements: dict
      contains:
        name: {description: "The C(application_name), with the address where several share it.", type: str}
        address: {description: The address., type: str}
        state: {description: What it does., type: str}
        sync: {description: Whether a commit waits for it., type: str}
        slot: {description: Its slot., type: str}
        lag_bytes: {description: How far behind., type: int}
        lag_seconds: {description: How long behind., type: float}
    vacuums:
      description: The tables with the most rows.
      type: list
      elements: dict
      contains:
        table: {description: The table., type: str}
        rows: {description: "Its rows, estimated.", type: int}
        dead: {description: "Its dead rows, estimated.", type: int}
        vacuumed_at: {description: When it was vacuumed last., type: str}
        analyzed_at: {description: When it was analysed last., type: str}
    hot:
      description: The tables with the most updates.
      type: list
      elements: dict
      contains:
        table: {description: The table., type: str}
        updates: {description: How many., type: int}
        hot_pct: {description: The share that changed no index., type: float}
    bloat:
      description: The tables and indexes with the most room that they do not need.
      type: list
      elements: dict
      contains:
        object: {description: The table or index., type: str}
        kind: {description: V(table) or V(index)., type: str}
        bytes: {description: Its size., type: int}
        bloat_bytes: {description: What of it is not needed., type: int}
        bloat_pct: {description: The same in percent., type: float}
        is_estimate: {description: Whether that is an estimate., type: bool}
        reliable: {description: Whether nothing speaks against it., type: bool}
        why: {description: "How it is known, or what speaks against it.", type: str}
    correlation:
      description: Columns that lead an index while their rows lie in no order on disk.
      type: list
      elements: dict
      contains:
        table: {description: The table., type: str}
        column: {description: The column., type: str}
        index: {description: The index., type: str}
        correlation: {description: "How well the orders agree; 1 and -1 fully, 0 not at all.", type: float}
        bytes: {description: The size of the table., type: int}
    statements:
      description: The statements that took the most time, of C(pg_stat_statements).
      type: list
      elements: dict
      contains:
        queryid: {description: Its number., type: str}
        text: {description: Its text with constants masked., type: str}
        calls: {description: How often it ran., type: int}
        total_ms: {description: How long it took altogether., type: float}
        mean_ms: {description: How long it took on average., type: float}
        share_pct: {description: Its share of the time of all statements., type: float}
        rows: {description: The rows that it returned or changed., type: int}
        since: {description: Since when that is counted; the run before where there is one., type: str}
    slowest:
      description: The statements with the longest mean time, with the keys of RV(details.statements).
      type: list
      elements: dict
    backups:
      description: The backups in O(backup_folder), the newest first.
      type: list
      elements: dict
      contains:
        finished_at: {description: When it was done., type: str}
        kind: {description: What it is., type: str}
        bytes: {description: Its size., type: int}
        seconds: {description: How long it took., type: float}
        verified: {description: "How it was verified, such as V(checksum), V(decode) or V(restore); null where it was not.", type: str}
        verified_at: {description: When that was., type: str}
snapshot:
  description:
    - What is to be recorded of the run, for M(pgops.runbook.pg_health_history); null where no history is kept or it could not be read.
    - In a form in which Ansible finds nothing to star out, so that a password that stands in the name of a table does no harm.
  type: dict
  returned: always, also if the connection was refused
unknown:
  description: The ids of the checks that could not see.
  type: list
  elements: str
  returned: always, also if the connection was refused
tables:
  description: The tables of the system with their sizes; empty unless C(size.rows) ran.
  type: list
  elements: dict
  returned: always, also if the connection was refused
  contains:
    table: {description: The name., type: str, sample: custom.denylist}
    rows: {description: The rows of it and its partitions; null where they are not known., type: int}
    rows_is_estimate: {description: Whether that is an estimate., type: bool}
    bytes: {description: With indexes and TOAST; null where the table is locked., type: int}
server:
  description: What was looked at, and as whom; empty if the connection was refused.
  type: dict
  returned: always, also if the connection was refused
timing_ms:
  description: How long everything took, connecting included.
  type: float
  returned: always, also if the connection was refused
round_trips:
  description: How many statements were sent once the session was prepared.
  type: int
  returned: always, also if the connection was refused
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._arguments import (
    CACHE_ARGUMENTS,
    CONNECTION_ARGUMENTS,
    application_name,
    keep_readable,
)
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.sealed import sealed

SUPPRESSION_ARGUMENTS = {
    "finding": {"type": "str", "required": True},
    "reason": {"type": "str", "required": True},
    "until": {"type": "str", "required": True},
    "severity": {"type": "str", "choices": ["unknown", "warning", "critical"], "default": "warning"},
}
ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "system": {"type": "dict"},
    "tier": {"type": "str", "choices": ["", *_health.TIERS]},
    "checks": {"type": "list", "elements": "str", "default": []},
    "thresholds": {"type": "dict", "default": {}},
    "exact_counts": {"type": "bool", "default": False},
    "suppressions": {"type": "list", "elements": "dict", "default": [], "options": SUPPRESSION_ARGUMENTS},
    "expected_role": {"type": "str", "choices": ["", "primary", "standby"]},
    "expected_standbys": {"type": "list", "elements": "str", "default": []},
    "backup_folder": {"type": "path"},
    "cache_connection": {"type": "dict", "options": CACHE_ARGUMENTS},
    "max_runtime": {"type": "str", "default": _health.MAX_RUNTIME},
    "check_timeout": {"type": "str", "default": _health.CHECK_TIMEOUT},
    "history_schema": {"type": "str"},
    "history_keep": {"type": "str", "default": _health.HISTORY_KEEP},
    "history": {"type": "dict", "default": {}},
    "fail_on": {"type": "str", "choices": ["", *_health.FAIL_ON], "default": _health.FAIL_ON_DEFAULT},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    try:
        request = _health.Request.from_params(module.params)
        given, name = ConnectionOptions.from_params(module.params), application_name("pg_health")
        options, writing = _health.session_options(given, module.params["check_timeout"]), _health.writer_options(given)
        result = _health.run(
            lambda: connect(options, application_name=name, read_only=True),
            request,
            None if module.check_mode else lambda: connect(writing, application_name=name, read_only=False),
        )
    except RunbookError as error:
        module.fail_json(**error.as_result())
    if result["snapshot"] is not None:
        result["snapshot"] = sealed(result["snapshot"])
    if _health.fails(result["status"], module.params["fail_on"]):
        module.fail_json(msg=result["summary"], **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
