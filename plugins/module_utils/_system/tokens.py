# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what is issued: token stores, pending logins and the caches in front of them."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Choices, Field, Group, Listing
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import (
    BOOLEAN,
    COLUMN,
    DURATION,
    SIZE,
    TABLE,
    TEXT,
    Choice,
    Text,
    Zone,
    whole,
)

TIME = Group(
    "a time column",
    {
        "column": Field(COLUMN, "the column", required=True),
        "time_zone": Field(Zone(), "the zone of a `timestamp` or `date` column; the system's time_zone where it is left out"),
        "unit": Field(Choice("s", "ms"), "for an integer column: seconds or milliseconds since 1970"),
    },
    short="column",
)

CLAIMS = Group(
    "a column of claim names",
    {
        "column": Field(COLUMN, "the column", required=True),
        "separator": Field(Text("a separator", r"(?s).+"), "what stands between two names", default=","),
    },
    short="column",
)

TENANT_THROUGH = Group(
    "a way to the tenant",
    {
        "column": Field(COLUMN, "the token column that leads to the other table", required=True, outer=True),
        "table": Field(TABLE, "the table that knows the tenant", required=True),
        "id": Field(COLUMN, "the column of that table that `column` refers to", required=True),
        "tenant": Field(COLUMN, "the column of that table that holds the tenant", required=True),
    },
)

TOKENS = Group(
    "a table of tokens",
    {
        "table": Field(TABLE, "the table", required=True),
        "id": Field(COLUMN, "the column that identifies a token", required=True),
        "issued_at": Field(TIME, "when a token was issued"),
        "expires_at": Field(TIME, "when it expires; NULL in a row means never"),
        "claims": Field(CLAIMS, "the column that lists the names of a token's claims"),
        "subject": Field(COLUMN, "the user that a token is for"),
        "client": Field(COLUMN, "the client that it was issued to"),
        "tenant": Field(COLUMN, "the tenant that it belongs to"),
        "tenant_through": Field(TENANT_THROUGH, "how to find the tenant in another table"),
        "type": Field(COLUMN, "the type of token"),
        "scope": Field(COLUMN, "the scope that was granted"),
        "address": Field(COLUMN, "the address that it was issued to"),
        "family": Field(COLUMN, "the first token of the chain that it was renewed from"),
        "secrets": Field(Listing(COLUMN, named=ITSELF), "columns whose content never leaves the database", default=[]),
    },
)

REVOKE = Choices(
    "a way to revoke",
    "how",
    {
        "denylist": Group(
            "a deny list",
            {
                "how": Field(Choice("denylist"), "a row in a table of denied ids", required=True),
                "table": Field(TABLE, "the table of denied ids", required=True),
                "id": Field(COLUMN, "its column with the token's id", required=True),
                "revoked_at": Field(TIME, "when the token was revoked"),
                "expires_at": Field(TIME, "when the denied token expires; without it, the token's own row says so"),
            },
        ),
        "timestamp": Group(
            "a revocation time",
            {
                "how": Field(Choice("timestamp"), "a time in the token's own row", required=True),
                "column": Field(TIME, "the time of revocation; NULL in a row that is not revoked", required=True),
            },
        ),
        "flag": Group(
            "a revocation flag",
            {
                "how": Field(Choice("flag"), "a boolean in the token's own row", required=True),
                "column": Field(COLUMN, "the boolean column", required=True),
                "revoked_when": Field(BOOLEAN, "its value in a revoked row", default=True),
            },
        ),
        "delete": Group("a removal", {"how": Field(Choice("delete"), "the token's row is deleted", required=True)}),
    },
    "how a token is revoked",
)

ALLOWLIST = Group(
    "an allow list",
    {
        "table": Field(TABLE, "the table of allowed ids", required=True),
        "id": Field(COLUMN, "its column with the token's id", required=True),
        "expires_at": Field(TIME, "when the entry expires"),
    },
)

DEPENDENT = Group(
    "a dependent table",
    {
        "table": Field(TABLE, "the table whose rows go with a revoked token", required=True),
        "column": Field(COLUMN, "its column that matches", required=True),
        "references": Field(COLUMN, "the token column that it matches", required=True, outer=True),
        "on_revoke": Field(Choice("delete", "timestamp"), "what happens to the row", required=True),
        "mark": Field(TIME, "for `timestamp`: the column that is set where it is NULL"),
        "when": Field(
            Listing(Choice("id", "subject", "client", "tenant", "all"), named=ITSELF),
            "only when tokens were revoked by one of these; always where it is empty",
            default=[],
        ),
    },
)

TOKEN_STORE = Group(
    "a token store",
    {
        "name": Field(TEXT, "the operators' name for it", required=True),
        "tokens": Field(TOKENS, "the table of tokens", required=True),
        "revoke": Field(REVOKE, "how a token is revoked", required=True),
        "allowlist": Field(ALLOWLIST, "ids that are allowed explicitly"),
        "dependents": Field(Listing(DEPENDENT), "rows elsewhere that go with a revoked token", default=[]),
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

SAVE_POINT = Group(
    "a save point",
    {
        "after": Field(DURATION, "save after this time", required=True),
        "changes": Field(whole("a number of changes", 1), "when at least so many keys changed", required=True),
    },
)

CACHE = Group(
    "a cache",
    {
        "engine": Field(Choice("redis"), "what serves it", required=True),
        "least_version": Field(whole("a major version", 1), "the oldest major version that will do"),
        "host": Field(TEXT, "where it listens"),
        "port": Field(whole("a port", 1), "the port", default=6379),
        "database": Field(whole(), "the number of its database", default=0),
        "keys": Field(
            Listing(TEXT, named=ITSELF),
            "the keys of a revoked token, with {id}, {user_id} and {tenant_id} for the token's own",
            default=[],
        ),
        "other_keys": Field(Listing(TEXT, named=ITSELF), "further keys that it holds", default=[]),
        "password_required": Field(BOOLEAN, "whether it must refuse clients without a password", default=False),
        "max_memory": Field(SIZE, "its memory limit"),
        "eviction": Field(
            Choice(
                "noeviction",
                "allkeys-lru",
                "allkeys-lfu",
                "allkeys-random",
                "volatile-lru",
                "volatile-lfu",
                "volatile-random",
                "volatile-ttl",
            ),
            "what it drops when the limit is reached",
        ),
        "save": Field(Listing(SAVE_POINT), "when it writes itself to disk", default=[]),
        "disabled_commands": Field(Listing(TEXT, named=ITSELF), "commands that are renamed away", default=[]),
    },
)
