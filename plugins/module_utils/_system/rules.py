# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the retention rules of one run say about each other and about the token stores."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._system.cross import Part, parts
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import COLUMN, Table
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME
from ansible_collections.pgops.runbook.plugins.module_utils._system.tokens import TOKEN_STORE


def check_rules(rules: Sequence[Any], stores: Sequence[Any], path: str, faults: Faults) -> None:
    """Note what is wrong with the `rules` at `path`, which one run carries out, beside each other and beside the token stores.

    Rules and stores are read, and None where they could not be. Fills in the marks of rules that purge and name none.
    """
    known = StoreTables(stores)
    marks: dict[str, tuple[int, Any]] = {}
    for number, rule in enumerate(rules):
        if not rule:
            continue
        at = join(path, number)
        if rule["action"] == "purge" and rule["mark"] is None and rule["column"]:
            rule["mark"] = {**rule["column"], "value": None}
        if rule["action"] == "archive" and rule["archive"]:
            _check_archive(rule["archive"]["table"], number, rules, known, path, faults)
        if rule["action"] == "soft_delete" and rule["mark"]:
            _check_mark(rule, at, known, faults)
            first, mark = marks.setdefault(rule["table"], (number, rule["mark"]))
            if mark != rule["mark"]:
                reason = "a row that one of them has marked would not be marked for the other"
                faults.add(join(at, "mark"), f"differs from the mark of {join(path, first)}, which is about the same table: {reason}")


def _check_archive(table: str | None, number: int, rules: Sequence[Any], stores: StoreTables, path: str, faults: Faults) -> None:
    at = join(join(join(path, number), "archive"), "table")
    if table == rules[number]["table"]:
        return
    if table in stores.tables:
        advice = "which would take the rows for its own: name a table that is only an archive"
        faults.add(at, f"{shown(table)} belongs to the token store {stores.tables[table]}, {advice}")
    others = [join(path, other) for other, rule in enumerate(rules) if other != number and rule and rule["table"] == table]
    if table and others:
        reason = "which would remove from the archive what this run has just moved there: clean it up in another run"
        faults.add(at, f"{shown(table)} is the table of {others[0]}, {reason}")


def _check_mark(rule: dict[str, Any], path: str, stores: StoreTables, faults: Faults) -> None:
    column = rule["mark"]["column"]
    reader = stores.columns.get((rule["table"], column))
    if column is not None and reader:
        danger = "a soft delete that writes to it could make a revoked token valid again: name a column that no store reads"
        faults.add(join(path, "mark"), f"{shown(column)} is read by the token store {reader}: {danger}")


class StoreTables:
    """The tables of token stores and the columns that they read there, each with the store that does and the key that says so."""

    def __init__(self, stores: Sequence[Any]) -> None:
        self.tables: dict[Any, str] = {}
        self.columns: dict[tuple[Any, Any], str] = {}
        for store in stores:
            for part in parts(Part(TOKEN_STORE, store, "", None), {}) if store else ():
                words = f"{shown(store['name'])} ({part.path})"
                if isinstance(part.kind, Table):
                    self.tables.setdefault(part.value, words)
                elif part.kind is COLUMN:
                    self.columns.setdefault((part.table, part.value), words)
                elif part.kind is TIME:
                    self.columns.setdefault((part.table, part.value["column"]), words)
