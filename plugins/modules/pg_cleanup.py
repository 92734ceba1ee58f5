#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cleanup
short_description: Remove, archive or mark expired rows in bounded batches, without ever bringing a revoked token back
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Takes the rows whose time is older than an age out of as many tables as there are rules, in batches with a commit each. They are
    deleted, moved to an archive, marked as deleted, or dropped with the whole partitions that hold them.
  - Everything is looked up and counted first, in one read-only snapshot. A rule that cannot be carried out (a table or
    column that is missing, a column that is no time, a value that its column cannot hold, a privilege that is lacking) ends the run
    before the first change.
  - All cut-offs come from the server's clock, read once. Neither the zone of the session nor that of the role matters.
  - A row goes when its time lies before the cut-off. V(NULL) and V(infinity) never do.
  - A deny row whose token could still be accepted is never removed or marked, whatever the rules say and however the description
    was written; nor is the row of a revoked token before the token has expired. See the notes.
  - It works as fast as the server allows and no faster. Batches are sized by the time that they take, and the run pauses while
    replicas, the archive of the WAL or other sessions fall behind.
  - A run can be stopped at any moment, and the next one goes on from there. One more finds nothing to do and returns
    RV(ignore:changed=false).
options:
  rules:
    description:
      - What goes, one rule a table and time column, in the form of C(retention) in a system description.
      - Rules on deny tables are applied first. Rows that refer to others by a foreign key that would hold those (C(NO ACTION),
        C(RESTRICT)) or go along with them (C(CASCADE)) go before them, and what leaves a table before what is only marked in it. All
        else is done in the order in which it is written, and so are tables whose references go round in a circle.
      - A row that several rules cover is counted by the one that is applied first.
      - Rules hold no SQL, only tables, columns, operators and values.
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
      where:
        description:
          - Only rows that fulfil all of these conditions go.
        type: list
        elements: dict
        default: []
        suboptions:
          column:
            description:
              - The column that is compared.
            type: str
            required: true
          operator:
            description:
              - How it is compared, by the column's own type. V(NULL) fulfils V(is null) and nothing else, not even V(!=) or
                V(not in).
              - YAML needs quotes around V(=), V(!=), V(>) and V(>=).
            type: str
            choices: ['=', '!=', '<', '<=', '>', '>=', in, not in, is null, is not null]
            default: '='
          value:
            description:
              - What it is compared with, a text, a number, V(true) or V(false), and a list of those for V(in) and V(not in).
                V(is null) and V(is not null) take none.
              - A value that the column's type cannot hold is refused before the first change.
            type: raw
      keep_latest:
        description:
          - The newest rows of each key stay, however old they are.
          - All rows that fulfil O(rules[].where) compete, whatever their age; with O(rules[].action=soft_delete) those that are not
            marked, with O(rules[].action=purge) those that are.
          - Of rows with the same time either all are among the newest or none, so that the choice does not depend on the order of
            work. Where the last place is shared, all that share it stay.
          - A row with V(NULL) in a column of the key has no key and stays.
        type: dict
        suboptions:
          rows:
            description:
              - How many rows of each key stay, from 1 up.
            type: int
            required: true
          per:
            description:
              - The columns whose values are the key. There is at least one.
            type: list
            elements: str
            required: true
      action:
        description:
          - What happens to the rows.
          - V(delete) removes them.
          - V(archive) moves them to another table, O(rules[].archive), in one statement. At every moment each row is in one of the two.
            Where rows go along with others of their table by a foreign key with C(CASCADE), one statement takes all rows of the rule,
            and waits for those that others hold; it is refused where they lie in several partitions.
          - V(soft_delete) sets O(rules[].mark) in those that are not marked.
          - V(purge) removes those that are marked, counted from O(rules[].column).
          - V(drop_partitions) detaches and drops whole partitions all of whose rows lie before the cut-off by their bounds. The table is
            divided by ranges of O(rules[].column). What an earlier run detached and did not come to drop is dropped as well;
            where the rule keeps it for longer by now, it stays detached and RV(warnings) names it. A default
            partition, and one without an upper bound, stays. No trigger fires. O(rules[].where) and O(rules[].keep_latest) are refused
            with it.
        type: str
        choices: [delete, archive, soft_delete, purge, drop_partitions]
        default: delete
      archive:
        description:
          - Where the rows go with O(rules[].action=archive), which needs it. No other action takes it.
        type: dict
        suboptions:
          table:
            description:
              - The table. It has every column of the rule's table, by name and type. Further ones are nullable or have a default.
              - It is neither the rule's own table nor a partition, child or parent of it, nor the table of another rule of this run,
                which would remove what has just been moved there. Clean an archive up in a run of its own.
              - A table that a store in O(token_stores) names is refused, because the store would take the rows for its own.
            type: str
            required: true
          create:
            description:
              - Make the table where it does not exist, and add columns that it lacks. Only the columns are taken over, no constraint,
                no default, no index and no privilege. Only the role itself can read it then.
            type: bool
            default: false
      mark:
        description:
          - How a row says that it is deleted. O(rules[].action=soft_delete) needs it; O(rules[].action=purge) takes O(rules[].column)
            where it is left out. No other action has it.
          - V(soft_delete) refuses a column that a store in O(token_stores) reads, because writing to it could make a revoked token
            valid again, and O(rules[].column), from which the age counts. All rules of a run that mark rows of one table use
            one mark.
        type: dict
        suboptions:
          column:
            description:
              - The column. It holds the time of deletion, and V(NULL) in a row that is not deleted, so that one that is C(NOT NULL) is
                refused. With O(rules[].mark.value), it is a flag or a state.
            type: str
            required: true
          time_zone:
            description:
              - The zone of a C(timestamp) or C(date), as O(rules[].time_zone). Not beside O(rules[].mark.value).
            type: str
          unit:
            description:
              - The unit of an integer, V(s) or V(ms), as O(rules[].unit). Not beside O(rules[].mark.value).
            type: str
          value:
            description:
              - What the column holds in a deleted row, a text, a number, V(true) or V(false). A row with anything else or V(NULL) is not
                marked.
            type: raw
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
      - How many rows one batch takes at most, from 1 to 1000000. Where the pages of a table are read in order, it is as many pages as
        hold so many rows on average. Where rows are taken by their time, as many as have one and the same time are no exception.
      - Each batch is a transaction of its own.
      - Below 1000, every batch looks for its rows anew and reads the table again to find them. Only O(batch_time) should make them small.
    type: int
    default: 100000
  batch_time:
    description:
      - How long a batch is meant to take. The next one is at most twice as large as the last and at least half as large, so that locks are
        held and replicas are kept busy for about so long at a time.
      - It does not get smaller than 1000 rows or 16 pages, unless O(batch_rows) is or others hold what a batch needs.
      - Where no index finds the deny rows of a token, or its tokens, each batch reads that other table whole. Batches then have
        O(batch_rows) rows however long they take.
    type: str
    default: 200 ms
  max_rows:
    description:
      - Fail before the first change if the rules would remove or mark more rows than this in all. The result holds the counts.
      - It counts what would go, without the rows that are protected.
    type: int
  max_runtime:
    description:
      - Stop between two batches when the run has taken this long, such as V(30 min), counting and pauses included. The run does not
        fail, RV(stopped) is V(max_runtime), and the next run goes on from there.
      - Neither the counting nor a batch is broken off for it; a vacuum is. O(statement_timeout) bounds each of them.
    type: str
  window:
    description:
      - The hours in which the run may work, as C(maintenance.windows) in a system description has them. Outside them the run counts and
        changes nothing, and when they are over it stops between two batches. Where anything is left to do then, RV(stopped) is
        V(window). The run does not fail. Check mode does not look at them.
      - The server's clock and the server's zones decide, not those of the controller.
      - It does not start a run. A scheduler does, within the window.
    type: dict
    suboptions:
      name:
        description:
          - Its name, as a system description has it. It changes nothing.
        type: str
      at:
        description:
          - When it opens, such as V("22:00"). Quotes keep YAML from reading a number.
        type: raw
        required: true
      lasts:
        description:
          - How long it stays open, such as V(4 h), also past midnight and when clocks change. At most until it opens again.
        type: str
        required: true
      lasts_seconds:
        description:
          - The same in seconds, as a loaded system description has it. It is worked out from O(window.lasts) and must not differ from it.
        type: float
      time_zone:
        description:
          - The zone of O(window.at), such as V(Europe/Tallinn).
        type: str
        required: true
      schedule:
        description:
          - How often it opens.
        type: str
        choices: [daily, weekly, monthly]
        default: daily
      weekday:
        description:
          - The day on which a weekly window opens, V(monday) to V(sunday); for a monthly one, the first such day of the month. A daily one
            has none.
        type: str
  throttle:
    description:
      - The limits beyond which the run pauses between two batches until all is well again. A key that is left out has its default.
        V(null), V(false) and V(off) switch a limit off.
      - C(replica_lag) (V(30 s)), how late the slowest standby or subscriber is with the WAL.
      - C(oldest_transaction) (V(1 h)), the age of the oldest transaction of others in the database, prepared ones included. While it is
        open, what was removed cannot be given back.
      - C(archive_backlog) (V(64)), how many segments of the WAL wait for the archiver.
      - C(blocked_sessions) (V(5)), how many sessions of the database have waited for a lock for a second or longer, whoever holds it.
      - C(max_pause) (V(5 min)), the longest pause. After it the run stops without failing and RV(stopped) is V(throttled). Switched off,
        a pause has no end but O(max_runtime) and O(window).
      - What the role may not see is not waited for. RV(throttle.unknown) lists it with the privilege that would help.
    type: dict
  vacuum:
    description:
      - V(auto) vacuums and analyzes each table, or partition, in which 20 % of the rows and at least 10000 were removed or marked, once
        all rules are done. Where the role may not do that (it takes the owner, the database's owner, a superuser, or C(MAINTAIN) from
        PostgreSQL 17 on), or the run has to end before, autovacuum is left to do it. RV(rules[].vacuumed) says what was done, and
        RV(warnings) what was not.
      - V(always) does so with every table in which anything was removed or marked, for space that is needed now.
      - V(never) leaves all of it to autovacuum.
    type: str
    choices: [auto, always, never]
    default: auto
  vacuum_truncate:
    description:
      - Let that vacuum give empty pages at the end of a table back to the operating system. It takes a lock for it that stops readers
        as well, on standbys too.
    type: bool
    default: false
  allow_unindexed_references:
    description:
      - A foreign key that refers to the rows that go and has no index makes the server read the whole referring table for each of
        them. RV(warnings) names the constraint, the columns to index and how many rows are read.
      - Where that comes to more than 1000000000 rows read for one rule, the run fails before the first change, in check mode too,
        unless this allows it.
    type: bool
    default: false
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Counts by the very conditions that the run works by, in one read-only transaction, beside a run that is at work if need be. The
        numbers are those of a run at that instant.
      - What cannot be foreseen is what other sessions and triggers do, and how many bytes that gives back.
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
  - The row of a token that was revoked by a time or a flag in the row itself stays until the token has expired, by its own
    C(expires_at), C(expires_in) or C(lifetime), and O(clock_skew) has passed, because whoever does not find the row might accept the
    token. Without a known expiry it stays for good.
  - These rules hold for every action. A row that must not be removed is not archived or marked either, and a partition with such a
    row in it is not dropped. All its rows then count as protected.
  - The ids of a deny list and of its tokens may be of one type, two sorts of integers or texts, or C(uuid) and a text in any
    form that C(uuid) can be written in. Other pairs of types are refused, because they might silently match nothing.
  - How a table is gone through is chosen by what it costs. Up to 10000 rows are taken as they are found. From a larger table they are
    taken by an index on the time column, from one time to another, where nothing but the age decides and rows lie about in the order of
    their time (by C(pg_stats.correlation), so that the table must have been analyzed). What stays is not read then.
  - In other cases such an index is used, row by row, where at most 5 % of a table go. Otherwise its pages are read in order, range by
    range, on PostgreSQL 14 and newer, so that each is read once, whatever indexes there are. On 12 and 13, which have no such scan, the
    index is used for any share, and without one each batch looks for its rows.
  - After the last batch the table is looked at once more, for what others held or have written meanwhile. That is left out where it is
    certain that there is nothing, because no other session of the server has written anything since the first batch, and neither a
    trigger, a cascade nor an archive had to do with the rows.
  - The commits of batches do not wait for the disk or for synchronous standbys one by one, but together, once the last rule is done and
    before anything is reported. A server that crashes before that may bring the last batches back, each of them whole; the next run
    takes them again.
  - Foreign keys that refer to the table of a rule are followed before the first change, in check mode too, also through
    further tables by C(ON DELETE CASCADE). The run fails if they would remove deny rows of any store in O(token_stores), or
    set their id or expiry (C(SET NULL), C(SET DEFAULT)), whether or not there are such rows at the time; if they would do
    so to token rows that a deny row still needs; and if rows that would go are still referred to by a foreign key with
    C(NO ACTION) or C(RESTRICT), or those of a partition that would be dropped by any. Referring rows that a rule of the run removes
    before do not count; those that only a cascade of it would take along do.
  - Not counted are references from tables that the role may not read, and from those that a cascade empties as well.
    There the server may still refuse a batch. All ways by which cascades reach a table are followed, also those that go round.
  - Rows that go by a cascade are not in the numbers of the result. RV(rules[].references) lists the foreign keys.
  - A rule on a table with a rewrite rule for what it does (C(DELETE) or C(UPDATE)) is refused. Triggers fire;
    RV(rules[].triggers) lists them. They find what they name without a schema in C(pg_catalog), in the schemas of the rule's
    table and its archive, in those of the other rules and in C(public), in this order. The search path of the role does not matter.
  - One run at a time on a database. A second one fails at once and names the first. The lock goes with the session.
  - Rows that others hold locked are passed over, after a tenth of a second at most, and tried again after the rest of the table.
    Those that are still locked then are counted in RV(rules[].skipped_locked) and left to the next run. A batch that meets other locks,
    such as those on rows that a cascade reaches, ends as soon and comes again, half as large; when that has gone on for
    O(lock_timeout), the module fails. A partition that is locked is
    tried in short waits with pauses more than ten times as long, so that others queue behind them for less than a tenth of the time,
    for six times O(lock_timeout).
  - The role needs C(SELECT), C(UPDATE) (to lock rows) and C(DELETE) on each table and each of its partitions, and C(SELECT) on the tables
    of a token store that a rule is about. To mark rows, C(DELETE) is not needed. To archive them it needs C(INSERT) on the archive, to
    make the archive C(CREATE) on its schema. O(rules[].keep_latest) takes C(TEMPORARY) on the database. To drop partitions, it owns
    the table and the partitions, and otherwise only needs to read them.
  - C(application_name) shows the table, the percentage that is done, the rows a second and the time left, or what a pause waits for.
