# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what stands around the tokens: clients, registrations, one-time codes and logins that have begun."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import COLUMN, DURATION, TABLE
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

CLIENTS = Group(
    "a table of clients",
    {
        "table": Field(TABLE, "the table", required=True),
        "id": Field(COLUMN, "the column that identifies a client", required=True),
        "name": Field(COLUMN, "its name, for a person"),
        "created_at": Field(TIME, "when it was registered"),
        "secrets": Field(Listing(COLUMN, named=ITSELF), "columns whose content never leaves the database", default=[]),
    },
)

REGISTRATION = Group(
    "a table of registrations",
    {
        "table": Field(TABLE, "the table with a row for every user who registered", required=True),
        "created_at": Field(TIME, "when that was", required=True),
        "provider": Field(COLUMN, "the identity provider that the user came from"),
    },
)

CODE = Group(
    "a table of codes",
    {
        "table": Field(TABLE, "the table of codes that are exchanged for tokens", required=True),
        "id": Field(COLUMN, "the column with the code itself, which never leaves the database", required=True),
        "created_at": Field(TIME, "when it was given out"),
        "expires_at": Field(TIME, "when it expires"),
        "used_at": Field(TIME, "when it was exchanged; NULL in a row that is still open"),
        "subject": Field(COLUMN, "the user that it is for"),
        "client": Field(COLUMN, "the client that it was given to"),
    },
)

LOGIN_FLOW = Group(
    "a login flow",
    {
        "table": Field(TABLE, "the table of logins that have begun and not ended", required=True),
        "id": Field(COLUMN, "the column that identifies one", required=True),
        "created_at": Field(TIME, "when it began", required=True),
        "timeout": Field(DURATION, "how long one may take", required=True),
    },
)
