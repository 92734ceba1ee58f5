"""What is revoked from published layouts, and, in SQL that knows nothing of the engine, which tokens and codes have to go with it.

In the SQL %(given)s are the selected values as an array of text, %(start)s and %(end)s the ends of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# A window in the past twelve hours that has tokens of every layout on either side of it; whole seconds.
WINDOW = """
SELECT to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM unnest(ARRAY[now() - interval '14 h', now() - interval '40 min']) WITH ORDINALITY AS t (moment, n),
    LATERAL (SELECT moment AT TIME ZONE 'UTC') AS u (at) ORDER BY n
"""


@dataclass(frozen=True)
class Rows:
    """The tokens of one store: `source` goes behind FROM, the others are expressions over its columns."""

    source: str
    id: str
    issued: str = "NULL::timestamptz"
    family: str = ""


@dataclass(frozen=True)
class Case:
    """One selection. `given` is a query of the values of `criterion`, `where` the condition that they mean, by store.

    `along` are queries of tokens of other stores that go with them, and `codes` the condition on the layout's codes; %(gone)s are the ids
    that go from the store named before the colon in a key of `along`.
    """

    name: str
    where: dict[str, str]
    criterion: str = ""
    given: str = ""
    along: dict[str, str] = field(default_factory=dict)
    codes: str = "false"
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A layout's stores, and `codes`: the query of (kind, id, subject, client) of everything that could still become a token."""

    stores: dict[str, Rows]
    cases: list[Case]
    codes: str = "SELECT NULL::text AS kind, NULL::text AS id, NULL::text AS subject, NULL::text AS client WHERE false"


def everywhere(names: Any, condition: str) -> dict[str, str]:
    """Return the same condition for several stores."""
    return dict.fromkeys(names, condition)


def everything(layout: dict[str, Rows]) -> Case:
    """Return the selection of all."""
    return Case("all", everywhere(layout, "true"), codes="true", more={"all": True})


def window(layout: dict[str, Rows], **more: Any) -> Case:
    """Return the selection by time of issue, in every store."""
    within = {name: f"{rows.issued} >= %(start)s::timestamptz AND {rows.issued} < %(end)s::timestamptz" for name, rows in layout.items()}
    return Case("window", within, "window", WINDOW, **more)


def ids(store: str, rows: Rows, alive: str, **more: Any) -> Case:
    """Return the selection of a few ids of one store, and one that is nowhere."""
    some = f"SELECT id FROM (SELECT DISTINCT {rows.id} AS id FROM {rows.source} WHERE {alive}) AS few ORDER BY md5(id) LIMIT 4"
    return Case(f"ids of {store}", {store: f"{rows.id} = ANY (%(given)s)"}, "ids", some, **more)


USER = "SELECT md5('user 1')::uuid::text"
UTC = "AT TIME ZONE 'UTC'"

# --- Django OAuth Toolkit

TOOLKIT = {
    "refresh_tokens": Rows("oauth2_provider_refreshtoken", "id::text", "created", "token_family"),
    "access_tokens": Rows("oauth2_provider_accesstoken", "id::text", "created"),
    "id_tokens": Rows("oauth2_provider_idtoken", "jti::text", "created"),
}
# An access token goes with its refresh token and the other way round.
PAIRS = {
    "refresh_tokens:access_tokens": "SELECT access_token_id::text FROM oauth2_provider_refreshtoken WHERE id::text = ANY (%(gone)s)",
    "access_tokens:refresh_tokens": "SELECT id::text FROM oauth2_provider_refreshtoken WHERE access_token_id::text = ANY (%(gone)s)",
}
TOOLKIT_LAYOUT = Layout(
    TOOLKIT,
    [
        everything(TOOLKIT),
        window(TOOLKIT, along=PAIRS),
        Case(
            "subject",
            everywhere(TOOLKIT, "user_id::text = ANY (%(given)s)"),
            "subjects",
            "SELECT id::text FROM auth_user WHERE username = 'user1'",
            PAIRS,
            "subject = ANY (%(given)s)",
        ),
        Case(
            "client",
            everywhere(TOOLKIT, "application_id::text = ANY (%(given)s)"),
            "clients",
            "SELECT id::text FROM oauth2_provider_application WHERE client_id IN ('client-1', 'django')",
            PAIRS,
            "client = ANY (%(given)s)",
        ),
        Case(
            "family",
            {"refresh_tokens": "token_family::text = ANY (%(given)s)"},
            "families",
            "SELECT md5('family 1')::uuid::text UNION SELECT md5('family 2')::uuid::text",
            PAIRS,
        ),
        Case(
            "scope",
            dict.fromkeys(("access_tokens", "id_tokens"), "string_to_array(scope, ' ') && %(given)s"),
            "scopes",
            "SELECT 'write'",
            PAIRS,
        ),
        ids("refresh_tokens", TOOLKIT["refresh_tokens"], "revoked IS NULL AND access_token_id IS NOT NULL", along=PAIRS),
        ids("access_tokens", TOOLKIT["access_tokens"], "expires > now()", along=PAIRS),
    ],
    """
    SELECT 'code' AS kind, id::text AS id, user_id::text AS subject, application_id::text AS client
    FROM oauth2_provider_grant WHERE expires > now()
    UNION ALL SELECT 'device', id::text, user_id::text, NULL FROM oauth2_provider_devicegrant WHERE expires > now()
    """,
)