seealso:
  - module: pgops.runbook.pg_health
  - module: pgops.runbook.pg_system
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

- name: Move tokens of OAuth to where auditors find them, 30 days after they have expired, and remove the codes for good
  pgops.runbook.pg_cleanup:
    login_db: oauth
    rules:
      - table: public.tokens
        column: expires_at
        time_zone: UTC
        older_than: 30 days
        action: archive
        archive: {table: archive.tokens, create: true}
      - {table: public.authorization_codes, column: created_at, time_zone: UTC, older_than: 1 h}
    token_stores: "{{ system_description.token_stores }}"

- name: Mark notifications that were read as deleted, and remove a month later what is marked
  pgops.runbook.pg_cleanup:
    login_db: shop
    rules:
      - name: notifications to hide
        table: public.notifications
        column: created_at
        older_than: 90 days
        where:
          - {column: status, operator: in, value: [read, dismissed]}
          - {column: pinned, operator: "!=", value: true}
        action: soft_delete
        mark: {column: deleted_at}
      - name: notifications to remove
        table: public.notifications
        column: deleted_at
        older_than: 30 days
        action: purge

- name: Keep the last ten logins of each user, and those of the last year
  pgops.runbook.pg_cleanup:
    login_db: shop
    rules:
      - table: public.logins
        column: at
        older_than: 365 days
        keep_latest: {rows: 10, per: [user_id]}

