# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what must exist: tables with their columns, keys, indexes and checks."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import BOOLEAN, COLUMN, TABLE, TEXT, Choice, Kind, Table, Text

# The types of more than one word are listed, so that a word out of place is not taken for a part of one.
_TYPE = (
    r"(?!(?:not|null|default)\b)(?:double\s+precision|(?:character|bit)\s+varying|\w+(?:\.\w+)?|\"[^\"]+\"(?:\.\"[^\"]+\")?)"
    r"(?:\s*\([\w, ]+\))?(?:\s+with(?:out)?\s+time\s+zone)?(?:\[\d*\])*"
)
_WRITTEN = re.compile(
    rf"(?P<type>{_TYPE})"
    r"(?P<nullable>\s+(?:not\s+)?null)?(?:\s+default\s+(?P<default>.+?))?(?P<late>\s+(?:not\s+)?null)?",
    re.IGNORECASE | re.DOTALL,
)
# Functions whose result changes with time, which PostgreSQL refuses in an index predicate.
_CHANGING = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random)\s*\(|\bcurrent_(date|time|timestamp)\b",
    re.IGNORECASE,
)
INDEXED_COLUMN = re.compile(r'(?P<name>"(?:[^"]|"")+"|[\w$]+)(?:\s+(?:asc|desc|nulls|first|last|[a-z]+_ops))*', re.IGNORECASE)

ACTIONS = ("no_action", "restrict", "cascade", "set_null", "set_default")


class Column(Kind):
    """A column: `uuid not null default gen_random_uuid()`, or a mapping with type, nullable and default."""

    noun = "a column such as uuid not null"
    mapping = Group(
        "a column",
        {
            "type": Field(TEXT, "its type, as SQL writes it", required=True),
            "nullable": Field(BOOLEAN, "whether it may be NULL", default=True),
            "default": Field(TEXT, "its default, as SQL writes it"),
        },
    )

    def read(self, value: Any, path: str, faults: Faults) -> dict[str, Any] | None:
        if not isinstance(value, str):
            return self.mapping.read(value, path, faults)
        match = _WRITTEN.fullmatch(value.strip())
        if match is None:
            self.refuse(value, path, faults)
            return None
        null = (match.group("nullable") or match.group("late") or "null").lower()
        return {"type": match.group("type"), "nullable": "not" not in null, "default": match.group("default")}


def check_index(index: dict[str, Any], path: str, faults: Faults) -> None:
    """Refuse a predicate that PostgreSQL refuses because its truth changes with time."""
    changing = _CHANGING.search(index["where"] or "")
    if changing:
        faults.add(
            join(path, "where"),
            f"{changing.group().strip('( ')!r} is not allowed in the predicate of an index: its value changes with time",
        )


class IndexedColumn(Text):
    """A column of an index, perhaps with its direction, or an expression."""

    def __init__(self) -> None:
        super().__init__("a column or an expression")


COLUMNS = Listing(COLUMN, named=ITSELF, least=1)

INDEX_FIELDS = {
    "name": Field(TEXT, "its name", required=True),
    "columns": Field(Listing(IndexedColumn(), least=1), "its columns in order, with `desc` where one descends", required=True),
    "unique": Field(BOOLEAN, "whether it allows a value once only", default=False),
    "include": Field(Listing(COLUMN, named=ITSELF), "columns that it carries without sorting by them", default=[]),
    "where": Field(TEXT, "the predicate of a partial index"),
    "method": Field(Choice("btree", "hash", "gin", "gist", "brin", "spgist"), "its access method", default="btree"),
}

INDEX = Group("an index", INDEX_FIELDS, check=check_index)

FOREIGN_KEY = Group(
    "a foreign key",
    {
        "name": Field(TEXT, "its name, where it matters"),
        "columns": Field(COLUMNS, "the columns", required=True),
        "references": Field(
            Group(
                "a reference",
                {
                    "table": Field(TABLE, "the table", required=True),
                    "columns": Field(COLUMNS, "its columns", required=True),
                },
            ),
            "what they refer to",
            required=True,
        ),
        "on_delete": Field(Choice(*ACTIONS), "what happens when the row referred to goes", default="no_action"),
        "on_update": Field(Choice(*ACTIONS), "what happens when its key changes", default="no_action"),
    },
)

