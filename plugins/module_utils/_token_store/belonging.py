# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of a table are tokens of a store: several stores may share one, told apart by the values of some columns."""

from __future__ import annotations

from typing import Any, Mapping


def belongs(sql: Any, table: Mapping[str, Any], alias: str) -> Any:
    """Return the condition under which the row with the alias `alias` is one that `table` means: its `where`, as written.

    `table` are the tokens of a store, or rows that go with them.
    """
    parts = [
        sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(sql.Identifier(alias, column), sql.Literal(_text(value)))
        for column, value in (table.get("where") or {}).items()
    ]
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
