# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token store of the description with its tables and columns looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._readable import require_readable
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation, look_up, require
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import require_comparable
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column

# The criteria that one token column answers, by the name of the criterion.
COLUMNS = {
    "subjects": "subject",
    "clients": "client",
    "types": "type",
    "scopes": "scope",
    "addresses": "address",
    "families": "family",
}
THROUGH = {"tenants": "tenant", "providers": "provider"}


@dataclass(frozen=True)
class DenyList:
    """A table of denied ids: `id` repeats the token column `key`. The times and `reason` are None where it has none."""

    relation: Relation
    id: Column
    key: Column
    revoked_at: TimeColumn | None
    expires_at: TimeColumn | None
    reason: Column | None


@dataclass(frozen=True)
class Limit:
    """A time before which nothing is accepted of everybody, or of one tenant, client or subject (`by`), whose row `id` names."""

    relation: Relation
    by: str
    column: TimeColumn
    id: Column | None


@dataclass(frozen=True)
class TokenStore:
    """One store. `written` is its normalised form, `tokens` its table; columns are None where the description names none.

    Tokens end at `expires`, or `expires_in` (a column) or `lifetime` seconds after `issued`, or never.
    """

    name: str
    path: str
    written: Mapping[str, Any]
    tokens: Relation
    id: Column
    issued: TimeColumn | None
    renewed: TimeColumn | None
    expires: TimeColumn | None
    expires_in: Column | None
    lifetime: float | None
    deny: DenyList | None
    revoked_at: TimeColumn | None
    flag: Column | None
    limits: tuple[Limit, ...]
    related: Mapping[RelationName, Relation]

    @property
    def how(self) -> str:
        """Return the way to revoke: denylist, timestamp, flag, delete or not_before."""
        return str(self.written["revoke"]["how"])

    def token_column(self, name: str) -> Column | None:
        """Return the token column for a key of the description (`subject`, `family`, ...), None where it is not named."""
        written = self.written["tokens"].get(name)
        return self.tokens.column(written) if written else None

    def shown(self, column: Column) -> bool:
        """Return whether a column's content may leave the database."""
        return column.name not in (self.written["tokens"].get("secrets") or ())


def resolve_stores(database: Any, stores: Sequence[Mapping[str, Any]]) -> tuple[TokenStore, ...]:
    """Return the stores (normalised) with everything looked up, in one query.

    Raises MissingObject, InvalidValue for what does not fit, with its path, and DatabaseError for what the role may not read or
    row-level security hides from it.
    """
    relations = look_up(database, [name for store in stores for name in _names(store)])
    return tuple(_resolve(store, f"token_stores[{store['name']}]", relations) for store in stores)


def _names(store: Mapping[str, Any]) -> Iterable[RelationName]:
    tokens = store["tokens"]
    parts = [tokens, tokens.get("tenant_through"), tokens.get("provider_through"), store["revoke"], store.get("allowlist")]
    parts += [*(store.get("dependents") or ()), *(store.get("not_before") or ())]
    return [parse_relation(part["table"]) for part in parts if part and part.get("table")]


def _resolve(written: Mapping[str, Any], path: str, relations: Mapping[RelationName, Relation]) -> TokenStore:
    related = {name: _readable(relations[name]) for name in _names(written)}
    fields, revoke = written["tokens"], written["revoke"]
    tokens = related[parse_relation(fields["table"])]
    for key in ("subject", "client", "tenant", "provider", "type", "scope", "address", "family", "renewed_from", "token", "expires_in"):
        if fields.get(key):
            tokens.column(fields[key])
    for column in (*(fields.get("where") or ()), *(fields.get("secrets") or ())):
        tokens.column(column)
    return TokenStore(
        name=written["name"],
        path=path,
        written=written,
        tokens=tokens,
        id=tokens.column(fields["id"]),
        issued=_time(tokens, fields.get("issued_at"), f"{path}.tokens.issued_at"),
        renewed=_time(tokens, fields.get("renewed_at"), f"{path}.tokens.renewed_at"),
        expires=_time(tokens, fields.get("expires_at"), f"{path}.tokens.expires_at"),
        expires_in=_seconds_column(tokens, fields.get("expires_in"), f"{path}.tokens.expires_in"),
        lifetime=fields.get("lifetime_seconds"),
        deny=_deny_list(written, path, tokens, related),
        revoked_at=_time(tokens, revoke["column"], f"{path}.revoke.column") if revoke["how"] == "timestamp" else None,
        flag=_flag(tokens, revoke, path),
        limits=tuple(
            _limit(limit, f"{path}.not_before[{index}]", fields, related) for index, limit in enumerate(written.get("not_before") or ())
        ),
        related=related,
    )


def _readable(relation: Relation) -> Relation:
    require_readable(require(relation))
    return relation


def _deny_list(written: Mapping[str, Any], path: str, tokens: Relation, related: Mapping[RelationName, Relation]) -> DenyList | None:
    revoke = written["revoke"]
    if revoke["how"] != "denylist":
        return None
    deny = related[parse_relation(revoke["table"])]
    found = DenyList(
        relation=deny,
        id=deny.column(revoke["id"]),
        key=tokens.column(revoke.get("references") or written["tokens"]["id"]),
        revoked_at=_time(deny, revoke.get("revoked_at"), f"{path}.revoke.revoked_at"),
        expires_at=_time(deny, revoke.get("expires_at"), f"{path}.revoke.expires_at"),
        reason=deny.column(revoke["reason"]) if revoke.get("reason") else None,
    )
    require_comparable((deny, found.id), (tokens, found.key), path)
    return found


def _limit(written: Mapping[str, Any], path: str, tokens: Mapping[str, Any], related: Mapping[RelationName, Relation]) -> Limit:
    for needed in ("issued_at", *([written["by"]] if written["by"] != "all" else [])):
        if not tokens.get(needed):
            raise InvalidValue(f"{path}: the store's tokens name no {needed}, which is compared with the limit", object_name=path)
    relation = related[parse_relation(written["table"])]
    time = time_column(relation, written["column"], f"{path}.column")
    return Limit(relation, written["by"], time, relation.column(written["id"]) if written.get("id") else None)


def _flag(tokens: Relation, revoke: Mapping[str, Any], path: str) -> Column | None:
    if revoke["how"] != "flag":
        return None
    column = tokens.column(revoke["column"])
    if column.base != "bool":
        where = f"{path}.revoke.column"
        raise InvalidValue(f"{where}: {tokens.name}.{column.name} is of type {column.type}, and a flag is a boolean", object_name=where)
    return column


def _seconds_column(tokens: Relation, name: str | None, path: str) -> Column | None:
    if not name:
        return None
    column = tokens.column(name)
    if column.base not in ("int2", "int4", "int8"):
        message = f"{path}: {tokens.name}.{column.name} is of type {column.type}, and seconds are an integer"
        raise InvalidValue(message, object_name=path)
    return column


def _time(relation: Relation, written: Mapping[str, Any] | None, path: str) -> TimeColumn | None:
    return time_column(relation, written, path) if written else None
