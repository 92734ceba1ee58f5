# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: is everything there that the system names."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import READABLE_KINDS, catalogue, declared
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted


def _present(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.system:
        return skipped("no system description was given")
    needed = declared(look.system)
    found = look.seen(catalogue)
    absent = {name.schema for name, relation in found.items() if not relation.schema_exists}
    readings = [Reading("the schema does not exist, nor anything in it", object_name=schema, status=CRITICAL) for schema in sorted(absent)]
    for name, columns in needed.items():
        relation = found[name]
        if name.schema in absent:
            continue
        if not relation.exists:
            readings.append(Reading("the table does not exist", object_name=str(name), status=CRITICAL))
        elif relation.kind not in READABLE_KINDS:
            readings.append(Reading(f"it is a {relation.kind_name}, which has no rows", object_name=str(name), status=CRITICAL))
        else:
            lacking = sorted(columns - set(relation.columns or ()))
            readings += [
                Reading(f"the column {column} does not exist", object_name=f"{name}.{column}", status=CRITICAL) for column in lacking
            ]
    return readings or [Reading(f"{counted(len({name.schema for name in found}), 'schema')} and {counted(len(needed), 'table')} found")]


CHECKS: List[Check] = [
    Check(
        id="schema.present",
        title="The schemas, tables and columns of the system exist",
        tier="hourly",
        looks_at="The catalogue, for every schema, every table that is not optional, and the columns that token stores, login flows "
        "and retention rules work with. An archive counts unless its rule would make it.",
        action="Restore what is missing or run the migration that creates it; look whether this is the right database.",
        needs="nothing: the catalogue is open to every role",
        decides={"critical": "anything missing"},
        run=_present,
    ),
]
