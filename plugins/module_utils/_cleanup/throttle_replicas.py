# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How late the receivers of the WAL are: for how long the primary has had WAL that a receiver has not taken yet.

The server's own `replay_lag` is what the last answer of a standby told: it stays as it was when no answer comes, and is NULL
as soon as all is quiet. So it is only believed within the bounds that follow from where the WAL was at which time. A receiver that
has taken all of the WAL is not late, however long ago that was.

A standby takes what it replays, a logical subscriber and a program that keeps WAL what they receive. Base backups do not count.
A slot counts while its receiver is away only where the receiver has been there during this run: it may come back. One that was away
from the beginning is not waited for, because nothing says that it ever will; that is noted. A standby that is late on purpose
(recovery_min_apply_delay) looks like any other.
"""

from __future__ import annotations

import bisect
import math
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle_watch import Facts, Measured, Unseen, Watch, grant
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import wal_bytes

_MOST = 2000  # moments that are remembered: at four a second more than eight minutes of lag, and more of it ever more coarsely

# The functions below the views pg_stat_replication, pg_replication_slots and pg_stat_activity, which cost half as much to plan.
_QUERY = """
SELECT 'replica_lag' AS what, pg_catalog.json_build_object(
    'flushed', NULL, 'pid', w.pid, 'state', w.state, 'sent', w.sent_lsn, 'received', w.write_lsn, 'replayed', w.replay_lsn,
    'lag', pg_catalog.date_part('epoch', w.replay_lag),
    'name', (SELECT a.application_name FROM pg_catalog.pg_stat_get_activity(w.pid) a WHERE w.pid IS NOT NULL),
    'slot', s.slot_name, 'kind', s.slot_type, 'kept', s.restart_lsn, 'confirmed', s.confirmed_flush_lsn) AS facts
FROM pg_catalog.pg_stat_get_wal_senders() w
FULL JOIN pg_catalog.pg_get_replication_slots() s ON s.active_pid OPERATOR(pg_catalog.=) w.pid
WHERE w.pid IS NOT NULL OR (s.active_pid IS NULL AND s.restart_lsn IS NOT NULL AND NOT s.temporary)
UNION ALL
SELECT 'replica_lag', pg_catalog.json_build_object('flushed', pg_catalog.pg_current_wal_flush_lsn())
"""


class WalHistory:
    """Where the WAL of the primary was, and when."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._first: list[float] = []
        self._last: list[float] = []

    def note(self, at: float, position: int) -> None:
        """Remember that the WAL reached to `position` at the time `at` (monotonic seconds)."""
        if self._positions and position <= self._positions[-1]:
            self._last[-1] = at
            return
        if len(self._positions) >= _MOST:
            for moments in (self._positions, self._first, self._last):
                del moments[1::2]
        self._positions.append(position)
        self._first.append(at)
        self._last.append(at)

    def forget(self, taken: int) -> None:
        """Forget what no question will need any more: everything that all receivers have taken."""
        known = bisect.bisect_right(self._positions, taken) - 1
        if known > 0:
            for moments in (self._positions, self._first, self._last):
                del moments[:known]

    def lag(self, at: float, taken: int, said: float | None) -> float:
        """Return for how many seconds, at the time `at`, a receiver that has taken the WAL up to `taken` is late.

        `said` is what the server says about it, if anything.
        """
        index = bisect.bisect_right(self._positions, taken)
        if index == len(self._positions):
            return 0.0
        least = at - self._first[index]
        most = at - self._last[index - 1] if index else math.inf
        return least if said is None else min(max(said, least), most)


class Receivers(Watch):
    """The seconds that the worst receiver is late."""

    name = "replica_lag"
    unit = "s"

    def __init__(self, unseen: Unseen) -> None:
        super().__init__(unseen)
        self._history = WalHistory()
        self._had_receiver: set[str] = set()

    def query(self, database: Any, now: float) -> Any:
        """Ask for every receiver, every slot without one, and the end of the WAL."""
        return database.sql.SQL(_QUERY)

    def measured(self, database: Any, facts: Facts, now: float) -> Measured | None:
        """Return how late the worst of them is; 0 without any."""
        flushed = next(wal_bytes(each["flushed"]) for each in facts if each["flushed"])
        self._history.note(now, flushed)
        worst, least = Measured(0.0), flushed
        for each in facts:
            taken = None if each["flushed"] else self._taken(database, each, flushed)
            if taken is None:
                continue
            lag = self._history.lag(now, wal_bytes(taken), each["lag"])
            least = min(least, wal_bytes(taken))
            if lag > worst.value:
                worst = Measured(lag, _called(each))
        self._history.forget(least)
        return worst

    def _taken(self, database: Any, each: Mapping[str, Any], flushed: int) -> str | None:
        """Return how far a receiver has come, or None where it does not count."""
        slot, pid = each["slot"], each["pid"]
        kept = each["confirmed"] if each["kind"] == "logical" else each["kept"]
        if pid is None:
            return kept if self._may_come_back(each, flushed) else None
        if each["state"] is None:
            reason = "this role may not see how much of the WAL the standbys have replayed"
            self.unseen.note(self.name, reason, grant(database, "pg_monitor"))
        elif each["state"] in ("startup", "backup"):
            return None
        if slot is not None:
            self._had_receiver.add(slot)
        # One that has not answered yet has at least what its slot says.
        received = each["received"] or kept or each["sent"]
        return received if each["kind"] == "logical" else each["replayed"] or received

    def _may_come_back(self, each: Mapping[str, Any], flushed: int) -> bool:
        slot = each["slot"]
        if slot not in self._had_receiver and wal_bytes(each["kept"]) < flushed:
            reason = f"the replication slot {slot} has had no receiver since before this run, so that nothing says how late that one is"
            self.unseen.note(self.name, reason, "Bring its receiver back, or drop the slot: the server keeps all WAL from its position on.")
        return slot in self._had_receiver


def _called(each: Mapping[str, Any]) -> str:
    if each["pid"] is None:
        return f"the receiver of slot {each['slot']}, which is away"
    return f"{each['name'] or 'a receiver'} (process {each['pid']})"
