# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what protects the data: backups, recovery targets, access and migrations."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import (
    BOOLEAN,
    COLUMN,
    DURATION,
    ROLE,
    SCHEMA_NAME,
    TABLE,
    TEXT,
    WEEKDAYS,
    Choice,
    Clock,
    Table,
    Text,
    choice,
    whole,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

BACKUP_KINDS = ("full", "schemas", "tables", "data_only", "schema_only", "physical", "incremental", "wal", "snapshot")
ENVIRONMENTS = ("development", "staging", "production")
PRIVILEGES = ("select", "insert", "update", "delete", "truncate", "references", "trigger", "usage", "connect", "create", "execute", "all")


def _check_backup(policy: dict[str, Any], path: str, faults: Faults) -> None:
    for kind in ("schemas", "tables"):
        if policy["kind"] == kind and policy[kind] == []:
            faults.add(join(path, kind), f"is missing: a backup of kind {kind} names them")
    if policy["format"] == "tar" and policy["kind"] not in ("physical", "incremental"):
        faults.add(join(path, "format"), "'tar' is for a physical backup: a dump is custom, directory or plain")
    if policy["schedule"] == "continuous" and policy["kind"] not in ("wal", None):
        faults.add(join(path, "schedule"), "'continuous' is for kind wal: write hourly, and every where an hour is not often enough")
    generations = policy["generations"]
    if generations is not None and not any(generations.values()):
        faults.add(join(path, "generations"), "keeps nothing: say how many, such as weekly: 4")


GENERATIONS = Group(
    "how many stay",
    {
        "count": Field(whole("a number of backups"), "of the newest, so many"),
        "daily": Field(whole("a number of days"), "of so many days, the last one"),
        "weekly": Field(whole("a number of weeks"), "of so many weeks, the last one"),
        "monthly": Field(whole("a number of months"), "of so many months, the last one"),
        "yearly": Field(whole("a number of years"), "of so many years, the last one"),
    },
)

BACKUP = Group(
    "a backup",
    {
        "kind": Field(Choice(*BACKUP_KINDS), "what it holds; the backup's name where that is a kind", required=True),
        "format": Field(Choice("custom", "plain", "directory", "tar"), "the format of a dump"),
        "compress": Field(BOOLEAN, "whether it is compressed", default=True),
        "schemas": Field(Listing(SCHEMA_NAME, named=ITSELF), "for kind schemas: which", default=[]),
        "tables": Field(Listing(TABLE, named=ITSELF), "for kind tables: which", default=[]),
        "schedule": Field(Choice("hourly", "daily", "weekly", "monthly", "continuous", "on_demand"), "when it is taken", default="daily"),
        "weekday": Field(choice(WEEKDAYS), "the day of a weekly one"),
        "at": Field(Clock(), "the time of day"),
        "every": Field(DURATION, "the time between two, where it is shorter than a day"),
        "keep": Field(DURATION, "how long one is kept; without it and generations for good; the last verified one always is"),
        "generations": Field(GENERATIONS, "which stay beside those that are younger than keep: grandfather, father and son"),
        "location": Field(Choice("local", "external"), "external: away from the database server", default="local"),
        "verify": Field(BOOLEAN, "whether each is read back after it was taken", default=True),
    },
    check=_check_backup,
)

RECOVERY = Group(
    "recovery targets",
    {
        "rto": Field(DURATION, "how long a recovery may take", required=True),
        "rpo": Field(DURATION, "how much time's worth of data may be lost", required=True),
        "drill": Field(Choice("weekly", "monthly"), "how often recovery is rehearsed"),
    },
)

POLICY = Group(
    "a policy",
    {
        "name": Field(TEXT, "its name", required=True),
        "command": Field(Choice("all", "select", "insert", "update", "delete"), "which statements it is for", default="all"),
        "roles": Field(Listing(ROLE, named=ITSELF), "whom it is for; everyone where it is empty", default=[]),
        "using": Field(TEXT, "the rows that may be seen, as SQL writes it"),
        "with_check": Field(TEXT, "the rows that may be written, as SQL writes it"),
    },
)

RLS = Group(
    "a table under row-level security",
    {
        "table": Field(TABLE, "the table", required=True),
        "force": Field(BOOLEAN, "whether its owner is bound too", default=False),
        "policies": Field(Listing(POLICY, named="name"), "its policies", default=[]),
    },
    short="table",
)

GRANT = Group(
    "a grant",
    {
        "to": Field(Choice("database", "schemas", "tables", "sequences", "functions"), "what it is on", required=True),
        "privileges": Field(Listing(Choice(*PRIVILEGES), named=ITSELF, least=1), "which", required=True),
        "objects": Field(Listing(TEXT, named=ITSELF), "names; all of that kind in the schemas where it is empty", default=[]),
    },
)

APPLICATION_ROLE = Group(
    "an application role",
    {
        "name": Field(ROLE, "its name", required=True),
        "login": Field(BOOLEAN, "whether it may log in", default=True),
        "environment": Field(Choice(*ENVIRONMENTS), "the only environment that has it"),
        "grants": Field(Listing(GRANT), "what it may do", default=[]),
    },
)

