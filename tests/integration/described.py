"""The five built-in systems by hand: what a token is, what each criterion means and who is accepted, in SQL of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.ground.systems import BUILT_IN, description_of
from tests.ground.templates import SystemDatabase
from tests.integration.revoking import Trial

Systems = Callable[..., SystemDatabase]
Snapshot = dict[str, dict[str, dict[str, Any]]]
ROWS = 240
SKEW = "interval '5 min'"


@dataclass(frozen=True)
class Store:
    """A store by hand: `t` is a token, `r` a row that goes with it, and the parameters are the values of the criteria.

    `writes` is the table and key whose rows revoking changes. `criteria` lists, beside ids and a window, those it can answer.
    `follows` is the table, the key, the change and the condition of rows that may go; `by` says for which criteria which rows do.
    """

    tokens: str
    id: str
    issued: str
    clock: str
    how: str
    writes: tuple[str, str]
    revoked: str = "false"
    accepted: str = "true"
    criteria: Mapping[str, str] = field(default_factory=dict)
    follows: tuple[str, str, str, str] | None = None
    by: Mapping[str, str] = field(default_factory=dict)

    def selected(self, select: Mapping[str, Any]) -> str:
        """Return the condition under which `t` is selected."""
        issued = self.issued if self.clock == "now()" else f"{self.issued} AT TIME ZONE 'UTC'"
        conditions = {
            "all": "true",
            "ids": f"{self.id} = ANY (%(ids)s::uuid[])",
            "issued_from": f"{issued} >= %(issued_from)s::timestamptz",
            "issued_to": f"{issued} < %(issued_to)s::timestamptz",
            **self.criteria,
        }
        return " AND ".join(f"({conditions[name]})" for name in select)

    def alive(self) -> str:
        """Return the condition under which a service whose clock is behind may still take `t`."""
        return f"t.expires_at >= {self.clock} - {SKEW}"

    def going(self, select: Mapping[str, Any]) -> str:
        """Return the condition under which `r` goes with the selection."""
        if self.follows is None or "" in self.by:
            return self.by.get("", "false").replace("{selected}", self.selected(select))
        return " AND ".join(f"({self.by[name]})" for name in select if name in self.by) or "false"


KEYS_OF_CLAIMS = "SELECT FROM unnest(string_to_array(t.claim_keys, ',')) AS k WHERE k"
NOW_UTC = "(now() AT TIME ZONE 'UTC')"


def tim_store(schema: str) -> Store:
    denied = f"EXISTS (SELECT FROM {schema}.denylist d WHERE d.jwt_uuid = t.jwt_uuid"
    return Store(
        tokens=f"{schema}.jwt_metadata",
        id="t.jwt_uuid",
        issued="t.issued_at",
        clock=NOW_UTC,
        how="denylist",
        writes=(f"{schema}.denylist", "jwt_uuid"),
        # A clean-up removes a row of the deny list when it ends, whether its token has ended or not.
        revoked=f"{denied} AND d.expires_at >= t.expires_at)",
        accepted=f"NOT {denied})",
        criteria={
            "claims": f"EXISTS ({KEYS_OF_CLAIMS} = ANY (%(claims)s::text[]))",
            "claim_pattern": f"EXISTS ({KEYS_OF_CLAIMS} ~ ('^' || replace(%(claim_pattern)s::text, '*', '.*') || '$'))",
        },
        follows=(f"{schema}.allowlist", "jwt_uuid", "deleted", "true"),
        by={"": f"r.jwt_uuid IN (SELECT t.jwt_uuid FROM {schema}.jwt_metadata t WHERE {{selected}})"},
    )


STORES: dict[str, dict[str, Store]] = {
    "tim": {"custom": tim_store("custom"), "tara": tim_store("tara")},
    "oauth2_server": {
        "tokens": Store(
            tokens="public.tokens",
            id="t.token_id",
            issued="t.created_at",
            clock=NOW_UTC,
            how="timestamp",
            writes=("public.tokens", "token_id"),
            revoked="t.revoked_at IS NOT NULL",
            accepted="t.revoked_at IS NULL",
            criteria={
                "subjects": "t.user_id = ANY (%(subjects)s::text[])",
                "clients": "t.client_id = ANY (%(clients)s::text[])",
                "providers": "EXISTS (SELECT FROM users u WHERE u.user_id = t.user_id AND u.provider = ANY (%(providers)s::text[]))",
                "types": "t.token_type = ANY (%(types)s::text[])",
                "scopes": "string_to_array(t.scope, ' ') && %(scopes)s::text[]",
            },
            follows=("public.authorization_codes", "code", "revoked_at", "r.used_at IS NULL"),
            by={
                "all": "true",
                "subjects": "r.user_id = ANY (%(subjects)s::text[])",
                "clients": "r.client_id = ANY (%(clients)s::text[])",
                "providers": "r.user_id IN (SELECT u.user_id FROM users u WHERE u.provider = ANY (%(providers)s::text[]))",
            },
        ),
        "sessions": Store(
            tokens="public.user_sessions",
            id="t.session_id",
            issued="t.created_at",
            clock=NOW_UTC,
            how="delete",
            writes=("public.user_sessions", "session_id"),
            criteria={
                "subjects": "t.user_id = ANY (%(subjects)s::text[])",
                "providers": "EXISTS (SELECT FROM users u WHERE u.user_id = t.user_id AND u.provider = ANY (%(providers)s::text[]))",
                "addresses": "EXISTS (SELECT FROM unnest(%(addresses)s::inet[]) AS a WHERE t.ip_address <<= a)",
            },
        ),
    },
    "tmi": {
        "refresh_tokens": Store(
            tokens="public.refresh_tokens",
            id="t.id",
            issued="t.created_at",
            clock="now()",
            how="delete",
            writes=("public.refresh_tokens", "id"),
            criteria={
                "subjects": "t.user_id = ANY (%(subjects)s::uuid[])",
                "providers": "EXISTS (SELECT FROM user_providers p"
                " WHERE p.user_id = t.user_id AND p.provider = ANY (%(providers)s::text[]))",
            },
        ),
    },
    "showtrack": {},
    "azth": {
        "sessions": Store(
            tokens="public.sessions",
            id="t.id",
            issued="t.created_at",
            clock="now()",
            how="delete",
            writes=("public.sessions", "id"),
            criteria={
                "subjects": "t.user_id = ANY (%(subjects)s::uuid[])",
                "tenants": "EXISTS (SELECT FROM users u WHERE u.id = t.user_id AND u.tenant_id = ANY (%(tenants)s::uuid[]))",
                "addresses": "EXISTS (SELECT FROM unnest(%(addresses)s::inet[]) AS a WHERE t.ip_address <<= a)",
            },
            follows=("public.otp_codes", "id", "revoked_at", "r.used_at IS NULL"),
            by={
                "all": "true",
                "subjects": "r.user_id = ANY (%(subjects)s::uuid[])",
                "tenants": "r.user_id IN (SELECT u.id FROM users u WHERE u.tenant_id = ANY (%(tenants)s::uuid[]))",
            },
        ),
    },
}
WITH_STORES = [system for system in BUILT_IN if STORES[system]]
# Whole seconds, so that both ends of a window are times of tokens; nothing that ends while a test looks at it.
READY = """
UPDATE {tokens} t SET {issued_name} = date_trunc('second', {issued});
UPDATE {tokens} t SET expires_at = t.expires_at + interval '1 hour'
WHERE t.expires_at BETWEEN {clock} - interval '20 min' AND {clock} + interval '20 min';
UPDATE {tokens} t SET expires_at = {clock} - interval '30 s'
WHERE {id} = (SELECT {id} FROM {tokens} t WHERE {alive} AND NOT {revoked} ORDER BY {id} LIMIT 1);
"""
# Users that there are, so that every criterion finds some; a scope, a claim and an address that only resemble a selected one.
DATA = {
    "tim": """
        UPDATE {schema}.jwt_metadata SET claim_keys = 'sub,personalXcode' WHERE jwt_uuid IN (
            SELECT jwt_uuid FROM {schema}.jwt_metadata WHERE claim_keys = 'sub' AND expires_at > now() AT TIME ZONE 'UTC' LIMIT 2);
        INSERT INTO {schema}.denylist (jwt_uuid, expires_at) SELECT jwt_uuid, (now() AT TIME ZONE 'UTC') + interval '10 min'
        FROM {schema}.jwt_metadata WHERE expires_at > (now() AT TIME ZONE 'UTC') + interval '1 hour'
            AND jwt_uuid NOT IN (SELECT jwt_uuid FROM {schema}.denylist) AND claim_keys LIKE '%%admin%%' ORDER BY jwt_uuid LIMIT 3;
        """,
    "oauth2_server": """
        UPDATE tokens t SET user_id = u.user_id FROM (SELECT user_id, row_number() OVER (ORDER BY user_id) AS n FROM users) u
        WHERE ('x' || substr(md5(t.token_id::text), 1, 6))::bit(24)::int %% 40 = u.n;
        UPDATE authorization_codes c SET user_id = u.user_id FROM (SELECT user_id, row_number() OVER (ORDER BY user_id) AS n FROM users) u
        WHERE ('x' || substr(md5(c.code), 1, 6))::bit(24)::int %% (SELECT count(*) FROM users) + 1 = u.n;
        UPDATE authorization_codes SET used_at = created_at WHERE code < (SELECT percentile_disc(0.2) WITHIN GROUP (ORDER BY code)
            FROM authorization_codes);
        UPDATE tokens SET scope = 'readonly' WHERE scope = 'openid';
        UPDATE tokens SET user_id = NULL, client_id = NULL, scope = NULL WHERE token_id IN (SELECT token_id FROM tokens
            WHERE expires_at > now() AT TIME ZONE 'UTC' ORDER BY token_id DESC LIMIT 3);
        UPDATE user_sessions SET ip_address = '10.1.0.1' WHERE expires_at > now() AT TIME ZONE 'UTC' AND session_id IN (
            SELECT session_id FROM user_sessions WHERE expires_at > now() AT TIME ZONE 'UTC' ORDER BY session_id LIMIT 2);
        """,
    "tmi": "",
    "azth": """
        UPDATE otp_codes SET used_at = created_at WHERE id < (SELECT (percentile_disc(0.2) WITHIN GROUP (ORDER BY id::text))::uuid
            FROM otp_codes);
        UPDATE sessions SET ip_address = '10.1.0.1' WHERE id IN (SELECT id FROM sessions WHERE expires_at > now() ORDER BY id LIMIT 2);
        """,
}


class Described(Trial):
    """A built-in system, with the stores as its description has them."""

    system: str
    description: dict[str, Any]

    @classmethod
    def of(cls, systems: Systems, system: str) -> Described:
        """Return one with data in it that tells right from wrong; neither zone of the database is that of the times."""
        made = cls(systems(system, rows=ROWS))
        made.system, made.description = system, description_of(system)
        parts = [f"ALTER DATABASE {made.database.name} SET timezone = 'Asia/Tokyo';"]
        parts += [DATA[system].replace("{schema}", name).replace("%%", "%") for name in (("custom", "tara") if system == "tim" else ("",))]
        for store in STORES[system].values():
            given = {name: getattr(store, name) for name in ("tokens", "issued", "clock", "id", "revoked")}
            parts.append(READY.format(**given, issued_name=store.issued.removeprefix("t."), alive=store.alive()))
        made.sql("".join(parts))
        return made

    @property
    def stores(self) -> list[dict[str, Any]]:
        """Return the described stores."""
        return list(self.description["token_stores"])

    def pick(self, select: Mapping[str, Any]) -> dict[str, Any]:
        """Return `select` with values for the queries in it."""
        made = {}
        for name, value in select.items():
            rows = self.sql(value) if str(value).startswith("SELECT") else None
            made[name] = value if rows is None else rows[0][0] if name.startswith("issued_") else [row[0] for row in rows]
        return made

    def ids(self, store: Store, select: Mapping[str, Any], *conditions: str) -> set[str]:
        """Return the ids of the selected tokens that fulfil `conditions` too."""
        where = " AND ".join([store.selected(select), *conditions])
        return {row[0] for row in self.sql(f"SELECT {store.id}::text FROM {store.tokens} t WHERE {where}", dict(select))}

    def following(self, store: Store, select: Mapping[str, Any]) -> set[str]:
        """Return the keys of the rows that must go with the selection."""
        if store.follows is None:
            return set()
        table, key, _change, still = store.follows
        return {row[0] for row in self.sql(f"SELECT r.{key}::text FROM {table} r WHERE {still} AND {store.going(select)}", dict(select))}

    def accepted_ids(self) -> dict[str, set[str]]:
        """Return the tokens that the system takes, by its own rule."""
        found = {}
        for name, store in STORES[self.system].items():
            where = f"t.expires_at > {store.clock} AND {store.accepted}"
            found[name] = {row[0] for row in self.sql(f"SELECT {store.id}::text FROM {store.tokens} t WHERE {where}")}
        return found

    def snapshot(self) -> Snapshot:
        """Return the rows by table and key of all tables that may change."""
        tables: dict[str, str] = {}
        for store in STORES[self.system].values():
            tables[store.tokens] = store.id.removeprefix("t.")
            tables[store.writes[0]] = store.writes[1]
            if store.follows:
                tables[store.follows[0]] = store.follows[1]
        return {
            table: {key: json.loads(row) for key, row in self.sql(f"SELECT r.{id_}::text, to_jsonb(r)::text FROM {table} r")}
            for table, id_ in tables.items()
        }


def changed_keys(before: Snapshot, after: Snapshot) -> dict[str, set[str]]:
    """Return by table the keys of the rows that are not as they were."""
    keys = {table: {*before[table], *after[table]} for table in before}
    return {table: {key for key in keys[table] if before[table].get(key) != after[table].get(key)} for table in before}
