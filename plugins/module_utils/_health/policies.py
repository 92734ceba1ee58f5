# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Row-level security of the system's tables."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation

_TABLES = """
SELECT n.nspname AS schema, c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced, c.relispartition AS partition,
       pg_get_userbyid(c.relowner)::text AS owner, (SELECT count(*) FROM pg_policy AS p WHERE p.polrelid = c.oid) AS policies
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%(schemas)s::text[])
ORDER BY 1, 2
"""


def _policies(look: Look, limits: Limits) -> Iterable[Reading]:
    if not look.system:
        return skipped("no system description was given")
    security = look.system.get("security") or {}
    declared = {parse_relation(entry["table"]): entry for entry in security.get("rls") or ()}
    required = set(security.get("rls_required") or ())
    schemas = sorted({*(look.system.get("schemas") or ()), *required, *(name.schema for name in declared)})
    tables = {RelationName(row["schema"], row["name"]): row for row in look.rows(_TABLES, {"schemas": schemas})}
    if not declared and not required and not any(row["policies"] for row in tables.values()):
        return skipped("the system declares no row-level security, and no table has a policy")
    application = (look.system.get("database") or {}).get("user")
    readings = []
    for name, row in tables.items():
        must = name in declared or (row["schema"] in required and not row["partition"])
        fault = _fault(row, must, bool(declared.get(name, {}).get("force")), application)
        if fault:
            readings.append(Reading(fault, 1.0, str(name), action=_action(name, row, look)))
    enabled = sum(row["enabled"] for row in tables.values())
    return readings or [Reading(f"row-level security is on for {counted(enabled, 'table')}, and for every one that must have it", 0.0)]


def _fault(row: Mapping[str, Any], must: bool, forced: bool, application: str | None) -> str | None:
    if not row["enabled"]:
        if row["policies"]:
            return f"row-level security is off, so that its {counted(row['policies'], 'policy', 'policies')} do nothing"
        return "row-level security is off, and the system asks for it" if must else None
    if application and row["owner"] == application and not row["forced"]:
        return f"the application logs in as its owner, {application}, for whom no policy counts unless it is forced"
    if forced and not row["forced"]:
        return "row-level security is not forced for the owner, and the system asks for it"
    return None


def _action(name: RelationName, row: Mapping[str, Any], look: Look) -> str | None:
    # What the system says comes first; this is what it takes.
    what = "FORCE" if row["enabled"] else "ENABLE"
    own: Dict[str, Any] = (look.system.get("thresholds") or {}).get("security.rls") or {}
    said = f"{own['action']}. " if own.get("action") else ""
    return f"{said}As the owner, once its policies are right: ALTER TABLE {quoted(*name)} {what} ROW LEVEL SECURITY;"


CHECKS: List[Check] = [
    Check(
        id="security.rls",
        title="Row-level security",
        tier="daily",
        looks_at="Every table that the system declares under security.rls, and every table of the schemas in security.rls_required: is "
        "row-level security on, and forced where it must be; tables that have policies and do not use them; and tables that the "
        "application owns, for which no policy counts.",
        action="Turn row-level security on once the policies are right.",
        needs="nothing: the catalogue is open to every role",
        run=_policies,
        unit="count",
        critical=0,
    ),
]
