# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what is done on a schedule beside retention: maintenance, its windows, and reports."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import Field, Group, Listing
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import (
    BOOLEAN,
    COLUMN,
    DURATION,
    TABLE,
    TEXT,
    WEEKDAYS,
    Choice,
    Clock,
    Number,
    Table,
    choice,
    whole,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.retention import SCHEDULES
from ansible_collections.pgops.runbook.plugins.module_utils._system.tables import INDEX_FIELDS, check_index
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

VACUUM = Group(
    "a table to vacuum",
    {
        "table": Field(Table(every=True), "the table; * for every table of the schemas", required=True),
        "schedule": Field(choice(SCHEDULES), "when", default="weekly"),
        "analyze": Field(BOOLEAN, "whether statistics are gathered too", default=True),
    },
    short="table",
)

ANALYZE = Group(
    "a table to analyze",
    {
        "table": Field(Table(every=True), "the table; * for every table of the schemas", required=True),
        "schedule": Field(choice(SCHEDULES), "when", default="weekly"),
    },
    short="table",
)

REINDEX = Group(
    "a table to reindex",
    {
        "table": Field(Table(every=True), "the table; * for every table of the schemas", required=True),
        "schedule": Field(choice(SCHEDULES), "when", default="monthly"),
        "bloat_pct": Field(Number("a percentage from 0 to 100", 0, 100), "only indexes with at least so much bloat", default=30),
    },
    short="table",
)

REWRITE = Group(
    "a table to rewrite",
    {
        "table": Field(TABLE, "the table", required=True),
        "schedule": Field(choice(SCHEDULES), "when", default="monthly"),
        "bloat_pct": Field(Number("a percentage from 0 to 100", 0, 100), "only a table with at least so much bloat", default=30),
        "window": Field(TEXT, "the maintenance window in which the table may be locked for it; where it is left out, it never is"),
    },
    short="table",
)

PARTITIONS = Group(
    "a partitioned table",
    {
        "table": Field(TABLE, "the table", required=True),
        "column": Field(COLUMN, "the column that the partitions divide", required=True),
        "every": Field(Choice("day", "week", "month", "year"), "the length of one partition", required=True),
        "naming": Field(TEXT, "the name of a partition, with {table}, {year}, {month}, {week} and {day}"),
        "ahead": Field(whole("a number of partitions", 1), "how many exist ahead of now", default=3),
        "keep": Field(DURATION, "the age at which one is detached and dropped; never where it is left out"),
    },
)

INDEX = Group(
    "an index",
    {"table": Field(TABLE, "the table", required=True), **INDEX_FIELDS},
    check=check_index,
)

WINDOW = Group(
    "a maintenance window",
    {
        "name": Field(TEXT, "its name", required=True),
        "schedule": Field(Choice("daily", "weekly", "monthly"), "how often it opens", required=True),
        "weekday": Field(choice(WEEKDAYS), "the day; for a monthly window the first such day of the month"),
        "at": Field(Clock(), "when it opens", required=True),
        "lasts": Field(DURATION, "how long it stays open"),
        "time_zone": Field(TIME.fields["time_zone"].kind, "the zone of `at`"),
    },
)

MAINTENANCE = Group(
    "maintenance",
    {
        "vacuum": Field(Listing(VACUUM), "tables to vacuum", default=[]),
        "analyze": Field(Listing(ANALYZE), "tables to analyze beyond those", default=[]),
        "reindex": Field(Listing(REINDEX), "tables whose indexes are rebuilt", default=[]),
        "rewrite": Field(Listing(REWRITE), "tables that are rewritten to give space back", default=[]),
        "partitions": Field(Listing(PARTITIONS, named="table"), "tables partitioned by time", default=[]),
        "indexes": Field(Listing(INDEX, named="name"), "indexes to create where they are missing", default=[]),
        "windows": Field(Listing(WINDOW, named="name"), "when heavy work may lock tables", default=[]),
    },
)

REPORT = Group(
    "a report",
    {
        "name": Field(TEXT, "its name", required=True),
        "schedule": Field(Choice("hourly", "daily", "end_of_day", "weekly", "monthly"), "the run that it tells of", required=True),
        "at": Field(Clock(), "when"),
        "weekday": Field(choice(WEEKDAYS), "for a weekly or monthly one: the day"),
        "time_zone": Field(TIME.fields["time_zone"].kind, "the zone of `at`"),
        "slow_statements": Field(whole(), "how many of the slowest statements it lists", default=0),
    },
)
