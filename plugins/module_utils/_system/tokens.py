# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what is issued: stores of tokens, with the columns that tell what a token is."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import COLUMN, DURATION, TABLE, TEXT, Scalar, Text
from ansible_collections.pgops.runbook.plugins.module_utils._system.revoking import ALLOWLIST, DEPENDENT, NOT_BEFORE, REVOKE
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

CLAIMS = Group(
    "a column of claim names",
    {
        "column": Field(COLUMN, "the column", required=True),
        "separator": Field(Text("a separator", r"(?s).+"), "what stands between two names", default=","),
    },
    short="column",
)


def _through(what: str) -> Group:
    """Return the form of a way to something that another table knows."""
    return Group(
        f"a way to the {what}",
        {
            "column": Field(COLUMN, "the token column that leads to the other table", required=True, outer=True),
            "table": Field(TABLE, f"the table that knows the {what}", required=True),
            "id": Field(COLUMN, "the column of that table that `column` refers to", required=True),
            what: Field(COLUMN, f"the column of that table that holds the {what}", required=True),
        },
    )


# Each says when a token expires, and two of them could disagree.
_EXPIRIES = ("expires_at", "expires_in", "lifetime")


def _check_expiry(tokens: dict[str, Any], path: str, faults: Faults) -> None:
    said = [key for key in _EXPIRIES if tokens[key] is not None]
    for key in said[1:]:
        faults.add(join(path, key), f"is said beside {said[0]}: at most one of {', '.join(_EXPIRIES)}")
    counted = [key for key in said if key != "expires_at"]
    if counted and tokens["issued_at"] is None:
        faults.add(join(path, "issued_at"), f"is missing: {counted[0]} counts from it")


TOKENS = Group(
    "a table of tokens",
    {
        "table": Field(TABLE, "the table", required=True),
        "id": Field(COLUMN, "the column that identifies a token", required=True),
        "issued_at": Field(TIME, "when a token was issued"),
        "renewed_at": Field(TIME, "when it was last renewed; a limit is compared with it where it is named"),
        "expires_at": Field(TIME, "when it expires; NULL in a row means never"),
        "expires_in": Field(COLUMN, "seconds that a token lives after issued_at; NULL means for ever"),
        "lifetime": Field(DURATION, "how long a token lives after issued_at, where no column says so"),
        "claims": Field(CLAIMS, "the column that lists the names of a token's claims"),
        "subject": Field(COLUMN, "the user that a token is for"),
        "client": Field(COLUMN, "the client that it was issued to"),
        "tenant": Field(COLUMN, "the tenant that it belongs to"),
        "tenant_through": Field(_through("tenant"), "how to find the tenant in another table"),
        "provider": Field(COLUMN, "the identity provider that its user came from"),
        "provider_through": Field(_through("provider"), "how to find the provider in another table"),
        "type": Field(COLUMN, "the type of token"),
        "scope": Field(COLUMN, "the scope that was granted"),
        "address": Field(COLUMN, "the address that it was issued to"),
        "renewed_from": Field(COLUMN, "the id of the token that it was renewed from"),
        "family": Field(COLUMN, "what all tokens of one chain or session share: the id of the first one, or a session"),
        "token": Field(COLUMN, "the token as a client presents it, to ask an introspection endpoint about it"),
        "secrets": Field(Listing(COLUMN, named=ITSELF), "columns whose content never leaves the database", default=[]),
        "where": Field(Named(COLUMN, Scalar()), "only rows with these values are tokens of this store", default={}),
    },
    check=_check_expiry,
)


def _check_store(store: dict[str, Any], path: str, faults: Faults) -> None:
    if (store["revoke"] or {}).get("how") == "not_before" and store["not_before"] == []:
        faults.add(join(path, "not_before"), f"is missing: {TOKEN_STORE.fields['not_before'].doc}; how: not_before moves them")
    tokens, limits = store["tokens"], [limit for limit in store["not_before"] or [] if limit]
    if not tokens:
        return
    if limits and tokens["issued_at"] is None:
        faults.add(join(join(path, "tokens"), "issued_at"), "is missing: limits are compared with it")
    for by in dict.fromkeys(limit["by"] for limit in limits if limit["by"] not in ("all", None)):
        if tokens[by] is None:
            faults.add(join(join(path, "tokens"), by), f"is missing: a limit by {by} is about the tokens that name one")


TOKEN_STORE = Group(
    "a token store",
    {
        "name": Field(TEXT, "the operators' name for it", required=True),
        "tokens": Field(TOKENS, "the table of tokens", required=True),
        "revoke": Field(REVOKE, "how a token is revoked", required=True),
        "allowlist": Field(ALLOWLIST, "ids that are allowed explicitly"),
        "not_before": Field(Listing(NOT_BEFORE), "limits before which the application accepts nothing", default=[]),
        "dependents": Field(Listing(DEPENDENT), "rows elsewhere that go with a revoked token", default=[]),
    },
    check=_check_store,
)
