# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a whole description."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system import (
    caches,
    logins,
    protection,
    retention,
    revoking,
    suppressions,
    tables,
    tokens,
    upkeep,
    watching,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import DURATION, SCHEMA_NAME, TEXT, Setting, Text, Zone

# Every section is there in the normalised form, with nothing in it where a description says nothing.
SYSTEM = Group(
    "a system description",
    {
        "name": Field(Text("a name of letters, digits, _ and -", r"[A-Za-z][A-Za-z0-9_-]*"), "the name of the system", required=True),
        "title": Field(TEXT, "what it is, for a person"),
        "database": Field(protection.DATABASE, "the database that it lives in"),
        "schemas": Field(Listing(SCHEMA_NAME, named=ITSELF, least=1), "the schemas that belong to it", default=["public"]),
        "time_zone": Field(Zone(), "the zone of every `timestamp` and `date` column that does not say its own"),
        "clock_skew": Field(DURATION, "how far clocks may differ", default="5 min"),
        "token_stores": Field(Listing(tokens.TOKEN_STORE, named="name"), "what it issues, and how that is revoked", default=[]),
        "revocation": Field(revoking.REVOCATION, "what is kept of a revocation", default={}),
        "clients": Field(logins.CLIENTS, "the applications that tokens are issued to"),
        "registrations": Field(Listing(logins.REGISTRATION), "where users register", default=[]),
        "codes": Field(Listing(logins.CODE), "one-time codes that are exchanged for tokens", default=[]),
        "login_flows": Field(Listing(logins.LOGIN_FLOW), "logins that have begun and not ended", default=[]),
        "caches": Field(Listing(caches.CACHE), "caches in front of the tables", default=[]),
        "retention": Field(retention.RETENTION, "what goes when", default={}),
        "maintenance": Field(upkeep.MAINTENANCE, "what is vacuumed, rebuilt, partitioned and indexed", default={}),
        "reports": Field(Listing(upkeep.REPORT, named="name"), "when a report is due", default=[]),
        "thresholds": Field(watching.Thresholds(), "when a check warns and what to do then, by the id of the check", default={}),
        "suppressions": Field(
            suppressions.SUPPRESSIONS, "findings of which nobody is to be told, each with a reason and a last day", default=[]
        ),
        "targets": Field(watching.TARGETS, "what the service promises", default={}),
        "sessions": Field(watching.SESSIONS, "which sessions an emergency ends", default={}),
        "access_log": Field(watching.ACCESS_LOG, "the record of who read what"),
        "contacts": Field(Listing(watching.CONTACT, named="name"), "whom to call, and when", default=[]),
        "backup": Field(protection.BACKUPS, "backups by their name", default={}),
        "recovery": Field(protection.RECOVERIES, "recovery targets by environment; of production where it names none", default={}),
        "security": Field(protection.SECURITY, "roles, row-level security and who may connect", default={}),
        "migrations": Field(protection.MIGRATIONS, "how the schema is migrated"),
        "extensions": Field(Listing(TEXT, named=ITSELF), "extensions that must be installed", default=[]),
        "settings": Field(Named(Text("a parameter", r"[a-z_.]+"), Setting()), "server parameters as they should be", default={}),
        "pool": Field(protection.POOL, "the application's connection pool"),
        "notifications": Field(Listing(protection.NOTIFY, named="name"), "who is told when the schema changed", default=[]),
        "schema": Field(tables.SCHEMA, "the tables that must exist", default={}),
    },
)
