# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps the server from removing dead rows: what may still want to see them, oldest first."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._horizon import HOLDERS

SHOWN = 5  # holders in a result: the oldest is the one that counts, the next ones say what comes after it


@dataclass(frozen=True)
class Holder:
    """What holds the horizon back: `kind` is session, standby (a sender of WAL), slot, prepared or setting.

    `name` is its application_name, the slot's name, the gid or the setting's name; `since` None where the role may not see it;
    `transactions` how many came after what it may still want to see.
    """

    kind: str
    name: str
    pid: int | None
    role: str | None
    since: str | None
    transactions: int

    def as_result(self) -> dict[str, Any]:
        """Return what a person needs to find it."""
        return asdict(self)


def holders(database: Any) -> tuple[Holder, ...]:
    """Return what holds back the removal of dead rows of this database now, oldest first. Raises DatabaseError."""
    return tuple(Holder(**{each.name: row[each.name] for each in fields(Holder)}) for row in _of_this_database(database.value(HOLDERS)))[
        :SHOWN
    ]


def _of_this_database(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what concerns rows of tables here: a slot does whatever its database, unless it is for the catalogue alone."""
    for row in rows:
        slot = row["kind"] == "slot"
        if (row["transactions"] or 0) > 0 and (slot or row["here"] is not False):
            yield {**row, "since": None} if slot else row
