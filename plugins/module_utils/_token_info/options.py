# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked, read and checked before any connection is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import listed
from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.form import SYSTEM
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import Zone

OF_STORES = ("counts", "types", "issued", "claims", "revocations", "newest")
REPORTS = (*OF_STORES, "clients", "registrations", "codes")
MOST_IDS, MOST_DAYS, MOST_LISTED = 1000, 366, 1000
LONGEST_SKEW = 365 * 86400.0  # seconds; more is mistyped
_PARTS = {name: SYSTEM.fields[name].kind for name in ("token_stores", "clients", "registrations", "codes")}


@dataclass(frozen=True)
class Options:
    """What is asked. Stores, clients, registrations and codes are in the normalised form of a description, times in seconds.

    `newest` is how many tokens, clients and codes a list holds at most, `top` how many claim sets, types and providers.
    """

    stores: tuple[dict[str, Any], ...] = ()
    ids: tuple[str, ...] = ()
    reports: tuple[str, ...] = REPORTS
    clients: dict[str, Any] | None = None
    registrations: tuple[dict[str, Any], ...] = ()
    codes: tuple[dict[str, Any], ...] = ()
    days: int = 30
    newest: int = 100
    top: int = 20
    clock_skew: float = 300.0
    time_zone: str = "UTC"


def read_options(parameters: Mapping[str, Any]) -> Options:
    """Return the options among a module's `parameters`; what is None, "" or empty counts as not given.

    Raises DescriptionError, which lists every fault with its path (`days: ...`).
    """
    faults = Faults()
    given = {name: value for name, value in parameters.items() if value not in (None, "", [], {})}
    parts = {name: kind.read(given[name], name, faults) for name, kind in _PARTS.items() if name in given}
    ids = _ids(listed(given.get("ids")), faults)
    options = Options(
        stores=_chosen(parts.get("token_stores") or [], listed(given.get("stores")), faults),
        ids=ids,
        reports=_reports(listed(given.get("reports")), ids, faults),
        clients=parts.get("clients"),
        registrations=tuple(parts.get("registrations") or ()),
        codes=tuple(parts.get("codes") or ()),
        days=_whole(given.get("days", Options.days), "days", MOST_DAYS, faults),
        newest=_whole(given.get("newest", Options.newest), "newest", MOST_LISTED, faults),
        top=_whole(given.get("top", Options.top), "top", MOST_LISTED, faults),
        clock_skew=_skew(given.get("clock_skew", "5 min"), faults),
        time_zone=Zone().read(given.get("time_zone", Options.time_zone), "time_zone", faults) or Options.time_zone,
    )
    if ids and not parts.get("token_stores"):
        faults.add("ids", "there is no token store to look in: token_stores is empty")
    if faults.found:
        raise DescriptionError(faults.found)
    return options


def _chosen(stores: Sequence[Any], names: Sequence[Any], faults: Faults) -> tuple[dict[str, Any], ...]:
    known = [store["name"] for store in stores if store]
    for index, name in enumerate(names):
        if name not in known:
            faults.add(join("stores", index), one_of(name, known, "the token stores"))
    return tuple(store for store in stores if store and (not names or store["name"] in names))


def _ids(values: Sequence[Any], faults: Faults) -> tuple[str, ...]:
    found = []
    for index, value in enumerate(values):
        at = join("ids", index)
        if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
            faults.add(at, f"{shown(value)} is not an id: write a text or a whole number")
        elif "\x00" in str(value):
            faults.add(at, "has a zero byte in it, which no column can hold")
        else:
            found.append(str(value))
    unique = tuple(dict.fromkeys(found))
    if len(unique) > MOST_IDS:
        faults.add("ids", f"{len(unique)} ids are more than one look-up takes, which is {MOST_IDS}")
    return unique


def _reports(names: Sequence[Any], ids: Sequence[str], faults: Faults) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name not in REPORTS:
            faults.add(join("reports", index), one_of(name, REPORTS))
    if not names:
        # Who asks for a token wants its status now, and not what reading every table would tell besides.
        return () if ids else REPORTS
    return tuple(name for name in REPORTS if name in names)


def _whole(value: Any, path: str, most: int, faults: Faults) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        faults.add(path, f"{shown(value)} is not a whole number from 1 to {most}")
        return 1
    return value


def _skew(value: Any, faults: Faults) -> float:
    try:
        seconds = parse_duration(value)
    except InvalidValue as error:
        faults.add("clock_skew", error.message)
        return 0.0
    if seconds > LONGEST_SKEW:
        faults.add("clock_skew", f"{shown(value)} is longer than a year")
    return seconds
