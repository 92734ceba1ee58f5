# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows elsewhere that go with the tokens: refresh tokens, codes that are not used yet, entries of an allow list."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import marks
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Change
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.matched import Matched
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import CLEARED, DELETED, FLAGGED, REVOKED_AT, ROW
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.row_key import key_columns
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.rows import RowChange
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import DEPENDENT, Marking, Target
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import plain_uuid, plainly_comparable, require_comparable
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import Selection, TokenStore
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.belonging import belongs
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.criteria import through_query, values_condition
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.store import COLUMNS, THROUGH

# The criterion that each word of `when` stands for.
_CRITERIA = {
    "id": "ids",
    "subject": "subjects",
    "client": "clients",
    "tenant": "tenants",
    "provider": "providers",
    "address": "addresses",
    "all": "all",
}


def dependent_targets(database: Any, store: TokenStore, selection: Selection, found: Matched, marking: Marking) -> list[Target]:
    """Return the targets of the rows that go with the tokens that `found` selects, in the order of the description.

    Raises MissingObject and InvalidValue for what does not fit the tables.
    """
    return [_target(database, store, entries, selection, found, marking) for entries in _together(_entries(store), selection)]


def _entries(store: TokenStore) -> Iterable[Mapping[str, Any]]:
    for index, entry in enumerate(store.written.get("dependents") or ()):
        yield {**entry, "path": f"{store.path}.dependents[{index}]"}
    allow = store.written.get("allowlist")
    if allow:
        yield {
            "table": allow["table"],
            "column": allow["id"],
            "references": store.written["tokens"]["id"],
            "on_revoke": "delete",
            "mark": None,
            "flag": None,
            "when": [],
            "where": {},
            "path": f"{store.path}.allowlist",
        }


def _together(entries: Iterable[Mapping[str, Any]], selection: Selection) -> list[list[Mapping[str, Any]]]:
    """Return the entries that count under `selection`; those that do the same to one table are together, so that no row counts twice."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if not entry["when"] or any(selection.has(_CRITERIA[word]) for word in entry["when"]):
            set_ = entry["column"] if entry["on_revoke"] == "clear" else (entry["mark"] or {}).get("column") or entry["flag"]
            groups.setdefault((entry["table"], entry["on_revoke"], set_), []).append(entry)
    return list(groups.values())


def _target(
    database: Any, store: TokenStore, entries: list[Mapping[str, Any]], selection: Selection, found: Matched, marking: Marking
) -> Target:
    sql, entry = database.sql, entries[0]
    relation = store.related[parse_relation(entry["table"])]
    key = relation.column(entry["column"])
    column, value, still, word = _set(database, relation, entry, marking)
    reached = [
        (one["when"], sql.SQL("({} AND {})").format(belongs(sql, one, ROW), _reached(database, store, relation, one, selection, found)))
        for one in entries
    ]
    # Entries that count only for some criteria narrow each other down.
    together = [sql.SQL(" AND ").join(one for when, one in reached if when)] if any(when for when, _one in reached) else []
    query = sql.SQL(
        "SELECT row_number() OVER () AS ordinal, {row}.tableoid AS relid, {row}.ctid AS place, {row}.{key} AS key"
        " FROM {table} AS {row} WHERE {still} AND ({reached})"
    ).format(
        row=sql.Identifier(ROW),
        key=sql.Identifier(key.name),
        table=relation.name.identifier(sql),
        still=still,
        reached=sql.SQL(" OR ").join([*(one for when, one in reached if not when), *together]),
    )
    mark = None
    if word == REVOKED_AT:
        time = time_column(relation, entry["mark"], f"{entry['path']}.mark")
        mark = marks.value(database, time, marking.mark) if marks.is_unmistakable(time) else None
    keys = key_columns(database, relation, column)
    change = Change(store.name, str(relation.name), word, column.name if column else "", mark, keys)
    return Target(DEPENDENT, relation, word, change.column, query, RowChange(change, relation, ROW, key, still, column, value))


def _set(database: Any, relation: Relation, entry: Mapping[str, Any], marking: Marking) -> tuple[Column | None, Any, Any, str]:
    """Return the column that is set, its value, the condition under which it is not yet, and the word for it."""
    sql, what = database.sql, entry["on_revoke"]
    if what == "timestamp":
        time = time_column(relation, entry["mark"], f"{entry['path']}.mark")
        still = sql.SQL("{} IS NULL").format(sql.Identifier(ROW, time.column.name))
        return time.column, sql.Literal(marks.value(database, time, marking.mark)), still, REVOKED_AT
    if what == "flag":
        column = relation.column(entry["flag"])
        if column.base != "bool":
            path = f"{entry['path']}.flag"
            raise InvalidValue(f"{path}: {relation.name}.{column.name} is of type {column.type}, and a flag is a boolean", object_name=path)
        value = sql.SQL("true" if entry["revoked_when"] else "false")
        return column, value, sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier(ROW, column.name), value), FLAGGED
    column = relation.column(entry["column"])
    if what == "clear":
        return column, sql.SQL("NULL"), sql.SQL("{} IS NOT NULL").format(sql.Identifier(ROW, column.name)), CLEARED
    return None, None, sql.SQL("true"), DELETED


def _reached(database: Any, store: TokenStore, relation: Relation, entry: Mapping[str, Any], selection: Selection, found: Matched) -> Any:
    """Return the condition under which a row goes with the selection: by the criterion's own values, or through the selected tokens."""
    sql, column = database.sql, relation.column(entry["column"])
    reference = sql.Identifier(ROW, column.name)
    parts = []
    for criterion in [_CRITERIA[word] for word in entry["when"]]:
        if not selection.has(criterion):
            continue
        if criterion == "all":
            return sql.SQL("true")
        if _token_column(store, criterion) == entry["references"]:
            parts.append(values_condition(database, relation, column, reference, selection.lists[criterion], criterion))
        elif criterion in THROUGH and _leads(store, criterion) == entry["references"]:
            through = through_query(database, store, criterion, selection.lists[criterion])
            parts.append(_among(database, store, relation, column, entry, through[1], through[0]))  # type: ignore[index]
    if parts:
        return sql.SQL(" AND ").join(parts)
    token_column = store.tokens.column(entry["references"])
    return _among(database, store, relation, column, entry, found.values(sql, token_column), token_column)


def _among(
    database: Any, store: TokenStore, relation: Relation, column: Column, entry: Mapping[str, Any], query: Any, other: Column
) -> Any:
    sql = database.sql
    reference = sql.Identifier(ROW, column.name)
    require_comparable((relation, column), (store.tokens, other), entry["path"])
    if plainly_comparable(column, other):
        return sql.SQL("{} IN ({})").format(reference, query)
    sides = [sql.SQL("{}::text").format(side) for side in (reference, sql.Identifier("keys_", "key"))]
    if "uuid" in (column.base, other.base):
        sides = [plain_uuid(sql, side) for side in sides]
    # Where the collations differ, the server wants to be told one.
    return sql.SQL('{} COLLATE pg_catalog."C" IN (SELECT {} FROM ({}) AS keys_(key))').format(*sides, query)


def _token_column(store: TokenStore, criterion: str) -> str | None:
    fields = store.written["tokens"]
    if criterion == "ids":
        return str(fields["id"])
    name = COLUMNS.get(criterion) or THROUGH.get(criterion)
    return fields.get(name) if name else None


def _leads(store: TokenStore, criterion: str) -> str | None:
    through = store.written["tokens"].get(f"{THROUGH[criterion]}_through")
    return through["column"] if through else None
