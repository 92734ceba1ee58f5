# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that fail, repeat each other, serve nobody or are missing, and constraints that hold for new rows alone."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.indexes_duplicate import DUPLICATE
from ansible_collections.pgops.runbook.plugins.module_utils._health.indexes_invalid import INVALID
from ansible_collections.pgops.runbook.plugins.module_utils._health.indexes_missing import UNINDEXED
from ansible_collections.pgops.runbook.plugins.module_utils._health.indexes_order import CORRELATION
from ansible_collections.pgops.runbook.plugins.module_utils._health.indexes_unused import UNUSED
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import part_of, scope

# A constraint that is not enforced (PostgreSQL 18) is never valid, by intent.
_NOT_VALID = """
SELECT n.nspname, coalesce(t.relname, d.typname) AS relname, t.oid IS NULL AS of_domain, k.conname, k.contype,
       coalesce(t.relpages, 0)::int8 * current_setting('block_size')::int AS bytes
FROM pg_constraint k LEFT JOIN pg_class t ON t.oid = k.conrelid LEFT JOIN pg_type d ON d.oid = k.contypid
JOIN pg_namespace n ON n.oid = coalesce(t.relnamespace, d.typnamespace)
WHERE NOT k.convalidated AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' AND (k.conislocal OR k.coninhcount = 0)
  AND k.conparentid = 0
  AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
ORDER BY 6 DESC, 1, 2, 4
"""
_KINDS = {"c": "check constraint", "f": "foreign key", "n": "not-null constraint"}


def _not_valid(look: Look, limits: Limits) -> Iterable[Reading]:
    return [_reading(row) for row in look.rows(_NOT_VALID, scope(look))] or [Reading("every constraint is validated", 0.0)]


def _reading(row: Mapping[str, Any]) -> Reading:
    what = "DOMAIN" if row["of_domain"] else "TABLE"
    kind = _KINDS.get(row["contype"], "constraint")
    message = f"the {kind} is NOT VALID: it holds for rows written since, and nobody has looked at those from before"
    name = quoted(row["nspname"], row["relname"])
    action = f"As the owner: ALTER {what} {name} VALIDATE CONSTRAINT {quoted(row['conname'])}; reads the table once."
    return Reading(message, 1.0, part_of(row["nspname"], row["relname"], row["conname"]), action=action)


NOT_VALID = Check(
    id="constraint.not_valid",
    title="Constraints that are not validated",
    tier="weekly",
    looks_at="pg_constraint: check constraints, foreign keys and not-null constraints of tables and domains that were added NOT VALID and "
    "never validated. Those that are declared NOT ENFORCED are left out.",
    action="Validate the constraint; where that fails, correct the rows that break it.",
    needs="nothing",
    run=_not_valid,
    unit="count",
    warning=0,
)
CHECKS: List[Check] = [INVALID, DUPLICATE, UNUSED, CORRELATION, UNINDEXED, NOT_VALID]