# --- Simple JWT

SIMPLE = {"refresh_tokens": Rows("token_blacklist_outstandingtoken", "jti", "created_at")}
SIMPLE_LAYOUT = Layout(
    SIMPLE,
    [
        everything(SIMPLE),
        Case(
            "window",
            {"refresh_tokens": "created_at >= %(start)s::timestamptz AND created_at < %(end)s::timestamptz"},
            "window",
            WINDOW.replace("14 h", "20 days").replace("40 min", "5 days"),
        ),
        Case(
            "subject",
            {"refresh_tokens": "user_id::text = ANY (%(given)s)"},
            "subjects",
            "SELECT id::text FROM auth_user WHERE username IN ('user1', 'user2')",
        ),
        ids("refresh_tokens", SIMPLE["refresh_tokens"], "expires_at > now()"),
    ],
)

# --- Keycloak

SESSIONS = {
    name: Rows(f"(SELECT * FROM offline_user_session WHERE offline_flag = '{flag}') AS s", "user_session_id", "to_timestamp(created_on)")
    for name, flag in (("sessions", "0"), ("offline_sessions", "1"))
}
KEYCLOAK_LAYOUT = Layout(
    SESSIONS,
    [
        everything(SESSIONS),
        window(SESSIONS),
        Case("subject", everywhere(SESSIONS, "user_id = ANY (%(given)s)"), "subjects", USER),
        Case("tenant", everywhere(SESSIONS, "realm_id = ANY (%(given)s)"), "tenants", "SELECT md5('realm 1')::uuid::text"),
        Case(
            "provider",
            everywhere(SESSIONS, "user_id IN (SELECT user_id FROM federated_identity WHERE identity_provider = ANY (%(given)s))"),
            "providers",
            "SELECT 'google'",
        ),
        # Of a session that an offline one continues under the same id.
        ids(
            "sessions",
            SESSIONS["sessions"],
            "user_session_id IN (SELECT user_session_id FROM offline_user_session WHERE offline_flag = '1')",
        ),
        ids("offline_sessions", SESSIONS["offline_sessions"], "true"),
    ],
)

# --- Ory Hydra

HYDRA = {
    "refresh_tokens": Rows("hydra_oauth2_refresh", "signature", f"requested_at {UTC}", "request_id"),
    "access_tokens": Rows("hydra_oauth2_access", "signature", f"requested_at {UTC}", "request_id"),
    "login_sessions": Rows("hydra_oauth2_authentication_session", "id", f"authenticated_at {UTC}"),
}
OF_CLIENTS = [name for name in HYDRA if name != "login_sessions"]
# What was issued for one request goes together, as when Hydra itself revokes one of them.
REQUEST = {
    f"{one}:{other}": f"SELECT o.signature FROM hydra_oauth2_{other[:-7]} AS o JOIN hydra_oauth2_{one[:-7]} AS g USING (request_id)"
    " WHERE g.signature = ANY (%(gone)s)"
    for one, other in (("refresh_tokens", "access_tokens"), ("access_tokens", "refresh_tokens"))
}
HYDRA_LAYOUT = Layout(
    HYDRA,
    [
        everything(HYDRA),
        window(HYDRA, along=REQUEST),
        Case(
            "subject",
            everywhere(HYDRA, "subject = ANY (%(given)s)"),
            "subjects",
            "VALUES ('user1'), ('user2')",
            REQUEST,
            "subject = ANY (%(given)s)",
        ),
        Case(
            "client",
            everywhere(OF_CLIENTS, "client_id = ANY (%(given)s)"),
            "clients",
            "SELECT 'client-1'",
            REQUEST,
            "client = ANY (%(given)s)",
        ),
        Case("tenant", everywhere(HYDRA, "nid::text = ANY (%(given)s)"), "tenants", "SELECT md5('network 2')::uuid::text", REQUEST),
        Case(
            "family",
            everywhere(OF_CLIENTS, "request_id = ANY (%(given)s)"),
            "families",
            "SELECT md5('request 1')::uuid::text UNION SELECT md5('request 2')::uuid::text",
            REQUEST,
        ),
        ids("refresh_tokens", HYDRA["refresh_tokens"], "active", along=REQUEST),
        ids("access_tokens", HYDRA["access_tokens"], "active", along=REQUEST),
        ids("login_sessions", HYDRA["login_sessions"], "remember"),
    ],
    """
    SELECT 'code' AS kind, signature AS id, subject, client_id AS client FROM hydra_oauth2_code WHERE active
    UNION ALL SELECT 'device', device_code_signature, subject, client_id FROM hydra_oauth2_device_auth_codes WHERE device_code_active
    """,
)

