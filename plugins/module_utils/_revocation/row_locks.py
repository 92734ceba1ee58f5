# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that can only be changed together, locked before the first of them is: an application that holds one for a moment is waited for."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import STAGE
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange


def lock_rows(database: Any, change: RowChange, stage: Any) -> int:
    """Lock the rows that `stage` has set aside for `change`, until the transaction ends, and return how many still stand there.

    Waits for whoever holds one, no longer than lock_timeout. Raises DatabaseError.
    """
    sql = database.sql
    row, staged = sql.Identifier(change.alias), sql.Identifier(STAGE)
    # Written so that the server goes to the places, and not through the whole table.
    return int(
        database.value(
            sql.SQL(
                "SELECT pg_catalog.count(*) FROM (SELECT FROM {source} AS {staged} JOIN {table} AS {row}"
                " ON {row}.ctid = {staged}.place AND {row}.tableoid = {staged}.relid FOR UPDATE OF {row}) AS locked_"
            ).format(source=stage, staged=staged, table=change.relation.name.identifier(sql), row=row)
        )
    )
