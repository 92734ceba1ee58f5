# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one part of a description says about another: tables, columns, stores and windows that must exist, and what each time means."""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, NamedTuple

from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, join, one_of, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import Choices, Group, Listing, Named
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import COLUMN, Kind, Table
from ansible_collections.pgops.runbook.plugins.module_utils._system.retention import ARCHIVE, MARK
from ansible_collections.pgops.runbook.plugins.module_utils._system.tables import INDEXED_COLUMN, IndexedColumn
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME

# How SQL spells the types that hold a time, with or without a precision.
_WALL_CLOCK = re.compile(r"timestamp(\s*\(\d\))?(\s+without\s+time\s+zone)?|date", re.IGNORECASE)
_INSTANT = re.compile(r"timestamptz(\s*\(\d\))?|timestamp(\s*\(\d\))?\s+with\s+time\s+zone", re.IGNORECASE)
_INTEGER = re.compile(r"(big|small)?int(eger)?|int[248]", re.IGNORECASE)


class Part(NamedTuple):
    """One value in a description, and the table that its columns belong to."""

    kind: Kind
    value: Any
    path: str
    table: str | None


class References:
    """Looks a read description through for references that go nowhere."""

    def __init__(self, system: Mapping[str, Any], faults: Faults) -> None:
        self.system, self.faults = system, faults
        tables = (system.get("schema") or {}).get("tables") or {}
        self.tables: dict[str, Any] = {name: table for name, table in tables.items() if table is not None}
        self.schemas = [name for name in system.get("schemas") or [] if name is not None]

    def check(self, form: Group, written: Mapping[str, str]) -> None:
        """Note every fault and fill in the zones of time columns; `written` has the tables' names as their keys spell them."""
        for part in parts(Part(form, self.system, "", None), written):
            if isinstance(part.kind, Table):
                self._table(part)
            elif part.kind is ARCHIVE:
                self._archive(part)
            elif part.kind is COLUMN and part.table in self.tables:
                self._column(str(part.value), part)
            elif isinstance(part.kind, IndexedColumn) and part.table in self.tables:
                self._indexed(part)
            elif _is_time(part):
                self._time(part)

    def _table(self, part: Part) -> None:
        if part.value == "*":
            return
        schema = parse_relation(part.value).schema
        foreign = isinstance(part.kind, Table) and part.kind.foreign
        if foreign and schema not in self.schemas:
            return
        if self.schemas and schema not in self.schemas:
            self.faults.add(part.path, f"{shown(part.value)} is in schema {schema}, which is not one of schemas: {', '.join(self.schemas)}")
        elif isinstance(part.kind, Table) and part.kind.declared and self.tables and part.value not in self.tables:
            self.faults.add(part.path, one_of(part.value, self.tables, "the tables of schema.tables"))

    def _archive(self, part: Part) -> None:
        table = part.value["table"]
        in_system = table is not None and parse_relation(table).schema in self.schemas
        if in_system and not part.value["create"] and self.tables and table not in self.tables:
            listed = one_of(table, self.tables, "the tables of schema.tables")
            self.faults.add(join(part.path, "table"), f"{listed}; write create: true where it is to be made")

    def _columns_of(self, table: str | None) -> dict[str, Any] | None:
        declared = self.tables.get(table or "")
        return (declared.get("columns") or None) if declared else None

    def _column(self, name: str, part: Part) -> bool:
        columns = self._columns_of(part.table)
        if columns is None or name in columns:
            return True
        self.faults.add(part.path, one_of(name, columns, f"the columns of {part.table}"))
        return False

    def _indexed(self, part: Part) -> None:
        match = INDEXED_COLUMN.fullmatch(part.value)
        if match:
            self._column(match.group("name").strip('"').replace('""', '"'), part)

    def _time(self, part: Part) -> None:
        time, name = part.value, part.value["column"]
        if name is None or not self._column(name, part):
            return
        declared = (self._columns_of(part.table) or {}).get(name)
        sql_type = str((declared or {}).get("type") or "")
        fault = self._meaning(time, sql_type, f"{part.table}.{name} is {sql_type}")
        if fault:
            self.faults.add(part.path, fault)

    def _meaning(self, time: dict[str, Any], sql_type: str, what: str) -> str | None:
        zone, unit = time["time_zone"], time["unit"]
        if not sql_type:
            # Only the server knows the type: the zone stands ready for a wall clock.
            time["time_zone"] = zone or (None if unit else self.system.get("time_zone"))
        elif _WALL_CLOCK.fullmatch(sql_type):
            time["time_zone"] = zone or self.system.get("time_zone")
            if unit:
                return f"unit {unit!r} is not allowed: {what}, only an integer has a unit"
            if not time["time_zone"]:
                advice = f"write {{column: {time['column']}, time_zone: UTC}} or whichever zone it is in"
                return f"time_zone is missing: {what}, which does not say whose wall clock that is; {advice}"
        elif _INSTANT.fullmatch(sql_type):
            if zone or unit:
                return f"{'time_zone' if zone else 'unit'} {zone or unit!r} is not allowed: {what}, which needs neither time_zone nor unit"
        elif _INTEGER.fullmatch(sql_type):
            if zone:
                return f"time_zone {zone!r} is not allowed: {what}, which counts from 1970 in UTC"
            if not unit:
                return f"unit is missing: {what}; write {{column: {time['column']}, unit: s}} or ms"
        else:
            return f"{what}, which is not a time: timestamptz, timestamp, date, or an integer with a unit"
        return None