- name: Drop the months of the audit trail that are more than two years old
  pgops.runbook.pg_cleanup:
    login_db: shop
    rules:
      - {table: public.audit_logs, column: created_at, older_than: 730 days, action: drop_partitions}

- name: Remove what has expired at night only, in small steps, and wait for the standby sooner than usual
  pgops.runbook.pg_cleanup:
    login_db: tim
    rules: "{{ system_description.retention.weekly }}"
    token_stores: "{{ system_description.token_stores }}"
    clock_skew: "{{ system_description.clock_skew }}"
    batch_time: 50 ms
    window: {at: "22:00", lasts: 6 h, time_zone: Europe/Tallinn}
    throttle:
      replica_lag: 5 s
      oldest_transaction: "off"

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
  description: How many rows the rules cover, over all rules, those that must stay because they are protected included.
  returned: when the rules were planned
  type: int
protected:
  description: How many of them must stay so that a revoked token stays revoked.
  returned: when the rules were planned
  type: int
removed:
  description:
    - How many rows left their tables, archived ones and those of dropped partitions included. In check mode, how many would.
    - If the module fails, how many had left by then. They stay away, unless it fails because the server crashed.
  returned: when the rules were planned
  type: int
archived:
  description: How many of the removed rows are now in an archive. In check mode, how many would be.
  returned: when the rules were planned
  type: int
