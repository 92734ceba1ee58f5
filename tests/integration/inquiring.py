"""The engine behind pg_token_info on one database, without Ansible in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils import _token_info
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from tests.ground.databases import Database

PARTS = ("token_stores", "clients", "registrations", "codes")


def ask(database: Database, system: Mapping[str, Any], *, login: Mapping[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    """Return what the engine tells about the stores and tables of `system`, a description in either form."""
    given = {**{name: system.get(name) for name in PARTS}, **parameters}
    place = ConnectionOptions.from_params({**database.login(tcp=False), **(login or {})})
    with connect(place, application_name="pgops.runbook/pg_token_info", read_only=True) as session:
        return _token_info.token_info(session, _token_info.read_options(given))


def store_of(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the reports about one store."""
    (found,) = [store for store in result["stores"] if store["name"] == name]
    return dict(found)


def tokens_of(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was found of each id that was asked for."""
    return {token["id"]: token for token in result["tokens"]}