HBA = Group(
    "a line of pg_hba.conf",
    {
        "type": Field(Choice("local", "host", "hostssl", "hostnossl"), "the kind of connection", required=True),
        "database": Field(TEXT, "the database", default="all"),
        "user": Field(TEXT, "the user", default="all"),
        "address": Field(TEXT, "the network; none for local"),
        "method": Field(Choice("peer", "scram-sha-256", "cert", "reject"), "how the user proves who it is", required=True),
    },
)

AUDIT = Group(
    "an audit trail",
    {
        "table": Field(TABLE, "the table that changes are written to", required=True),
        "at": Field(TIME, "when a change was made"),
        "tables": Field(Listing(TABLE, named=ITSELF), "the tables whose changes are recorded", default=[]),
    },
)

MARKED = Group(
    "columns of a table",
    {
        "table": Field(TABLE, "the table", required=True),
        "columns": Field(Listing(COLUMN, named=ITSELF, least=1), "the columns", required=True),
    },
)

SECURITY = Group(
    "security",
    {
        "rls": Field(Listing(RLS, named="table"), "tables under row-level security", default=[]),
        "rls_required": Field(Listing(SCHEMA_NAME, named=ITSELF), "schemas of which every table must be under it", default=[]),
        "application_roles": Field(Listing(APPLICATION_ROLE, named="name"), "roles of the application", default=[]),
        "write_roles": Field(Listing(ROLE, named=ITSELF), "roles whose writing stops in a lockdown", default=[]),
        "hba": Field(Listing(HBA), "lines of pg_hba.conf, in order", default=[]),
        "tls_required": Field(BOOLEAN, "whether production connections must be encrypted", default=False),
        "audit": Field(AUDIT, "the audit trail"),
        "touched": Field(Listing(TABLE, named=ITSELF), "tables whose updated_at a trigger keeps", default=[]),
        "encrypted": Field(Listing(MARKED), "columns whose content the application encrypts", default=[]),
        "secrets": Field(Listing(MARKED), "columns whose content never leaves the database", default=[]),
    },
)

VERSION = Group(
    "a migration",
    {
        "version": Field(Text("a version"), "its version", required=True),
        "title": Field(TEXT, "what it does"),
    },
    short="version",
)

MIGRATIONS = Group(
    "migrations",
    {
        "tool": Field(Choice("flyway", "golang-migrate", "supabase"), "what applies them", required=True),
        "table": Field(Table(foreign=True), "its table of applied versions, in whichever schema", required=True),
        "folder": Field(TEXT, "where the files are in the application's repository"),
        "versions": Field(Listing(VERSION, named="version"), "the versions that must be applied", default=[]),
    },
)

POOL = Group(
    "a connection pool",
    {
        "most": Field(whole("a number of connections", 1), "the most connections that the application opens"),
        "least": Field(whole("a number of connections"), "the fewest that it keeps open"),
        "most_idle": Field(whole("a number of connections"), "the most that it keeps idle"),
        "lifetime": Field(DURATION, "the age at which it replaces one"),
        "idle_time": Field(DURATION, "the idle time after which it closes one"),
        "acquire_timeout": Field(DURATION, "how long it waits for a free one"),
        "connect_timeout": Field(DURATION, "how long it waits for a new one"),
        "query_timeout": Field(DURATION, "how long it waits for a query"),
        "retries": Field(whole("a number of attempts"), "how often it tries again"),
        "retry_delay": Field(DURATION, "how long it waits before that"),
    },
)

ENVIRONMENT_DATABASE = Group(
    "a database of one environment",
    {
        "name": Field(TEXT, "its name there; the same as everywhere where it is left out"),
        "user": Field(ROLE, "the role that the application connects as there"),
    },
    short="name",
)

DATABASE = Group(
    "a database",
    {
        "name": Field(TEXT, "its name", required=True),
        "user": Field(ROLE, "the role that the application connects as"),
        "port": Field(whole("a port", 1), "the port", default=5432),
        "least_version": Field(whole("a major version", 1), "the oldest PostgreSQL that will do"),
        "environments": Field(Named(Choice(*ENVIRONMENTS), ENVIRONMENT_DATABASE), "what differs by environment", default={}),
    },
    short="name",
)

NOTIFY = Group(
    "a notification",
    {
        "name": Field(TEXT, "who listens", required=True),
        "channel": Field(TEXT, "the channel", required=True),
        "payload": Field(TEXT, "the payload"),
    },
)


class Backups(Named):
    """Backups by their name; one whose name is a kind is of that kind."""

    def __init__(self) -> None:
        super().__init__(Text("a name"), BACKUP)

    def value_kind(self, name: str | None) -> Group:
        if name not in BACKUP_KINDS:
            return BACKUP
        kind = BACKUP.fields["kind"]
        return Group(BACKUP.noun, {**BACKUP.fields, "kind": Field(kind.kind, kind.doc, default=name)}, check=BACKUP.check)


class Recoveries(Named):
    """Recovery targets by environment; written without one they are those of production."""

    def __init__(self) -> None:
        super().__init__(Choice(*ENVIRONMENTS), RECOVERY)

    def read(self, value: Any, path: str, faults: Faults) -> dict[str, Any] | None:
        if isinstance(value, dict) and any(key in RECOVERY.fields for key in value):
            return {"production": RECOVERY.read(value, path, faults)}
        return super().read(value, path, faults)


BACKUPS = Backups()
RECOVERIES = Recoveries()