marked:
  description:
    - How many rows were marked as deleted. In check mode, how many would be.
    - They are still in their tables and not among the removed ones.
  returned: when the rules were planned
  type: int
remaining:
  description: How many rows should have gone, or been marked, and were not.
  returned: when the rules were planned
  type: int
bytes_freed:
  description:
    - How many bytes the operating system has back, of dropped partitions and of tables that became shorter with their indexes and TOAST.
    - Space that stays with a table to be used again is not in it.
    - None where nothing was measured, as in check mode.
  returned: when the rules were planned
  type: int
throttle:
  description: For what the run waited, over all rules and before the vacuum.
  returned: when the rules were planned
  type: dict
  contains:
    paused_seconds:
      description: How long it waited in all.
      type: float
    reasons:
      description: The limits that were exceeded.
      type: list
      elements: dict
      contains:
        what:
          description: The key of O(throttle).
          type: str
          sample: replica_lag
        measured:
          description: The worst that was measured, in seconds or as a count.
          type: float
        limit:
          description: The limit.
          type: float
        unit:
          description: What both are counted in.
          type: str
          sample: s
        who:
          description: Whose fault the worst was. None where that cannot be seen.
          type: str
          sample: standby_1 (process 4711)
        pauses:
          description: In how many pauses it was exceeded.
          type: int
        seconds:
          description: How long they lasted in all.
          type: float
    unknown:
      description: What could not be seen, so that the run did not wait for it.
      type: list
      elements: dict
      contains:
        what:
          description: The key of O(throttle).
          type: str
          sample: oldest_transaction
        reason:
          description: Why it could not be seen.
          type: str
        hint:
          description: What would help, such as a GRANT. None where nothing is known to.
          type: str