def parts(part: Part, written: Mapping[str, str]) -> Iterator[Part]:
    """Yield a value and everything in it.

    A mapping's `table` owns the columns in it; those marked `outer` belong to the table around it.
    """
    yield part
    kind, value = part.kind, part.value
    if isinstance(kind, Choices):
        kind = kind.forms[value[kind.by]]
    if _is_time(part):
        return
    if isinstance(kind, Group):
        inner = _owner(value, part.table)
        for key, field in kind.fields.items():
            if value.get(key) is not None:
                yield from parts(Part(field.kind, value[key], join(part.path, key), part.table if field.outer else inner), written)
    elif isinstance(kind, Listing):
        for number, item in enumerate(value):
            if item is not None:
                yield from parts(Part(kind.kind, item, join(part.path, number), part.table), written)
    elif isinstance(kind, Named):
        for name, item in value.items():
            if item is not None:
                at = join(part.path, written.get(name, name) if isinstance(kind.key, Table) else name)
                if kind.key is COLUMN:
                    yield Part(COLUMN, name, at, part.table)
                yield from parts(Part(kind.value_kind(name), item, at, part.table), written)


def _is_time(part: Part) -> bool:
    """Return whether a value is a time column: of a mark, that depends on what is in it."""
    return part.kind is TIME or (part.kind is MARK and part.value["value"] is None)


def _owner(value: Mapping[str, Any], around: str | None) -> str | None:
    """Return the table of a mapping's columns: its own, that of the tokens in it, or that of the mapping around it."""
    if "table" in value:
        table: str | None = value["table"]
        return table
    return (value["tokens"] or {}).get("table") if "tokens" in value else around


def check_names(system: Mapping[str, Any], faults: Faults) -> None:
    """Note names of stores, windows, schemas and backup kinds that nothing has."""
    stores = {store["name"]: store for store in system.get("token_stores") or [] if store}
    for schedule, rules in (system.get("retention") or {}).items():
        for number, rule in enumerate(rules or []):
            if rule:
                _check_protects(rule, stores, join(join(join("retention", schedule), number), "protects"), faults)
    _check_windows(system.get("maintenance") or {}, faults)
    _check_schemas(system, faults)


def _check_protects(rule: dict[str, Any], stores: dict[Any, Any], path: str, faults: Faults) -> None:
    own = [name for name, store in stores.items() if name and rule["table"] and rule["table"] in _deny_tables(store)]
    name = rule["protects"]
    if name is None:
        rule["protects"] = own[0] if own else None
    elif name not in stores:
        faults.add(path, one_of(name, [str(known) for known in stores], "the token stores"))
    elif name not in own:
        faults.add(path, f"{shown(name)} has neither its tokens nor its deny list in {rule['table']}: leave it out")


def _deny_tables(store: dict[str, Any]) -> list[str | None]:
    revoke = store["revoke"] or {}
    return [revoke["table"], (store["tokens"] or {}).get("table")] if revoke.get("how") == "denylist" else []


def _check_windows(maintenance: Mapping[str, Any], faults: Faults) -> None:
    windows = [window["name"] for window in maintenance.get("windows") or [] if window]
    for number, rewrite in enumerate(maintenance.get("rewrite") or []):
        if rewrite and rewrite["window"] is not None and rewrite["window"] not in windows:
            faults.add(f"maintenance.rewrite[{number}].window", one_of(rewrite["window"], windows, "the maintenance windows"))


def _check_schemas(system: Mapping[str, Any], faults: Faults) -> None:
    schemas = system.get("schemas") or []
    backups = system.get("backup") or {}
    named = {join(join("backup", name), "schemas"): (policy or {}).get("schemas") for name, policy in backups.items()}
    named["security.rls_required"] = (system.get("security") or {}).get("rls_required")
    for path, names in named.items():
        for number, name in enumerate(names or []):
            if name is not None and name not in schemas:
                faults.add(join(path, number), one_of(name, [str(known) for known in schemas], "schemas"))