# --- Doorkeeper

DOORKEEPER = {"tokens": Rows("oauth_access_tokens", "id::text", f"created_at {UTC}")}
DOORKEEPER_LAYOUT = Layout(
    DOORKEEPER,
    [
        everything(DOORKEEPER),
        window(DOORKEEPER),
        Case(
            "subject",
            {"tokens": "resource_owner_id::text = ANY (%(given)s)"},
            "subjects",
            "VALUES ('1'), ('2')",
            codes="subject = ANY (%(given)s)",
        ),
        Case("client", {"tokens": "application_id::text = ANY (%(given)s)"}, "clients", "SELECT '1'", codes="client = ANY (%(given)s)"),
        Case(
            "subject and client",
            {"tokens": "resource_owner_id::text = ANY (%(given)s) AND application_id = 1"},
            "subjects",
            "VALUES ('1'), ('2')",
            codes="subject = ANY (%(given)s) AND client = '1'",
            more={"clients": ["1"]},
        ),
        Case("scope", {"tokens": "string_to_array(scopes, ' ') && %(given)s"}, "scopes", "SELECT 'write'"),
        ids("tokens", DOORKEEPER["tokens"], "revoked_at IS NULL"),
    ],
    f"""
    SELECT 'code' AS kind, id::text AS id, resource_owner_id::text AS subject, application_id::text AS client FROM oauth_access_grants
    WHERE revoked_at IS NULL AND (created_at + make_interval(secs => expires_in)) {UTC} > now()
    """,
)

# --- Supabase Auth

SUPABASE = {"sessions": Rows("auth.sessions", "id::text", "created_at")}
SUPABASE_LAYOUT = Layout(
    SUPABASE,
    [
        everything(SUPABASE),
        Case(
            "window",
            {"sessions": "created_at >= %(start)s::timestamptz AND created_at < %(end)s::timestamptz"},
            "window",
            WINDOW.replace("14 h", "8 days").replace("40 min", "1 day"),
        ),
        Case("subject", {"sessions": "user_id::text = ANY (%(given)s)"}, "subjects", USER, codes="subject = ANY (%(given)s)"),
        Case(
            "client",
            {"sessions": "oauth_client_id::text = ANY (%(given)s)"},
            "clients",
            "SELECT md5('client 1')::uuid::text",
            codes="client = ANY (%(given)s)",
        ),
        Case(
            "provider",
            {"sessions": "user_id IN (SELECT user_id FROM auth.identities WHERE provider = ANY (%(given)s))"},
            "providers",
            "SELECT 'github'",
        ),
        Case("address", {"sessions": "ip <<= ANY (%(given)s::inet[])"}, "addresses", "VALUES ('2001:db8::/32'), ('198.51.100.1')"),
        Case("scope", {"sessions": "string_to_array(scopes, ' ') && %(given)s"}, "scopes", "SELECT 'email'"),
        ids("sessions", SUPABASE["sessions"], "not_after IS NULL"),
    ],
    """
    SELECT 'link' AS kind, id::text AS id, user_id::text AS subject, NULL AS client FROM auth.one_time_tokens
    UNION ALL SELECT 'flow', id::text, user_id::text, NULL FROM auth.flow_state
    UNION ALL SELECT 'authorization', id::text, user_id::text, client_id::text FROM auth.oauth_authorizations
    """,
)

# --- TIM of 2021 to 2023

FIRST = {
    "tokens": Rows("jwt_blacklist.jwt_token", "jwt_uuid::text", f"issued_date {UTC}"),
    "custom_tokens": Rows("jwt_blacklist.custom_jwt_token", "jwt_uuid::text", f"issued_date {UTC}"),
    "sessions": Rows("pwa.sessions", "session_uuid::text", f"valid_from {UTC}"),
}
FIRST_LAYOUT = Layout(
    FIRST,
    [
        everything(FIRST),
        window(FIRST),
        Case(
            "claims",
            {"custom_tokens": "string_to_array(custom_claim_keys, '::_::') && %(given)s"},
            "claims",
            "SELECT 'admin'",
        ),
        Case(
            "claim pattern",
            {"custom_tokens": "EXISTS (SELECT FROM unnest(string_to_array(custom_claim_keys, '::_::')) AS k WHERE k LIKE 'admin%%')"},
            more={"claim_pattern": "admin*"},
        ),
        Case("subject", {"sessions": "personal_code = ANY (%(given)s)"}, "subjects", "SELECT '3' || lpad('1', 10, '0')"),
        Case("address", {"sessions": "ip = ANY (%(given)s)"}, "addresses", "SELECT ip FROM pwa.sessions WHERE valid_to > now() LIMIT 2"),
        ids("tokens", FIRST["tokens"], "is_blacklisted IS NULL"),
    ],
)