warnings:
  description:
    - What a person should know although the run did what it was asked to. A foreign key without an index, a trigger on an archive, a
      partition that was left and why, a window that is closed and when it opens, a vacuum that could not be done or had to keep dead
      rows.
    - Ansible shows them as warnings of the task, and takes them out of what is registered.
  returned: when there is something
  type: list
  elements: str
notices:
  description: The same as RV(warnings), for a playbook to read.
  returned: always
  type: list
  elements: str
stopped:
  description:
    - Why the run ended, the worst over all rules.
    - V(done), nothing is left to do; V(locked), others held rows or partitions; V(vetoed), a trigger kept rows, or a partition could not
      be dropped any more because of what others wrote meanwhile; V(max_runtime), the time was over; V(window), O(window) was closed;
      V(throttled), a pause was longer than C(max_pause) of O(throttle); V(check_mode); V(max_rows), more rows than allowed, and the
      module fails; V(error), it fails for another reason.
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
    action:
      description: What it does with the rows.
      type: str
      sample: delete
    cutoff:
      description: Rows whose time lies before this instant have matched, in ISO 8601, UTC. For deny rows the clock skew is in it.
      type: str
      sample: "2026-03-01T01:55:00.000013+00:00"
    matched:
      description:
        - How many rows it covers. Those that O(rules[].where) or O(rules[].keep_latest) leaves out are not counted.
        - With O(rules[].action=drop_partitions), the rows of the partitions that are past.
      type: int
    protected:
      description: How many of them must stay.
      type: int
    removed:
      description: How many left the table; in check mode, would leave it.
      type: int
    archived:
      description: How many of those are now in the archive.
      type: int
    marked:
      description: How many were marked as deleted and are still in the table.
      type: int
    remaining:
      description: How many should have gone, or been marked, and were not.
      type: int
    rows_left:
      description:
        - How many rows the table has after all rules, counted exactly. In check mode, how many it would have.
        - None with O(rules[].action=drop_partitions), for which only what is past is counted, and if the module fails with V(error).
        - None too where it would take reading a large table that need not be read, one of more than 1 GB, or of more than 64 MB whose
          rows lie in the order of the time by which they go and have an index on it. All other numbers are exact there as well.
      type: int
    batches:
      description: How many transactions removed or marked rows, or dropped a partition.
      type: int
    skipped_locked:
      description: How many of the remaining rows were locked by others.
      type: int
    partitions:
      description: The partitions that were dropped; in check mode, would be.
      type: list
      elements: str
      sample: [public.audit_logs_2024_01]
    bytes_freed:
      description:
        - How many bytes the operating system has back from this table. None where that was not measured.
        - Of several rules on a table, the one that took rows first has it, for all of them.
      type: int
    seconds:
      description: How long its rows took, pauses included, the counting before the first change and the vacuum left out.
      type: float
    rows_per_second:
      description: How many rows were removed or marked a second, pauses and the vacuum left out. None where there were none.
      type: int
    paused_seconds:
      description: How much of RV(rules[].seconds) it waited for others.
      type: float
    vacuumed:
      description:
        - What became of the vacuum of each table and partition that had lost enough for one.
        - Of several rules on a table, the one that took rows first has it, for all of them.
      type: list
      elements: dict
      contains:
        table:
          description: The table or partition.
          type: str
        done:
          description: Whether it was vacuumed. None where the server's counters do not tell.
          type: bool
        analyzed:
          description: Whether it was analyzed.
          type: bool
        why:
          description: What kept either from being done. None where both were.
          type: str
        seconds:
          description: How long both took.
          type: float
        dead_rows:
          description: How many dead rows had to stay. None where it was not vacuumed.
          type: int
        held_by:
          description: What they had to stay for, the oldest first.
          type: list
          elements: dict
          contains:
            kind:
              description: Whether it is a C(session), a C(standby), a C(slot), a C(prepared) transaction or a C(setting).
              type: str
            name:
              description: The session's C(application_name), or the name of the slot, the transaction or the setting.
              type: str
            pid:
              description: The process. None where there is none.
              type: int
            role:
              description: Whose it is. None for a slot and a setting.
              type: str
            since:
              description: When its transaction began, in ISO 8601, UTC. None where it has none or the role may not see it.
              type: str
            transactions:
              description: How many transactions began after what it may still want to see.
              type: int
    stopped:
      description: Why the rule ended, in the words of RV(stopped).
      type: str
      sample: done
    references:
      description: The foreign keys that refer to the table. With O(rules[].action=soft_delete) there are none, because no row goes.
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
          description: Whether an index finds the rows that refer to one that goes. Without it, the server reads that whole table each time.
          type: bool
    triggers:
      description: The names of the enabled triggers that fire when rows of the table go, or are marked.
      type: list
      elements: str
