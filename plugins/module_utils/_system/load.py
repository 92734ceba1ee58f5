# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a description: from what a person wrote to the one form that everything else works from."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._system.cross import References, check_names
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.form import SYSTEM
from ansible_collections.pgops.runbook.plugins.module_utils._system.rules import check_rules


def load(raw: Any, origin: str | None = None) -> dict[str, Any]:
    """Return the normalised form of a system description; `origin` says in messages where it came from.

    Every section is present, every table carries its schema, every duration `x` has its seconds beside it in
    `x_seconds` and every size its bytes in `x_bytes`. Loading a normalised description gives the same again.
    Raises DescriptionError with every fault.
    """
    if not isinstance(raw, dict):
        raise DescriptionError([f"{shown(raw)} is not a system description: write a mapping with at least a name"], origin=origin)
    faults = Faults()
    system = SYSTEM.read(raw, "", faults) or {}
    check_names(system, faults)
    References(system, faults).check(SYSTEM, _written(raw))
    for schedule, rules in (system.get("retention") or {}).items():
        check_rules(rules or (), system.get("token_stores") or (), f"retention.{schedule}", faults)
    if faults.found:
        raise DescriptionError(list(dict.fromkeys(faults.found)), origin=origin)
    return system


def _written(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return how each table of the schema section is spelled there, by its full name."""
    schema = raw.get("schema")
    tables = schema.get("tables") if isinstance(schema, dict) else None
    written = {}
    for name in tables if isinstance(tables, dict) else ():
        if isinstance(name, str):
            written[_full(name)] = name
    return written


def _full(name: str) -> str:
    try:
        return str(parse_relation(name))
    except InvalidValue:
        # Not a table's name, which is a fault already; it stays as it is.
        return name
