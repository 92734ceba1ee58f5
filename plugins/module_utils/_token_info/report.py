# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole inquiry: everything that was asked, read in one snapshot and put together."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import lookup
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.claim_sets import claim_sets
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.clients import active_clients
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.codes import codes_of_the_last_hour
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.counts import count_tokens, note_what_is_not_counted
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.daily import issued_per_day, revoked_per_day
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.inquiry import Inquiry
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.newest import newest_active
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.options import OF_STORES, Options
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.registrations import registrations_per_day
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.view import View
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import resolve_stores

_OF_STORE: dict[str, Callable[[View], Any]] = {
    "issued": issued_per_day,
    "claims": claim_sets,
    "revocations": revoked_per_day,
    "newest": newest_active,
}


def token_info(database: Any, options: Options) -> dict[str, Any]:
    """Return the look-ups and reports that were asked for, all about one state of the database, which is not changed.

    What cannot be read is in `unknown` and hides nothing else. Raises RunbookError if the session is of no more use, and InvalidValue
    for a time zone that the server does not know.
    """
    with database.transaction(read_only=True, snapshot=True):
        inquiry = Inquiry.begin(database, options)
        views = [_view(inquiry, store) for store in options.stores]
        readable = [view for view in views if view is not None]
        tokens = _look_up(inquiry, readable)
        stores = [_store(inquiry, store, view) for store, view in zip(options.stores, views)]
        around = _around(inquiry, readable)
    if not options.stores and set(options.reports) & set(OF_STORES):
        inquiry.lacks("counts", "token_stores", "token_stores", "what the system issues: it has no token store")
    return {
        "changed": False,
        "as_of": str(inquiry.as_of.down_to_second()),
        "time_zone": options.time_zone,
        "clock_skew_seconds": options.clock_skew,
        "window": {"first_day": str(inquiry.first), "last_day": str(inquiry.last), "days": len(inquiry.days)},
        "reports": list(options.reports),
        "tokens": tokens,
        "stores": stores,
        **around,
        "not_recorded": inquiry.not_recorded,
        "unknown": inquiry.unknown,
    }


def fault_of(result: Mapping[str, Any]) -> str | None:
    """Return why the result is no answer: ids were asked for and a store could not be read, or nothing could be read at all."""
    unknown = result["unknown"]
    if not unknown:
        return None
    first = unknown[0]
    why = f"{first['about']}: {first['message']}" + (f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else "")
    lost = [one["about"] for one in unknown if one["report"] in ("store", "ids")]
    if result["tokens"] and lost:
        return f"not every store could be looked in, so that a token that was not found may still be there: {why}"
    stores = [store for store in result["stores"] if store["status"] == "ok"]
    others = [result["clients"], *result["registrations"], *result["codes"]]
    if not stores and not any(others):
        return f"nothing could be read: {why}"
    return None


def _view(inquiry: Inquiry, store: Mapping[str, Any]) -> View | None:
    # What goes with a revoked token is not looked at, and need not be readable.
    wanted = {**store, "dependents": [], "allowlist": None}
    return inquiry.attempt("store", store["name"], lambda: View(inquiry, resolve_stores(inquiry.database, [wanted])[0]))


def _look_up(inquiry: Inquiry, views: list[View]) -> list[dict[str, Any]]:
    ids = inquiry.options.ids
    if not ids:
        return []
    found = [inquiry.attempt("ids", view.store.name, partial(lookup.find_tokens, view)) for view in views]
    hidden = any(_hides_ids(store["tokens"]) for store in inquiry.options.stores)
    return lookup.sum_up(
        ids,
        [row for rows in found if rows for row in rows],
        certain=len(views) == len(inquiry.options.stores) and None not in found,
        secret=lookup.fingerprints(inquiry.sql, inquiry.database, ids) if hidden else [],
    )


def _hides_ids(tokens: Mapping[str, Any]) -> bool:
    return tokens["id"] in (*(tokens.get("secrets") or ()), tokens.get("token"))


def _store(inquiry: Inquiry, written: Mapping[str, Any], view: View | None) -> dict[str, Any]:
    """Return every report about one store; a key is None where it was not asked for, is not recorded or could not be read."""
    known = {"name": written["name"], "table": written["tokens"]["table"], "how": written["revoke"]["how"]}
    reports = inquiry.options.reports
    found: dict[str, Any] = dict.fromkeys(OF_STORES)
    if view is None:
        return {**known, "status": "unknown", **found}
    if "counts" in reports or "types" in reports:
        counted = inquiry.attempt("counts", view.store.name, partial(count_tokens, view)) or {}
        found.update({name: counted.get(name) for name in ("counts", "types") if name in reports})
        note_what_is_not_counted(view)
    if "types" in reports and view.store.token_column("type") is None:
        inquiry.lacks("types", view.store.name, f"token_stores[{view.store.name}].tokens.type", "the type of a token")
    for name, read in _OF_STORE.items():
        if name in reports:
            found[name] = inquiry.attempt(name, view.store.name, partial(read, view))
    return {**known, "status": "ok", **found}


def _around(inquiry: Inquiry, views: list[View]) -> dict[str, Any]:
    options = inquiry.options
    found: dict[str, Any] = {"clients": None, "registrations": [], "codes": []}
    if "clients" in options.reports:
        found["clients"] = inquiry.attempt("clients", "clients", partial(_clients, inquiry, views))
    parts = (
        ("registrations", options.registrations, registrations_per_day, "where users register"),
        ("codes", options.codes, codes_of_the_last_hour, "one-time codes that are exchanged for tokens"),
    )
    for name, written, read, what in parts:
        if name not in options.reports:
            continue
        if not written:
            inquiry.lacks(name, name, name, what)
        for number, one in enumerate(written):
            path = f"{name}[{number}]"
            rows = inquiry.attempt(name, one["table"], partial(read, inquiry, one, path))
            found[name] += [rows] if rows else []
    return found


def _clients(inquiry: Inquiry, views: list[View]) -> dict[str, Any] | None:
    read = {view.store.name for view in views}
    lost = [store["name"] for store in inquiry.options.stores if store["tokens"].get("client") and store["name"] not in read]
    if inquiry.options.clients and lost:
        raise DatabaseError(f"which clients are active is not known: {', '.join(lost)} could not be read", object_name=lost[0])
    return active_clients(inquiry, views)
