"""What can be wrong with a token store and with what stands around it: refused with the path of the key and what is allowed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._system import load

RIGHT: dict[str, Any] = {
    "name": "login",
    "schemas": ["login"],
    "time_zone": "UTC",
    "token_stores": [
        {
            "name": "access",
            "tokens": {
                "table": "login.tokens",
                "id": "jti",
                "issued_at": "issued_at",
                "expires_at": "expires_at",
                "subject": "claims",
            },
            "revoke": {"how": "denylist", "table": "login.denied", "id": "jti", "expires_at": "expires_at"},
        },
        {
            "name": "refresh",
            "tokens": {"table": "login.refresh", "id": "id", "subject": "user_id"},
            "revoke": {"how": "flag", "column": "revoked"},
        },
    ],
    "schema": {
        "tables": {
            "login.tokens": {"columns": {"jti": "uuid", "issued_at": "timestamp", "expires_at": "timestamp", "claims": "text"}},
            "login.denied": {"columns": {"jti": "uuid", "expires_at": "timestamptz"}},
            "login.refresh": {"columns": {"id": "bigint", "user_id": "text", "revoked": "boolean", "at": "timestamptz"}},
        }
    },
}
ACCESS, REFRESH = ("token_stores", 0), ("token_stores", 1)
DEPENDENT = {"table": "login.refresh", "column": "user_id", "references": "id"}
DECLARED = "the tables of schema.tables: login.tokens, login.denied, login.refresh"
UNITS = "ms, s, sec, second, seconds, min, minute, minutes, h, hour, hours, d, day, days, week, weeks"

Change = tuple[tuple[Any, ...], Any]


def to(*path: Any, value: Any) -> Change:
    """Return a change that puts `value` at a path."""
    return path, value


FAULTS: dict[str, tuple[Change, str]] = {
    "a dependent row without its flag": (
        to(*REFRESH, "dependents", value=[{**DEPENDENT, "on_revoke": "flag"}]),
        "token_stores[1].dependents[0].flag: is missing: for `flag`: the boolean column",
    ),
    "a dependent row with a mark that nothing sets": (
        to(*REFRESH, "dependents", value=[{**DEPENDENT, "on_revoke": "delete", "mark": "at"}]),
        "token_stores[1].dependents[0].mark: is only for on_revoke timestamp, not delete: leave it out",
    ),
    "a dependent row with a flag that nothing sets": (
        to(*REFRESH, "dependents", value=[{**DEPENDENT, "on_revoke": "clear", "flag": "revoked"}]),
        "token_stores[1].dependents[0].flag: is only for on_revoke flag, not clear: leave it out",
    ),
    "a dependent row that goes when nothing is selected so": (
        to(*REFRESH, "dependents", value=[{**DEPENDENT, "on_revoke": "clear", "when": ["scope"]}]),
        "token_stores[1].dependents[0].when[0]: 'scope' is not one of id, subject, client, tenant, provider, address, all",
    ),
    "a dependent row by a column that its table lacks": (
        to(*ACCESS, "dependents", value=[{**DEPENDENT, "references": "jti", "on_revoke": "delete", "where": {"jti": 1}}]),
        "token_stores[0].dependents[0].where.jti: 'jti' is not one of the columns of login.refresh: id, user_id, revoked, at",
    ),
    "a dependent row by something that is no value": (
        to(*ACCESS, "dependents", value=[{**DEPENDENT, "references": "jti", "on_revoke": "delete", "where": {"revoked": [True]}}]),
        "token_stores[0].dependents[0].where.revoked: [True] is not a text, a number, true or false",
    ),
    "a time of renewal that is none": (
        to(*ACCESS, "tokens", "renewed_at", value="claims"),
        "token_stores[0].tokens.renewed_at: login.tokens.claims is text, which is not a time: timestamptz, timestamp, date,"
        " or an integer with a unit",
    ),
    "two expiries": (
        to(*ACCESS, "tokens", "expires_in", value="jti"),
        "token_stores[0].tokens.expires_in: is said beside expires_at: at most one of expires_at, expires_in, lifetime",
    ),
    "an expiry that counts from nothing": (
        to(*REFRESH, "tokens", value={"table": "login.refresh", "id": "id", "lifetime": "30 days"}),
        "token_stores[1].tokens.issued_at: is missing: lifetime counts from it",
    ),
    "a lifetime that is none": (
        to(*ACCESS, "tokens", "lifetime", value="long"),
        f"token_stores[0].tokens.lifetime: 'long' is not a duration: write a number and a unit ({UNITS}), such "
        "as 30 days, 15 min or 200 ms",
    ),
    "a store of rows by a column that the table lacks": (
        to(*ACCESS, "tokens", "where", value={"kind": "access"}),
        "token_stores[0].tokens.where.kind: 'kind' is not one of the columns of login.tokens: jti, issued_at, expires_at, claims",
    ),
    "a store of rows by something that is no value": (
        to(*ACCESS, "tokens", "where", value={"claims": ["a"]}),
        "token_stores[0].tokens.where.claims: ['a'] is not a text, a number, true or false",
    ),
    "a way to the provider through a column that the tokens lack": (
        to(*ACCESS, "tokens", "provider_through", value={"column": "sub", "table": "login.refresh", "id": "id", "provider": "user_id"}),
        "token_stores[0].tokens.provider_through.column: 'sub' is not one of the columns of login.tokens: "
        "jti, issued_at, expires_at, claims",
    ),
    "a deny list that repeats a column that the tokens lack": (
        to(*ACCESS, "revoke", "references", value="id"),
        "token_stores[0].revoke.references: 'id' is not one of the columns of login.tokens: jti, issued_at, expires_at, claims",
    ),
    "a deny list whose reason is written nowhere": (
        to(*ACCESS, "revoke", "reason", value="why"),
        "token_stores[0].revoke.reason: 'why' is not one of the columns of login.denied: jti, expires_at",
    ),
    "a limit that is nowhere": (
        to(*ACCESS, "revoke", value={"how": "not_before"}),
        "token_stores[0].not_before: is missing: limits before which the application accepts nothing; how: not_before moves them",
    ),
    "a limit of somebody unknown": (
        to(*ACCESS, "not_before", value=[{"table": "login.denied", "column": "expires_at", "by": "subject"}]),
        "token_stores[0].not_before[0].id: is missing: the column that says whose limit a row is; needless where `by` is all",
    ),
    "a limit of all and of somebody": (
        to(*ACCESS, "not_before", value=[{"table": "login.denied", "column": "expires_at", "by": "all", "id": "jti"}]),
        "token_stores[0].not_before[0].id: is not for by: all: leave it out",
    ),
    "a limit of somebody whom the tokens do not name": (
        to(*ACCESS, "not_before", value=[{"table": "login.denied", "column": "expires_at", "by": "client", "id": "jti"}]),
        "token_stores[0].tokens.client: is missing: a limit by client is about the tokens that name one",
    ),
    "a limit on tokens without a time of issue": (
        to(*REFRESH, "not_before", value=[{"table": "login.denied", "column": "expires_at", "by": "all"}]),
        "token_stores[1].tokens.issued_at: is missing: limits are compared with it",
    ),
    "a limit of something else": (
        to(*ACCESS, "not_before", value=[{"table": "login.denied", "column": "expires_at", "by": "scope", "id": "jti"}]),
        "token_stores[0].not_before[0].by: 'scope' is not one of all, tenant, client, subject",
    ),
    "a cache key with an unknown placeholder": (
        to("caches", value=[{"engine": "redis", "keys": ["session:{id}", "user:{user}"]}]),
        "caches[0].keys[1]: 'user:{user}' is not a cache key: {user} is not one of {id}, {user_id}, {tenant_id}, {client_id}, {family}",
    ),
    "a cache key with half a placeholder": (
        to("caches", value=[{"engine": "redis", "keys": ["session:{id"]}]),
        "caches[0].keys[0]: 'session:{id' is not a cache key: { is not one of {id}, {user_id}, {tenant_id}, {client_id}, {family}",
    ),
    "a code of a table that is not declared": (
        to("codes", value=[{"table": "login.codes", "id": "code", "created_at": "at"}]),
        f"codes[0].table: 'login.codes' is not one of {DECLARED}",
    ),
    "a client's name that the table lacks": (
        to("clients", value={"table": "login.refresh", "id": "id", "name": "name"}),
        "clients.name: 'name' is not one of the columns of login.refresh: id, user_id, revoked, at",
    ),
}


def changed(change: Change) -> dict[str, Any]:
    description = copy.deepcopy(RIGHT)
    (*path, last), value = change
    place: Any = description
    for key in path:
        place = place[key]
    place[last] = value
    return description


def test_the_right_one_is_right() -> None:
    assert load(RIGHT)["name"] == "login"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_key_value_and_what_is_allowed(name: str) -> None:
    change, expected = FAULTS[name]
    with pytest.raises(DescriptionError) as caught:
        load(changed(change))
    assert caught.value.errors == [expected]