# --- TIM with hashes of tokens

HASHES = {name: Rows(f"{name}.jwt_metadata", "token_hash", "issued_at") for name in ("custom", "tara")}
HASHES_LAYOUT = Layout(
    HASHES,
    [
        everything(HASHES),
        window(HASHES),
        Case("subject", everywhere(HASHES, "subject = ANY (%(given)s)"), "subjects", "VALUES ('user-1'), ('user-7')"),
        Case("client", everywhere(HASHES, "audience = ANY (%(given)s)"), "clients", "SELECT 'service-3'"),
        Case("type", everywhere(HASHES, "jwt_name = ANY (%(given)s)"), "types", "SELECT 'TARATOKEN'"),
        Case("claims", everywhere(HASHES, "claims_json ?| %(given)s"), "claims", "SELECT 'admin'"),
        ids("custom", HASHES["custom"], "expires_at > now()"),
    ],
)

# --- TIM 2.0 with chains of tokens

CHAINS = {
    "custom": Rows("custom_jwt.jwt_metadata", "jwt_uuid::text", f"issued_at {UTC}", "original_jwt_uuid"),
    "auth": Rows("auth.jwt_metadata", "jwt_uuid::text", f"issued_at {UTC}"),
}
BY_CHAIN = Case(
    "family",
    {"custom": "original_jwt_uuid::text = ANY (%(given)s)"},
    "families",
    "SELECT md5('jti 1 ' || n)::uuid::text FROM generate_series(1, 60) AS n",
)
CHAINS_LAYOUT = Layout(
    CHAINS,
    [
        everything(CHAINS),
        window(CHAINS),
        Case("subject", {"custom": "subject = ANY (%(given)s)"}, "subjects", "SELECT 'user-1'"),
        Case("client", {"custom": "audience = ANY (%(given)s)"}, "clients", "SELECT 'service-3'"),
        Case(
            "claims",
            everywhere(CHAINS, "'role' = ANY (regexp_split_to_array(claim_keys, ' *, *'))"),
            "claims",
            "SELECT 'role'",
        ),
        BY_CHAIN,
        ids("custom", CHAINS["custom"], "original_jwt_uuid = jwt_uuid"),
        # Of tokens that were renewed since: what they led to goes.
        Case(
            "ids of first tokens",
            {"custom": "jwt_uuid::text = ANY (%(given)s)"},
            "ids",
            "SELECT md5('jti 1 ' || n)::uuid::text FROM generate_series(1, 60) AS n",
        ),
    ],
)

# --- TIM in Rust

RUST = {
    "custom": Rows("custom_jwt.jwt_metadata", "jwt_uuid::text", "issued_at", "original_jwt_uuid"),
    "sessions": Rows("auth.session", "id", "created_at"),
}
RUST_LAYOUT = Layout(
    RUST,
    [
        everything(RUST),
        window(RUST),
        Case(
            "subject",
            {"custom": "subject = ANY (%(given)s)", "sessions": "user_id = ANY (%(given)s)"},
            "subjects",
            "VALUES ('user-1'), ('user-2')",
        ),
        Case("provider", {"sessions": "provider_id = ANY (%(given)s)"}, "providers", "SELECT 'google'"),
        Case(
            "claims",
            {"custom": "'admin' = ANY (string_to_array(claim_keys, ','))"},
            "claims",
            "SELECT 'admin'",
        ),
        Case(
            "family",
            {"custom": "original_jwt_uuid::text = ANY (%(given)s)"},
            "families",
            "SELECT md5('jti 10 ' || n)::uuid::text FROM generate_series(1, 60) AS n",
        ),
        ids("custom", RUST["custom"], "supersedes IS NULL"),
        ids("sessions", RUST["sessions"], "expires_at > now()"),
    ],
)

LAYOUTS = {
    "django_oauth_toolkit": TOOLKIT_LAYOUT,
    "simplejwt": SIMPLE_LAYOUT,
    "keycloak": KEYCLOAK_LAYOUT,
    "ory_hydra": HYDRA_LAYOUT,
    "doorkeeper": DOORKEEPER_LAYOUT,
    "supabase_auth": SUPABASE_LAYOUT,
    "tim_v1": FIRST_LAYOUT,
    "tim_hash": HASHES_LAYOUT,
    "tim_chains": CHAINS_LAYOUT,
    "tim_rust": RUST_LAYOUT,
}
