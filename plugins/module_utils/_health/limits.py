# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thresholds: what a check says, over it what the system says, over that what the call says."""

from __future__ import annotations

import difflib
import math
from typing import Any, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration, parse_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits

BOUNDS = ("warning", "critical", "minimum")


def merge(check: Check, system: Mapping[str, Any] | None, call: Mapping[str, Any] | None) -> Limits:
    """Return the limits that hold for `check`. A bound of null in `call` switches it off; one left out is inherited.

    An inherited bound that a given one overtakes moves to it: a warning at 95 leaves no critical at 90 before it.
    Raises InvalidValue for an unknown key, a value that is no number of the check's unit, or a warning beyond its own critical.
    """
    bounds = {bound: getattr(check, bound) for bound in BOUNDS}
    sources = {bound: "default" for bound in BOUNDS if bounds[bound] is not None}
    action = None
    for source, given in (("system", system or {}), ("call", call or {})):
        _known_keys(check, given)
        action = given.get("action") or action
        # The normalised description has every key, with null for what was not written.
        written = {
            bound: _number(check, bound, given[bound])
            for bound in BOUNDS
            if bound in given and (source == "call" or given[bound] is not None)
        }
        if _beyond(check, written.get("warning"), written.get("critical")):
            raise InvalidValue(
                f"thresholds[{check.id}]: the warning {written['warning']:g} lies beyond the critical {written['critical']:g}",
                object_name=check.id,
            )
        bounds.update(written)
        sources.update(dict.fromkeys(written, source))
        if _beyond(check, bounds["warning"], bounds["critical"]):
            given_bound, other = ("warning", "critical") if "warning" in written else ("critical", "warning")
            bounds[other] = bounds[given_bound]
            sources[other] = source
    return Limits(bounds["warning"], bounds["critical"], bounds["minimum"], sources, action)


def declared(given: Mapping[str, Any]) -> Limits:
    """Return what a normalised description says of a check that does not exist: shown, and compared with nothing."""
    bounds = {bound: given.get(bound) for bound in BOUNDS}
    sources = {bound: "system" for bound, value in bounds.items() if value is not None}
    return Limits(bounds["warning"], bounds["critical"], bounds["minimum"], sources, given.get("action"))


def _beyond(check: Check, warning: float | None, critical: float | None) -> bool:
    if warning is None or critical is None:
        return False
    return warning < critical if check.worse == "below" else warning > critical


def known(name: str, allowed: Iterable[str], where: str) -> str:
    """Return `name` if it is allowed. Raises InvalidValue with the nearest one that is."""
    names = list(allowed)
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    advice = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(names)}"
    raise InvalidValue(f"{where}: {name!r} is not known: {advice}", object_name=str(name))


def _known_keys(check: Check, given: Any) -> None:
    if not isinstance(given, Mapping):
        raise InvalidValue(f"thresholds[{check.id}]: {given!r} is not a mapping with warning, critical and action", object_name=check.id)
    for key in given:
        known(key, (*BOUNDS, "action"), f"thresholds[{check.id}]")


def _number(check: Check, bound: str, value: Any) -> float | None:
    if value is None:
        return None
    where = f"thresholds[{check.id}].{bound}"
    if check.unit is None or (bound == "minimum" and check.minimum is None):
        raise InvalidValue(f"{where}: {check.id} has nothing to compare with a {bound}", object_name=check.id)
    try:
        number = _parsed(check, bound, value)
        if not math.isfinite(number):
            # Nothing lies beyond infinity, nor beyond what is no number.
            raise ValueError(value)
    except (InvalidValue, OverflowError, TypeError, ValueError) as error:
        unit = "a number" if bound == "minimum" or check.unit == "count" else check.unit
        raise InvalidValue(f"{where}: {value!r} is not {unit}", object_name=check.id) from error
    return number


def _parsed(check: Check, bound: str, value: Any) -> float:
    if bound != "minimum" and check.unit == "seconds":
        return parse_duration(value)
    if (check.minimum_of.startswith("bytes") if bound == "minimum" else check.unit == "bytes") and not isinstance(value, bool):
        return parse_size(value)
    if isinstance(value, bool):
        raise ValueError(value)
    return float(str(value).rstrip("%") if check.unit == "percent" else value)
