# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the server from removing dead rows, and for how long, named so that the next run finds it under the same name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._horizon import HOLDERS

HORIZON = Fact("horizon", HOLDERS)
# The next transaction id, over its epochs; whether this server tells the one above it what its sessions still want to see.
CLOCK = Fact(
    "transaction_ids",
    """
SELECT json_build_object('next', txid_snapshot_xmax(txid_current_snapshot()),
    'feedback', current_setting('hot_standby_feedback')::boolean)
""",
)
ASSIGNED = "xid.assigned_total"
_LISTED = 50


@dataclass(frozen=True)
class Holder:
    """What holds the horizon back by so many transaction ids (`xids`). `name` is the same in the next run.

    `kind` is session, prepared, slot, standby or setting. `seconds` is for how long, of a slot for how long at least: None where nobody
    knows; `hidden` is whether only the role does not. `estimate` is what the pace at which ids are given away suggests, where nothing
    else is known: a quiet hour makes it far too long. `catalogue` is whether rows of the catalogue alone have to stay.
    """

    kind: str
    name: str
    xids: int
    seconds: float | None
    hidden: bool
    catalogue: bool
    facts: Mapping[str, Any]
    estimate: float | None = None

    @property
    def title(self) -> str:
        """What a person calls it."""
        facts = self.facts
        if self.kind == "session":
            state = facts["what"] if facts["what"] not in (None, "client backend") else facts["state"]
            using = ", ".join(each for each in (facts["name"], state) if each)
            user = f" of {facts['role']}" if facts["role"] else ""
            return f"process {facts['pid']}{user} in {facts['database']}{f', {using}' if using else ''}"
        if self.kind == "prepared":
            return f"the prepared transaction {facts['name']} of {facts['role']} in {facts['database']}"
        if self.kind == "slot":
            column = "catalog_xmin" if self.catalogue else "xmin"
            return f"the {facts['what']} slot {facts['name']} ({facts['state']}) by its {column}"
        if self.kind == "standby":
            return f"the standby {facts['name'] or 'without a name'} by its feedback"
        return f"the setting {facts['name']}"


def holders(look: Look) -> List[Holder]:
    """Return all that hold the horizon back, furthest first. Sessions of one role and application have the same name."""
    rate = look.history.rate(ASSIGNED, float(look.fact(CLOCK)["next"]), look.now)
    found = [_timed(_holder(row), rate[0] if rate else 0.0) for row in look.fact(HORIZON)]
    found.sort(key=lambda holder: -holder.xids)
    look.details.setdefault("horizon", []).extend(_row(holder) for holder in found[:_LISTED])
    return found


def _holder(row: Mapping[str, Any]) -> Holder:
    kind, ids, catalogue = row["kind"], row["transactions"] or 0, row["catalog"] or 0
    name = f"{kind} {row['name']}"
    if kind == "session":
        name = f"session {row['role'] or row['what']}{'/' + row['name'] if row['name'] else ''}"
    hidden = kind == "session" and row["what"] is None
    return Holder(kind, name, max(ids, catalogue), row["seconds"], hidden, catalogue > ids, row)


def _timed(holder: Holder, rate: float) -> Holder:
    exact = holder.kind in ("session", "prepared")
    return holder if exact or rate <= 0 else replace(holder, estimate=holder.xids / rate)


def _row(holder: Holder) -> Dict[str, Any]:
    held = None if holder.seconds is None else round(holder.seconds, 1)
    ids = {"transactions": holder.xids, "held_seconds": held, "catalogue_only": holder.catalogue}
    return {"holder": holder.title, "kind": holder.kind, **ids}
