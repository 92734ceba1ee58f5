# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a retention rule: which rows of a table go, and what happens to them."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import (
    BOOLEAN,
    COLUMN,
    DURATION,
    TABLE,
    TEXT,
    Scalar,
    Table,
    choice,
    whole,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

SCHEDULES = ("hourly", "daily", "weekly", "monthly", "emergency")
ACTIONS = ("delete", "archive", "soft_delete", "purge", "drop_partitions")
_LIST_OPERATORS = ("in", "not in")
_NULL_OPERATORS = ("is null", "is not null")
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", *_LIST_OPERATORS, *_NULL_OPERATORS)
# The actions that have a key, by the key, and those of them that cannot do without it.
_ONLY_FOR = {"archive": ("archive",), "mark": ("soft_delete", "purge")}
_NEEDED_BY = {"archive": ("archive",), "mark": ("soft_delete",)}


class Operand(Scalar):
    """What a column is compared with: a plain value or a list of them."""

    noun = f"{Scalar.noun}, or a list of those"

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, (list, tuple)):
            return Listing(Scalar()).read(value, path, faults)
        return super().read(value, path, faults)


def _check_condition(condition: dict[str, Any], path: str, faults: Faults) -> None:
    operator, value, at = condition["operator"], condition["value"], join(path, "value")
    if operator is None or faults.at(at):
        return
    if operator in _NULL_OPERATORS:
        if value is not None:
            faults.add(at, f"{shown(value)} is not for {operator}, which compares with nothing: leave it out")
    elif value is None:
        faults.add(at, f"is missing: {CONDITION.fields['value'].doc} by {operator}; is null takes none")
    elif operator in _LIST_OPERATORS and not isinstance(value, list):
        faults.add(at, f"{shown(value)} is not a list: {operator} compares with one")
    elif operator in _LIST_OPERATORS and not value:
        faults.add(at, f"{shown(value)} is empty: at least one is needed")
    elif operator not in _LIST_OPERATORS and isinstance(value, list):
        faults.add(at, f"{shown(value)} is a list, and {operator} compares with one value: write in or not in")


CONDITION = Group(
    "a condition",
    {
        "column": Field(COLUMN, "the column that is compared", required=True),
        "operator": Field(choice(OPERATORS), "how; NULL fulfils only `is null`", default="="),
        "value": Field(Operand(), "what the column is compared with"),
    },
    check=_check_condition,
)

KEEP_LATEST = Group(
    "what stays of each key",
    {
        "rows": Field(
            whole("a number of rows from 1 up", 1),
            "how many of the newest rows of each key stay; of rows as new as each other, all or none",
            required=True,
        ),
        "per": Field(
            Listing(COLUMN, named=ITSELF, least=1),
            "the columns whose values are the key that the rows are counted by",
            required=True,
        ),
    },
)

ARCHIVE = Group(
    "an archive",
    {
        "table": Field(Table(declared=False, foreign=True), "the table that the rows move to", required=True),
        "create": Field(BOOLEAN, "whether it is made, with the columns of the rule's table, where it does not exist", default=False),
    },
)


def _check_mark(mark: dict[str, Any], path: str, faults: Faults) -> None:
    for key in ("time_zone", "unit"):
        if mark["value"] is not None and mark[key] is not None:
            message = "is for the time of deletion, and this mark has a value: leave one of them out"
            faults.add(join(path, key), f"{shown(mark[key])} {message}")


MARK = Group(
    "a mark",
    {
        **TIME.fields,
        "column": Field(COLUMN, "the column: the time of deletion, NULL in a row that is not deleted", required=True),
        "value": Field(Scalar(), "the value of `column` in a deleted row, where it is a flag or a state and no time"),
    },
    check=_check_mark,
)


def _check_rule(rule: dict[str, Any], path: str, faults: Faults) -> None:
    if rule["name"] is None:
        rule["name"] = rule["table"]
    action = rule["action"]
    if action is None:
        return
    for key, actions in _ONLY_FOR.items():
        if rule[key] is not None and action not in actions:
            faults.add(join(path, key), f"is only for action {' or '.join(actions)}, not {action}: leave it out")
        elif rule[key] is None and action in _NEEDED_BY[key] and not faults.at(join(path, key)):
            faults.add(join(path, key), f"is missing: {_WHAT[key]}")
    if action == "drop_partitions":
        for key in ("where", "keep_latest"):
            if rule[key]:
                message = "is not for action drop_partitions, which removes whole partitions whatever is in their rows: leave it out"
                faults.add(join(path, key), message)
    if action == "archive" and rule["archive"] and rule["table"] and rule["archive"]["table"] == rule["table"]:
        faults.add(join(join(path, "archive"), "table"), f"{shown(rule['table'])} is the rule's own table: name another one")
    _check_marked_column(rule, path, faults)


def _check_marked_column(rule: dict[str, Any], path: str, faults: Faults) -> None:
    marked = (rule["mark"] or {}).get("column") if rule["action"] == "soft_delete" else None
    if marked is not None and marked == (rule["column"] or {}).get("column"):
        message = "is the column that the rule's age counts from, and a mark would change it: name another one"
        faults.add(join(path, "mark"), f"{shown(marked)} {message}")


_WHAT = {"archive": "the table that the rows move to", "mark": "how a row says that it is deleted"}

RULE = Group(
    "a retention rule",
    {
        "name": Field(TEXT, "what results call it; the table where it is left out"),
        "table": Field(TABLE, "the table to clean", required=True),
        "column": Field(TIME, "the time that a row's age counts from", required=True),
        "older_than": Field(DURATION, "the age at which a row goes", required=True),
        "where": Field(Listing(CONDITION), "only rows that fulfil all of these go", default=[]),
        "keep_latest": Field(KEEP_LATEST, "the newest rows of each key stay, however old they are"),
        "action": Field(
            choice(ACTIONS),
            "what happens to the rows: they are deleted; moved to an archive; marked as deleted; deleted if they are marked; "
            "or dropped with their whole partitions",
            default="delete",
        ),
        "archive": Field(ARCHIVE, f"for `archive`: {_WHAT['archive']}"),
        "mark": Field(MARK, f"for `soft_delete` and `purge`: {_WHAT['mark']}; for `purge` the rule's `column` where it is left out"),
        "protects": Field(TEXT, "the token store whose revoked tokens must stay revoked; set by itself for the tables of a deny list"),
    },
    check=_check_rule,
)

RETENTION = Group(
    "retention",
    {name: Field(Listing(RULE, named="name"), f"rules of the {name} run, in order", default=[]) for name in SCHEDULES},
)
