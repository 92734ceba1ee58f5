# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run knew of the tokens that it has deleted itself: what is committed later may still follow one of them.

It lasts as long as the session. A run that goes on after another one was killed does not know what that one had deleted: what
followed those tokens and was committed only afterwards is found by neither.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.matched import FOLLOWED_FROM, Matched
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, Selection, TokenStore

_TABLE = "pgops_remembered"


class Remembered:
    """The selected tokens of a store that deletes: of each, the columns by which others follow it or refer to it, under their own names.

    Beside them the instant from which it is followed: that of its issue, or of the one that it followed where its own is not known.
    `found` are those of the latest look.
    """

    def __init__(self, database: Any, store: TokenStore, number: int) -> None:
        """Make the table, `number` is its own."""
        self.database = database
        self.found: Matched | None = None
        sql, name = database.sql, f"{_TABLE}_{number}"
        self.table = sql.Identifier("pg_temp", name)
        self._columns = sql.SQL(", ").join(sql.Identifier(TOKEN, column) for column in _columns(store))
        database.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {}, NULL::timestamptz AS {} FROM {} AS {} WITH NO DATA").format(
                sql.Identifier(name),
                self._columns,
                sql.Identifier(FOLLOWED_FROM),
                store.tokens.name.identifier(sql),
                sql.Identifier(TOKEN),
            )
        )

    def add(self) -> None:
        """Remember the tokens that `found` selects now."""
        sql = self.database.sql
        if self.found is None:
            return
        self.database.execute(
            sql.SQL("INSERT INTO {table} SELECT * FROM ({found}) AS found_ EXCEPT SELECT * FROM {table}").format(
                table=self.table, found=self.found.to_remember(sql, self._columns)
            )
        )
        self.database.execute(sql.SQL("ANALYZE {}").format(self.table))


def leaves_behind(store: TokenStore, selection: Selection) -> bool:
    """Return whether rows are found through tokens that a revocation deletes."""
    chained = not selection.all and (store.token_column("family") or store.token_column("renewed_from"))
    return store.how == "delete" and bool(chained or store.written.get("dependents") or store.written.get("allowlist"))


def _columns(store: TokenStore) -> list[str]:
    fields = [store.id, store.token_column("family")]
    referenced = [entry["references"] for entry in store.written.get("dependents") or ()]
    # Each once.
    return list(dict.fromkeys([*(column.name for column in fields if column), *referenced]))