error:
  description: What the failure is, in parts. C(msg) says it in words.
  returned: failure
  type: dict
  contains:
    type:
      description:
        - The type. C(DescriptionError), an option is wrong; C(MissingObject), a table or column is not there; C(InvalidValue), something
          does not fit the database; C(Busy), another run is at work; C(Refused), more rows would go than O(max_rows);
          C(Interrupted), it went wrong after the rules were planned; C(ConnectError) and C(DriverMissing), it did not come to a session;
          C(DatabaseError), the server refused anything else.
      type: str
      sample: Interrupted
    object:
      description: The option, table or other object that it is about. None where there is none.
      type: str
      sample: public.tokens
    sqlstate:
      description: The server's error code. None where the server did not refuse anything.
      type: str
      sample: "23503"
    hint:
      description: What would help. None where nothing is known to.
      type: str
errors:
  description: Every fault of wrong options, each with the path of its key, what is wrong and what is allowed.
  returned: when options are wrong
  type: list
  elements: str
  sample: ["rules[0].older_than: '-1 h' is not a duration (and what one looks like)"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import CONNECTION_ARGUMENTS, application_name, keep_readable, noticed
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import OPERATION, clean_up, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import VACUUM
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._progress import publisher
from ansible_collections.pgops.runbook.plugins.module_utils._system.retention import ACTIONS, OPERATORS

CONDITION_ARGUMENTS = {
    "column": {"type": "str", "required": True},
    "operator": {"type": "str", "choices": list(OPERATORS), "default": "="},
    "value": {"type": "raw"},
}
# A loaded description says of every key that it has none, which is no choice; the engine checks what is said.
MARK_ARGUMENTS = {
    "column": {"type": "str", "required": True},
    "time_zone": {"type": "str"},
    "unit": {"type": "str"},
    "value": {"type": "raw"},
}
RULE_ARGUMENTS = {
    "name": {"type": "str"},
    "table": {"type": "str", "required": True},
    "column": {"type": "raw", "required": True},
    "time_zone": {"type": "str"},
    "unit": {"type": "str", "choices": ["s", "ms"]},
    "older_than": {"type": "str", "required": True},
    "older_than_seconds": {"type": "float"},
    "where": {"type": "list", "elements": "dict", "default": [], "options": CONDITION_ARGUMENTS},
    "keep_latest": {
        "type": "dict",
        "options": {"rows": {"type": "int", "required": True}, "per": {"type": "list", "elements": "str", "required": True}},
    },
    "action": {"type": "str", "choices": list(ACTIONS), "default": "delete"},
    "archive": {
        "type": "dict",
        "options": {"table": {"type": "str", "required": True}, "create": {"type": "bool", "default": False}},
    },
    "mark": {"type": "dict", "options": MARK_ARGUMENTS},
    "protects": {"type": "str"},
}
WINDOW_ARGUMENTS = {
    "name": {"type": "str"},
    "at": {"type": "raw", "required": True},
    "lasts": {"type": "str", "required": True},
    "lasts_seconds": {"type": "float"},
    "time_zone": {"type": "str", "required": True},
    "schedule": {"type": "str", "choices": ["daily", "weekly", "monthly"], "default": "daily"},
    "weekday": {"type": "str"},
}
ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "rules": {"type": "list", "elements": "dict", "required": True, "options": RULE_ARGUMENTS},
    # The ids of tokens are in none of these, only the names of tables and columns.
    "token_stores": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "clock_skew": {"type": "str", "default": "5 min"},
    "batch_rows": {"type": "int", "default": 100000},
    "batch_time": {"type": "str", "default": "200 ms"},
    "max_rows": {"type": "int"},
    "max_runtime": {"type": "str"},
    "window": {"type": "dict", "options": WINDOW_ARGUMENTS},
    # Without options of its own: Ansible would take a null, which switches a limit off, for one that is not given.
    "throttle": {"type": "dict"},
    "vacuum": {"type": "str", "choices": list(VACUUM), "default": "auto"},
    "vacuum_truncate": {"type": "bool", "default": False},
    "allow_unindexed_references": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    name = application_name(OPERATION)
    try:
        options = read_options(module.params, name)
        login = ConnectionOptions.from_params(module.params)
        with connect(login, application_name=name, read_only=module.check_mode) as database, publisher(OPERATION) as watch:
            result = clean_up(database, options, check_mode=module.check_mode, watch=watch)
    except RunbookError as error:
        module.fail_json(**noticed(error.as_result()))
    module.exit_json(**noticed(result))


if __name__ == "__main__":
    main()
