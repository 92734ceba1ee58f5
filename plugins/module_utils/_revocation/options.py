# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revocation is asked to do, read and checked before any connection is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cache import CacheConnection, read_connection
from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._introspection import Endpoint, read_endpoint
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.form import SYSTEM
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection, read_selection

REVOKED, REINSTATED = "revoked", "reinstated"
CLOCK_SKEW, MAX_WAIT = "5 min", "30 s"
BATCH_ROWS, MOST_BATCH_ROWS = 100_000, 10_000_000
LONGEST = 365 * 86400.0  # seconds; longer skews and waits are mistyped
_REVOCATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_PARTS = {name: SYSTEM.fields[name].kind for name in ("token_stores", "caches", "revocation")}


@dataclass(frozen=True)
class Options:
    """A revocation as asked for; stores and caches in the normalised form of a description, times in seconds, `max_share` in percent."""

    stores: tuple[dict[str, Any], ...]
    selection: Selection
    reason: str
    state: str = REVOKED
    requested_by: str | None = None
    revocation_id: str | None = None
    clock_skew: float = 300.0
    max_tokens: int | None = None
    max_share: float | None = None
    batch_rows: int = BATCH_ROWS
    atomic: bool = False
    max_wait: float = 30.0
    sample: int = 10
    caches: tuple[dict[str, Any], ...] = ()
    cache_connection: CacheConnection | None = None
    introspection: Endpoint | None = None
    introspection_sample: int = 5
    journal: str = "pgops_runbook"
    audit: str | None = None
    application_name: str = "pgops.runbook/pg_token_revoke"


def read_options(parameters: Mapping[str, Any], application_name: str = Options.application_name) -> Options:
    """Return the options among a module's `parameters`; what is None, "" or empty counts as not given.

    Raises DescriptionError, which lists every fault with its path (`select.issued_to: ...`).
    """
    faults = Faults()
    given = {name: value for name, value in parameters.items() if value not in (None, "", [], {})}
    parts = {name: _PARTS[name].read(given.get(name, {} if name == "revocation" else []), name, faults) for name in _PARTS}
    state = given.get("state", REVOKED)
    introspection = dict(given.get("introspection") or {})
    asked = introspection.pop("sample", None)
    options = Options(
        stores=_chosen(parts["token_stores"] or [], given.get("stores") or [], faults),
        selection=_selection(given.get("select"), state, faults),
        state=state,
        reason=str(given.get("reason", "")).strip(),
        requested_by=_text(given.get("requested_by")),
        revocation_id=_text(given.get("revocation_id")),
        clock_skew=_seconds(given.get("clock_skew", CLOCK_SKEW), "clock_skew", faults),
        max_tokens=_whole(given.get("max_tokens"), "max_tokens", 0, None, faults),
        max_share=_percent(given.get("max_share"), "max_share", faults),
        batch_rows=_whole(given.get("batch_rows", BATCH_ROWS), "batch_rows", 1, MOST_BATCH_ROWS, faults) or BATCH_ROWS,
        atomic=bool(given.get("atomic")),
        max_wait=_seconds(given.get("max_wait", MAX_WAIT), "max_wait", faults),
        sample=_count(given.get("sample", 10), "sample", 0, 100, faults),
        caches=tuple(cache for cache in parts["caches"] or () if cache and cache["keys"]),
        cache_connection=_read(read_connection, given.get("cache_connection"), faults),
        introspection=_read(read_endpoint, introspection, faults) if introspection else None,
        introspection_sample=_count(asked or 5, "introspection.sample", 1, 100, faults),
        journal=(parts["revocation"] or {}).get("journal") or Options.journal,
        audit=(parts["revocation"] or {}).get("audit"),
        application_name=application_name,
    )
    _check(options, faults)
    if faults.found:
        raise DescriptionError(faults.found)
    return options


def _check(options: Options, faults: Faults) -> None:
    if not options.reason:
        faults.add("reason", "is missing: say why, for whoever reads the record later")
    if options.revocation_id and not _REVOCATION_ID.fullmatch(options.revocation_id):
        faults.add("revocation_id", f"{shown(options.revocation_id)} is not up to 100 letters, digits, and . _ : -")
    if options.state == REINSTATED:
        if not options.revocation_id:
            faults.add("revocation_id", "is missing: it says which revocation is taken back")
    elif options.selection.claim_pattern and options.max_tokens is None and options.max_share is None:
        faults.add("max_tokens", "is missing: a pattern may match more than was meant, so give max_tokens or max_share with it")


def _selection(value: Any, state: str, faults: Faults) -> Selection:
    given = {key: one for key, one in value.items() if one not in (None, "", [], False)} if isinstance(value, dict) else value
    if state == REINSTATED:
        if given:
            faults.add("select", "is not for state reinstated, which takes back what revocation_id did: leave it out")
        return Selection()
    return read_selection({} if given is None else given, "select", faults)


def _chosen(stores: list[Any], names: list[Any], faults: Faults) -> tuple[dict[str, Any], ...]:
    known = [store["name"] for store in stores if store]
    for index, name in enumerate(names):
        if name not in known:
            faults.add(join("stores", index), one_of(name, known, "the token stores") if known else f"{shown(name)}: token_stores is empty")
    if not stores:
        faults.add("token_stores", "is empty: without a token store there is nothing to revoke")
    return tuple(store for store in stores if store and (not names or store["name"] in names))


def _read(read: Any, value: Any, faults: Faults) -> Any:
    try:
        return read(value)
    except InvalidValue as error:
        faults.add(error.object_name or "", error.message)
        return None


def _seconds(value: Any, path: str, faults: Faults) -> float:
    try:
        seconds = parse_duration(value)
    except InvalidValue as error:
        faults.add(path, error.message)
        return 0.0
    if seconds > LONGEST:
        faults.add(path, f"{shown(value)} is longer than a year")
    return seconds


def _whole(value: Any, path: str, least: int, most: int | None, faults: Faults) -> int | None:
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and value.strip().isdigit() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < least or (most is not None and number > most):
        faults.add(path, f"{shown(value)} is not a whole number from {least}" + (f" to {most}" if most is not None else " up"))
        return None
    return number


def _count(value: Any, path: str, least: int, most: int, faults: Faults) -> int:
    return _whole(value, path, least, most, faults) or 0


def _percent(value: Any, path: str, faults: Faults) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 100:
        faults.add(path, f"{shown(value)} is not a number of percent from 0 to 100")
        return None
    return number


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None