CHECK = Group(
    "a check",
    {
        "name": Field(TEXT, "its name, where it matters"),
        "expression": Field(TEXT, "what must hold, as SQL writes it", required=True),
    },
    short="expression",
)

PARTITION_BY = Group(
    "a partitioning",
    {
        "how": Field(Choice("range", "list", "hash"), "how rows are divided", required=True),
        "columns": Field(COLUMNS, "by which columns", required=True),
    },
)


def _check_table(table: dict[str, Any], path: str, faults: Faults) -> None:
    columns = table["columns"]
    if not columns:
        return
    _named(table["primary_key"], columns, join(path, "primary_key"), faults)
    for number, names in enumerate(table["unique"] or []):
        _named(names, columns, join(join(path, "unique"), number), faults)
    for number, index in enumerate(table["indexes"] or []):
        if index is not None:
            _index_columns(index, columns, join(join(path, "indexes"), number), faults)
    for number, key in enumerate(table["foreign_keys"] or []):
        if key is not None:
            _named(key["columns"], columns, join(join(join(path, "foreign_keys"), number), "columns"), faults)
    if table["partition_by"]:
        _check_partitioning(table, path, faults)


def _check_partitioning(table: dict[str, Any], path: str, faults: Faults) -> None:
    by = table["partition_by"]["columns"]
    _named(by, table["columns"], join(join(path, "partition_by"), "columns"), faults)
    key = table["primary_key"]
    missing = [name for name in by or [] if name is not None and name not in key] if key else []
    if missing:
        advice = "the key of a partitioned table holds the columns that divide it"
        faults.add(join(path, "primary_key"), f"{shown(key)} lacks {', '.join(missing)}: {advice}")


def _named(names: list[Any] | None, columns: dict[str, Any], path: str, faults: Faults) -> None:
    for number, name in enumerate(names or []):
        if name is not None and name not in columns:
            faults.add(join(path, number), one_of(name, columns, "the columns"))


def _index_columns(index: dict[str, Any], columns: dict[str, Any], path: str, faults: Faults) -> None:
    for number, text in enumerate(index["columns"] or []):
        match = INDEXED_COLUMN.fullmatch(text) if isinstance(text, str) else None
        # Anything that is not a bare column is an expression, which only the server can judge.
        name = match.group("name").strip('"').replace('""', '"') if match else None
        if name is not None and name not in columns:
            faults.add(join(join(path, "columns"), number), one_of(name, columns, "the columns"))
    _named(index["include"], columns, join(path, "include"), faults)


TABLE_FORM = Group(
    "a table",
    {
        "columns": Field(Named(Text("a column name"), Column()), "its columns, each `type [not null] [default …]`", required=True),
        "primary_key": Field(COLUMNS, "the columns of its primary key"),
        "unique": Field(Listing(COLUMNS), "column lists that allow a combination once only", default=[]),
        "indexes": Field(Listing(INDEX, named="name"), "its indexes", default=[]),
        "foreign_keys": Field(Listing(FOREIGN_KEY), "its foreign keys", default=[]),
        "checks": Field(Listing(CHECK), "its checks", default=[]),
        "row_level_security": Field(BOOLEAN, "whether row-level security must be on", default=False),
        "partition_by": Field(PARTITION_BY, "how it is partitioned"),
        "optional": Field(BOOLEAN, "whether a database without it is right as well", default=False),
        "partial": Field(BOOLEAN, "whether it has further columns that are not declared", default=False),
    },
    check=_check_table,
)

SCHEMA = Group(
    "a schema",
    {
        "tables": Field(Named(TABLE, TABLE_FORM), "the tables", default={}),
        "views": Field(Listing(Table(declared=False), named=ITSELF), "views that must exist", default=[]),
        "functions": Field(Listing(TEXT, named=ITSELF), "functions that must exist", default=[]),
    },
)
