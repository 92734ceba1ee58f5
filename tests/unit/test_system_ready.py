"""The ready descriptions of well-known applications: each revokes as its application accepts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ground.systems import READY, description_of

SYSTEMS = {name: description_of(name) for name in READY}
each = pytest.mark.parametrize("name", READY)


def ways(name: str) -> dict[str, str]:
    return {store["name"]: store["revoke"]["how"] for store in SYSTEMS[name]["token_stores"]}


def dependents(name: str, store: str) -> list[tuple[Any, ...]]:
    (found,) = [one for one in SYSTEMS[name]["token_stores"] if one["name"] == store]
    return [(one["table"].split(".")[1], one["column"], one["references"], one["on_revoke"], one["when"]) for one in found["dependents"]]


@each
def test_nothing_is_scheduled_that_its_application_does_not_do_itself(name: str) -> None:
    ruled = {rule["table"].split(".")[1] for rules in SYSTEMS[name]["retention"].values() for rule in rules}
    assert ruled == {
        "django_oauth_toolkit": {"oauth2_provider_grant"},
        "simplejwt": {"token_blacklist_blacklistedtoken", "token_blacklist_outstandingtoken"},
        "ory_hydra": {"hydra_oauth2_access", "hydra_oauth2_refresh"},
        "supabase_auth": {"refresh_tokens", "sessions", "flow_state"},
    }.get(name, set())
    assert (SYSTEMS[name]["backup"], SYSTEMS[name]["thresholds"]) == ({}, {})


@each
def test_what_a_report_shows_of_a_code_is_a_secret(name: str) -> None:
    secrets = {(one["table"], column) for one in SYSTEMS[name]["security"]["secrets"] for column in one["columns"]}
    assert {(one["table"], one["id"]) for one in SYSTEMS[name]["codes"]} <= secrets
    for store in SYSTEMS[name]["token_stores"]:
        tokens = store["tokens"]
        assert {tokens["token"]} - {None} <= set(tokens["secrets"])


@each
def test_tables_have_columns_that_are_not_told(name: str) -> None:
    assert all(table["partial"] for table in SYSTEMS[name]["schema"]["tables"].values())


def test_django_oauth_toolkit() -> None:
    assert ways("django_oauth_toolkit") == {"refresh_tokens": "timestamp", "access_tokens": "delete", "id_tokens": "delete"}
    # The access token goes before its pointer is cleared: without the pointer nobody would know which it was.
    assert dependents("django_oauth_toolkit", "refresh_tokens")[:2] == [
        ("oauth2_provider_accesstoken", "id", "access_token_id", "delete", []),
        ("oauth2_provider_refreshtoken", "access_token_id", "access_token_id", "clear", []),
    ]
    assert dependents("django_oauth_toolkit", "access_tokens") == [
        ("oauth2_provider_refreshtoken", "access_token_id", "id", "timestamp", []),
        ("oauth2_provider_refreshtoken", "access_token_id", "id", "clear", []),
    ]
    assert SYSTEMS["django_oauth_toolkit"]["token_stores"][0]["tokens"]["family"] == "token_family"


def test_simplejwt() -> None:
    (store,) = SYSTEMS["simplejwt"]["token_stores"]
    assert (store["tokens"]["id"], store["revoke"]["id"], store["revoke"]["references"]) == ("jti", "token_id", "id")
    rules = SYSTEMS["simplejwt"]["retention"]["daily"]
    assert [(rule["table"], rule["protects"]) for rule in rules] == [
        ("public.token_blacklist_blacklistedtoken", "refresh_tokens"),
        ("public.token_blacklist_outstandingtoken", "refresh_tokens"),
    ]


def test_keycloak() -> None:
    stores = SYSTEMS["keycloak"]["token_stores"]
    assert [(store["name"], store["revoke"]["how"], store["tokens"]["where"]) for store in stores] == [
        ("sessions", "delete", {"offline_flag": "0"}),
        ("offline_sessions", "delete", {"offline_flag": "1"}),
    ]
    for store in stores:
        assert {store["tokens"][key]["unit"] for key in ("issued_at", "renewed_at")} == {"s"}
        # The client sessions of the other kind have the same ids.
        assert [one["where"] for one in store["dependents"]] == [store["tokens"]["where"]]
        assert [(one["table"], one["by"], one["column"]["unit"]) for one in store["not_before"]] == [
            ("public.realm", "tenant", "s"),
            ("public.user_entity", "subject", "s"),
        ]


def test_ory_hydra() -> None:
    assert ways("ory_hydra") == {"refresh_tokens": "delete", "access_tokens": "delete", "login_sessions": "delete"}
    assert [store["tokens"]["family"] for store in SYSTEMS["ory_hydra"]["token_stores"]] == ["request_id", "request_id", None]
    for store, other in (("refresh_tokens", "access"), ("access_tokens", "refresh")):
        assert dependents("ory_hydra", store)[0] == (f"hydra_oauth2_{other}", "request_id", "request_id", "delete", [])
    closed = SYSTEMS["ory_hydra"]["token_stores"][0]["dependents"][1:]
    assert {(one["flag"], one["revoked_when"]) for one in closed} == {("active", False), ("device_code_active", False)}


def test_doorkeeper() -> None:
    (store,) = SYSTEMS["doorkeeper"]["token_stores"]
    assert store["revoke"]["column"] == {"column": "revoked_at", "time_zone": "UTC", "unit": None}
    assert (store["tokens"]["expires_at"], store["tokens"]["expires_in"], store["tokens"]["lifetime"]) == (None, None, None)
    assert dependents("doorkeeper", "tokens") == [
        ("oauth_access_grants", "resource_owner_id", "resource_owner_id", "timestamp", ["subject", "all"]),
        ("oauth_access_grants", "application_id", "application_id", "timestamp", ["client", "all"]),
    ]


def test_supabase_auth() -> None:
    assert ways("supabase_auth") == {"sessions": "delete"}
    assert dependents("supabase_auth", "sessions")[:2] == [
        ("refresh_tokens", "session_id", "id", "delete", []),
        ("mfa_amr_claims", "session_id", "id", "delete", []),
    ]
