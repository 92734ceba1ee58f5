# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clean-up is asked to do, read and checked before any connection is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Limits, read_limits
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.window import Window, read_window
from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.form import SYSTEM
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import BOOLEAN, choice
from ansible_collections.pgops.runbook.plugins.module_utils._system.retention import RETENTION
from ansible_collections.pgops.runbook.plugins.module_utils._system.rules import check_rules

CLOCK_SKEW = "5 min"
BATCH_TIME = "200 ms"
VACUUM = ("auto", "always", "never")
LONGEST_AGE = 1000 * 365 * 86400.0  # seconds; the cut-off of anything longer leaves the calendar
MOST_BATCH_ROWS = 1_000_000
# The very kinds that a system description is read with.
_RULES = RETENTION.fields["daily"].kind
_STORES = SYSTEM.fields["token_stores"].kind
_TIME_PARTS = ("time_zone", "unit")


@dataclass(frozen=True)
class Options:
    """A clean-up as asked for: `rules` and `token_stores` in the normalised form of a system description, times in seconds."""

    rules: tuple[dict[str, Any], ...]
    token_stores: tuple[dict[str, Any], ...]
    clock_skew: float
    batch_rows: int = 100_000
    batch_seconds: float = 0.2
    max_rows: int | None = None
    max_runtime: float | None = None
    window: Window | None = None
    throttle: Limits = field(default_factory=Limits)
    vacuum: str = "auto"
    vacuum_truncate: bool = False
    allow_unindexed_references: bool = False
    application_name: str = "pgops.runbook/pg_cleanup"


def read_options(parameters: Mapping[str, Any], application_name: str = Options.application_name) -> Options:
    """Return the options among a module's `parameters`; rules and stores may be raw or normalised.

    Raises DescriptionError, which lists every fault with its path (`rules[0].column: ...`).
    """
    faults = Faults()
    rules = _RULES.read([_flat(rule) for rule in parameters.get("rules") or ()], "rules", faults) or []
    stores = _STORES.read(list(parameters.get("token_stores") or ()), "token_stores", faults) or []
    for index, rule in enumerate(rules):
        if rule:
            _check_rule(rule, join("rules", index), stores, faults)
    check_rules(rules, stores, "rules", faults)
    options = Options(
        tuple(rules),
        tuple(stores),
        clock_skew=_seconds(_given(parameters.get("clock_skew"), CLOCK_SKEW), "clock_skew", faults) or 0.0,
        batch_rows=_count(_given(parameters.get("batch_rows"), Options.batch_rows), "batch_rows", faults, MOST_BATCH_ROWS),
        batch_seconds=_seconds(_given(parameters.get("batch_time"), BATCH_TIME), "batch_time", faults) or 0.0,
        max_rows=_optional(_count, parameters.get("max_rows"), "max_rows", faults),
        max_runtime=_optional(_seconds, parameters.get("max_runtime"), "max_runtime", faults),
        window=_optional(_window, parameters.get("window"), "window", faults),
        throttle=read_limits(_given(parameters.get("throttle"), {}), faults),
        vacuum=choice(VACUUM).read(_given(parameters.get("vacuum"), Options.vacuum), "vacuum", faults) or Options.vacuum,
        vacuum_truncate=_switch(parameters, "vacuum_truncate", faults),
        allow_unindexed_references=_switch(parameters, "allow_unindexed_references", faults),
        application_name=application_name,
    )
    for path, seconds in (("max_runtime", options.max_runtime), ("batch_time", options.batch_seconds)):
        if seconds == 0 and not faults.at(path):
            faults.add(path, "0 leaves no time for anything: give a longer one, or leave it out")
    if faults.found:
        raise DescriptionError(faults.found)
    return options


def _flat(rule: Any) -> Any:
    """Return a rule with a zone and a unit written beside the column moved into it, and keys that are not given left out."""
    if not isinstance(rule, dict):
        return rule
    given = {key: value for key, value in rule.items() if value is not None and not (key in _TIME_PARTS and value == "")}
    parts = {key: given.pop(key) for key in _TIME_PARTS if key in given}
    column = given.get("column")
    if parts:
        given["column"] = {**(column if isinstance(column, dict) else {"column": column}), **parts}
    return given


def _check_rule(rule: dict[str, Any], path: str, stores: list[Any], faults: Faults) -> None:
    age = rule["older_than_seconds"]
    if age is not None and age > LONGEST_AGE:
        faults.add(join(path, "older_than"), f"{shown(rule['older_than'])} is longer than 1000 years")
    names = [store["name"] for store in stores if store]
    if rule["protects"] is not None and rule["protects"] not in names:
        known = one_of(rule["protects"], names) if names else f"{shown(rule['protects'])} is not a token store: token_stores is empty"
        faults.add(join(path, "protects"), known)


def _seconds(value: Any, path: str, faults: Faults) -> float | None:
    try:
        seconds = parse_duration(value)
    except InvalidValue as error:
        faults.add(path, error.message)
        return None
    if seconds > LONGEST_AGE:
        faults.add(path, f"{shown(value)} is longer than 1000 years")
    return seconds


def _count(value: Any, path: str, faults: Faults, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        faults.add(path, f"{shown(value)} is not a number of rows from 1" + (f" to {most}" if most else " up"))
        return 1
    return value


def _window(value: Any, path: str, faults: Faults) -> Window | None:
    """Return the window; a survey leaves its keys empty, and one without any is not given."""
    if not isinstance(value, dict):
        return read_window(value, faults, path)
    given = {key: part for key, part in value.items() if part != "" and part is not None}
    return read_window(given, faults, path) if given else None


def _switch(parameters: Mapping[str, Any], path: str, faults: Faults) -> bool:
    return bool(BOOLEAN.read(_given(parameters.get(path), False), path, faults))


def _optional(read: Any, value: Any, path: str, faults: Faults) -> Any:
    """Read a value that may be left out."""
    given = _given(value, None)
    return None if given is None else read(given, path, faults)


def _given(value: Any, default: Any) -> Any:
    """Return `value`, or `default` where it is not given; an empty text, as a survey sends it, is not."""
    return default if value is None or value == "" else value
