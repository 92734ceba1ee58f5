# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a whole description."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system import protection, tables, tokens, upkeep, watching
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import DURATION, TEXT, Setting, Text, Zone

# Every section is there in the normalised form, with nothing in it where a description says nothing.
SYSTEM = Group(
    "a system description",
    {
        "name": Field(Text("a name of letters, digits, _ and -", r"[A-Za-z][A-Za-z0-9_-]*"), "the name of the system", required=True),
        "title": Field(TEXT, "what it is, for a person"),
        "database": Field(protection.DATABASE, "the database that it lives in"),
        "schemas": Field(Listing(Text("a schema name"), "a schema name", named="", least=1), "the schemas that belong to it", default=["public"]),
        "time_zone": Field(Zone(), "the zone of every `timestamp` and `date` column that does not say its own"),
        "clock_skew": Field(DURATION, "how far clocks may differ", default="5 min"),
        "token_stores": Field(Listing(tokens.TOKEN_STORE, "a token store", named="name"), "what it issues, and how that is revoked", default=[]),
        "login_flows": Field(Listing(tokens.LOGIN_FLOW, "a login flow"), "logins that have begun and not ended", default=[]),
        "caches": Field(Listing(tokens.CACHE, "a cache"), "caches in front of the tables", default=[]),
        "retention": Field(upkeep.RETENTION, "what goes when", default={}),
        "maintenance": Field(upkeep.MAINTENANCE, "what is vacuumed, rebuilt, partitioned and indexed", default={}),
        "reports": Field(Listing(upkeep.REPORT, "a report", named="name"), "when a report is due", default=[]),
        "thresholds": Field(watching.Thresholds(), "when a check warns and what to do then, by the id of the check", default={}),
        "targets": Field(watching.TARGETS, "what the service promises", default={}),
        "sessions": Field(watching.SESSIONS, "which sessions an emergency ends", default={}),
        "access_log": Field(watching.ACCESS_LOG, "the record of who read what"),
        "contacts": Field(Listing(watching.CONTACT, "a contact", named="name"), "whom to call, and when", default=[]),
        "backup": Field(protection.BACKUPS, "backups by their name", default={}),
        "recovery": Field(protection.RECOVERIES, "recovery targets by environment; rto and rpo without one are those of production", default={}),
        "security": Field(protection.SECURITY, "roles, row-level security and who may connect", default={}),
        "migrations": Field(protection.MIGRATIONS, "how the schema is migrated"),
        "extensions": Field(Listing(TEXT, "an extension", named=""), "extensions that must be installed", default=[]),
        "settings": Field(Named(Text("a parameter", r"[a-z_.]+"), Setting(), "a mapping of server parameters"), "server parameters as they should be", default={}),
        "pool": Field(protection.POOL, "the application's connection pool"),
        "notifications": Field(Listing(protection.NOTIFY, "a notification", named="name"), "who is told when the schema changed", default=[]),
        "schema": Field(tables.SCHEMA, "the tables that must exist", default={}),
    },
)
