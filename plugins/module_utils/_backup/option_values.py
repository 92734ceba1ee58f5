# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of options that backups and restores read alike; an empty text, as a survey sends it, counts as not given."""

from __future__ import annotations

import os
from typing import Any, Callable, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

MOST_JOBS = 4  # without being asked; more seldom help, and all of them read the source at once
_LARGEST_JOBS = 64


def given(parameters: Mapping[str, Any], option: str, default: Any) -> Any:
    """Return what an option holds, or `default` where it is not given."""
    value = parameters.get(option)
    return default if value is None or value == "" else value


def one_of(parameters: Mapping[str, Any], option: str, allowed: Tuple[str, ...], default: str) -> str:
    """Return an option that is one of the words `allowed`. Raises InvalidValue."""
    value = given(parameters, option, default)
    if value not in allowed:
        raise InvalidValue(f"{option}: {value!r} is not one of {', '.join(allowed)}", object_name=option)
    return str(value)


def quantity(parameters: Mapping[str, Any], option: str, parse: Callable[[Any], Any], default: Any) -> Any:
    """Return what `parse` makes of an option. Raises InvalidValue, which names the option."""
    value = given(parameters, option, None)
    if value is None:
        return default
    try:
        return parse(value)
    except InvalidValue as error:
        raise InvalidValue(f"{option}: {error.message}", object_name=option) from None


def read_jobs(parameters: Mapping[str, Any]) -> int:
    """Return how many processes work at once. Raises InvalidValue."""
    value = given(parameters, "jobs", min(MOST_JOBS, os.cpu_count() or 1))
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_JOBS:
        raise InvalidValue(f"jobs: {value!r} is not a number from 1 to {_LARGEST_JOBS}", object_name="jobs")
    return value


def read_max_runtime(parameters: Mapping[str, Any]) -> float | None:
    """Return how many seconds a run may take, None for as long as it needs. Raises InvalidValue."""
    seconds: float | None = quantity(parameters, "max_runtime", parse_duration, None)
    if seconds == 0:
        raise InvalidValue("max_runtime: 0 leaves no time for anything: give a longer one, or leave it out", object_name="max_runtime")
    return seconds
