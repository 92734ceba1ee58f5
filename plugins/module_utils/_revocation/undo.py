# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One revocation taken back, from the look at its record to the result."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._revocation import reinstate as engine
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.audit import Audit
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Journal, Record
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import REINSTATED, Options


def reinstate(database: Any, options: Options, *, check_mode: bool) -> dict[str, Any]:
    """Take back the revocation that `options` name and return the result; in check mode only say what would come back.

    A revocation that has been taken back already stays so, and nothing is changed.
    """
    journal, revocation_id = Journal(database, options.journal), options.revocation_id or ""
    audit = Audit(database, options.audit)
    if check_mode:
        with database.transaction(read_only=True, snapshot=True):
            record = engine.find(journal, revocation_id)
            audit.require_writable()
            undone = [] if record.reinstated else engine.preview(database, journal, revocation_id)
            return _result(database, options, journal, record, undone)
    record = engine.find(journal, revocation_id)
    audit.require_writable()
    if record.reinstated:
        return _result(database, options, journal, record, [])
    audit.create()
    with database.transaction():
        audit.begin(REINSTATED, revocation_id, options.requested_by, options.reason, {})
        undone = engine.take_back(database, journal, revocation_id, options.requested_by, options.reason)
        audit.end(REINSTATED, revocation_id, {"reinstated": sum(one.reinstated for one in undone)})
    return _result(database, options, journal, record, undone)


def _result(database: Any, options: Options, journal: Journal, record: Record, undone: list[engine.Undone]) -> dict[str, Any]:
    later = journal.later(record)
    warnings = []
    if later and undone:
        warnings.append(
            f"{', '.join(later)} began after {record.revocation_id}: tokens that they selected too, and found revoked, are accepted again"
        )
    left = sum(one.rows - one.reinstated for one in undone)
    if left:
        warnings.append(f"{left} rows were changed, removed or made anew since, and were left as they are")
    return {
        "changed": any(one.reinstated for one in undone),
        "state": REINSTATED,
        "revocation_id": record.revocation_id,
        "reason": options.reason,
        "requested_by": options.requested_by,
        "role": database.user,
        "revoked_because": record.reason,
        "revoked_at": record.began_at,
        "was_reinstated": record.reinstated,
        "reinstated": sum(one.reinstated for one in undone),
        "left": left,
        "changes": [one.as_result() for one in undone],
        "later": later,
        "warnings": warnings,
    }
