# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of how a token is revoked, of what goes with it, and of the record that is kept of that."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Choices, Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import (
    BOOLEAN,
    COLUMN,
    SCHEMA_NAME,
    TABLE,
    Choice,
    Scalar,
    Table,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

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
                "references": Field(COLUMN, "the token column that `id` repeats; the token's id where it is left out", outer=True),
                "revoked_at": Field(TIME, "when the token was revoked"),
                "expires_at": Field(TIME, "when the denied token expires; without it, the token's own row says so"),
                "reason": Field(COLUMN, "where the reason of a revocation is written"),
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
        "not_before": Group(
            "a limit",
            {"how": Field(Choice("not_before"), "nothing issued before a time is accepted; needs the store's not_before", required=True)},
        ),
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


def _check_limit(limit: dict[str, Any], path: str, faults: Faults) -> None:
    if limit["by"] == "all" and limit["id"] is not None:
        faults.add(join(path, "id"), "is not for by: all: leave it out")
    elif limit["by"] not in ("all", None) and limit["id"] is None:
        faults.add(join(path, "id"), f"is missing: {NOT_BEFORE.fields['id'].doc}")


NOT_BEFORE = Group(
    "a limit",
    {
        "table": Field(TABLE, "the table that holds it", required=True),
        "column": Field(TIME, "the time before which nothing that was issued is accepted", required=True),
        "by": Field(Choice("all", "tenant", "client", "subject"), "whose tokens one row is about", required=True),
        "id": Field(COLUMN, "the column that says whose limit a row is; needless where `by` is all"),
    },
    check=_check_limit,
)

# The key that each way to treat a dependent row needs, and no other way has.
_NEEDS = {"timestamp": "mark", "flag": "flag"}


def _check_dependent(dependent: dict[str, Any], path: str, faults: Faults) -> None:
    chosen = dependent["on_revoke"]
    for way, key in _NEEDS.items():
        if chosen == way and dependent[key] is None:
            faults.add(join(path, key), f"is missing: {DEPENDENT.fields[key].doc}")
        elif chosen not in (way, None) and dependent[key] is not None:
            faults.add(join(path, key), f"is only for on_revoke {way}, not {chosen}: leave it out")


DEPENDENT = Group(
    "a dependent table",
    {
        "table": Field(TABLE, "the table whose rows go with a revoked token", required=True),
        "column": Field(COLUMN, "its column that matches", required=True),
        "references": Field(COLUMN, "the token column that it matches", required=True, outer=True),
        "on_revoke": Field(
            Choice("delete", "timestamp", "flag", "clear"), "what happens to the row; clear sets `column` to NULL", required=True
        ),
        "mark": Field(TIME, "for `timestamp`: the column that is set where it is NULL"),
        "flag": Field(COLUMN, "for `flag`: the boolean column"),
        "revoked_when": Field(BOOLEAN, "for `flag`: its value in a row that went", default=True),
        "when": Field(
            Listing(Choice("id", "subject", "client", "tenant", "provider", "address", "all"), named=ITSELF),
            "only when tokens were revoked by one of these, and then even rows of which no token is left; always where it is empty",
            default=[],
        ),
        "where": Field(Named(COLUMN, Scalar()), "only rows with these values go with a token", default={}),
    },
    check=_check_dependent,
)

REVOCATION = Group(
    "a record of revocations",
    {
        "journal": Field(
            SCHEMA_NAME, "the schema that keeps what a revocation changed, so that it can be taken back", default="pgops_runbook"
        ),
        "audit": Field(Table(declared=False, foreign=True), "the table that gets a row for every revocation"),
    },
)
