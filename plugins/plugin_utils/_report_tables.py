# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The details of a result as tables: the known ones in their order with their words, any other as it comes."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.plugin_utils._charts import number
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_result import Result, mappings
from ansible_collections.pgops.runbook.plugins.plugin_utils._report_words import amount, epoch, moment, tidy

MOST_ROWS = 50
MOST_COLUMNS = 8
MOST_TABLES = 24
_MOST_CELL = 240

# The name of a detail, its heading.
_TITLES = (
    ("blocking", "Who blocks whom"),
    ("clients", "Clients"),
    ("statements", "Statements"),
    ("hot", "Updates within the page (HOT)"),
    ("standbys", "Standbys"),
    ("slots", "Replication slots"),
    ("horizon", "What holds the xmin horizon"),
    ("bloat", "Bloat"),
    ("backups", "Backups"),
    ("settings", "Settings"),
)
_WORDS = {
    "total_ms": "total",
    "mean_ms": "mean",
    "share_pct": "share",
    "bloat_bytes": "bloat",
    "bloat_pct": "bloat %",
    "hot_pct": "HOT",
    "longest_seconds": "longest",
    "is_estimate": "estimate",
    "queryid": "query id",
    "bytes": "size",
    "seconds": "took",
}
# Said once above the table, or of no use to a reader.
_LEFT_OUT = ("since", "stats_since")
_ENDINGS = (("_bytes", "bytes"), ("_pct", "percent"), ("_seconds", "seconds"), ("_ms", "milliseconds"))


def tables(result: Result) -> List[Dict[str, Any]]:
    """Return a table for each detail that has rows, and one of the system's tables."""
    found = []
    titles = dict(_TITLES)
    names = [name for name, _title in _TITLES] + sorted(str(name) for name in result.details if name not in titles)
    for name in names[:MOST_TABLES]:
        rows = result.detail(name)
        if rows:
            found.append(_table(titles.get(name) or tidy(name.replace("_", " ").capitalize(), 60), rows))
    sizes = sorted(mappings(result.raw.get("tables")), key=lambda one: -(number(one.get("bytes")) or 0.0))
    if sizes:
        found.append(_table("Tables of the system", [_size_row(one) for one in sizes]))
    return found


def _size_row(one: Mapping[str, Any]) -> Dict[str, Any]:
    rows = amount(one.get("rows"))
    return {
        "table": one.get("table"),
        "rows": f"about {rows}" if one.get("rows_is_estimate") and one.get("rows") is not None else rows,
        "bytes": one.get("bytes"),
    }


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    columns = [str(column) for column in dict.fromkeys(key for one in rows for key in one) if column not in _LEFT_OUT][:MOST_COLUMNS]
    cells = [[_cell(column, one.get(column)) for column in columns] for one in rows[:MOST_ROWS]]
    numeric = [all(numbers for numbers in (row[place][1] for row in cells)) for place in range(len(columns))]
    return {
        "title": title,
        "head": [
            {"word": tidy(_WORDS.get(column) or column.replace("_", " "), 40), "numeric": one} for column, one in zip(columns, numeric)
        ],
        "rows": [[text for text, _numbers in row] for row in cells],
        "more": max(0, len(rows) - MOST_ROWS),
    }


def _cell(column: str, value: Any) -> Tuple[str, bool]:
    """Return the text of a cell, and whether it is a number or nothing."""
    if value is None or value == "":
        return "-", True
    if isinstance(value, bool):
        return "yes" if value else "no", False
    if isinstance(value, (list, tuple)):
        return tidy(", ".join(tidy(one, 60) for one in value[:10]), _MOST_CELL), False
    if isinstance(value, (int, float)):
        if column.endswith("id") or column in ("pid", "port"):
            return tidy(value, _MOST_CELL), True
        unit = column if column in ("bytes", "seconds") else next((unit for ending, unit in _ENDINGS if column.endswith(ending)), None)
        return (amount(value / 1000, "seconds") if unit == "milliseconds" else amount(value, unit)), True
    if column.endswith("_at") and epoch(value) is not None:
        return moment(value), False
    return tidy(value, _MOST_CELL if column != "text" else 2 * _MOST_CELL) or "-", False
