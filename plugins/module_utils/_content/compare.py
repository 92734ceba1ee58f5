# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between what a backup says and what a database holds, each difference in a sentence that names the table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Collection, Dict, Iterator, List, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured

MISSING, EXTRA, DIFFERENT = "missing", "extra", "different"

# Kinds of objects in words, first those whose identity begins with a table where it is about one.
OF_TABLES = {
    "columns": "column",
    "constraints": "constraint",
    "indexes": "index",
    "triggers": "trigger",
    "inherited_triggers": "trigger",
    "rules": "rule",
    "policies": "policy",
    "statistics": "statistics object",
    "partitions": "partition",
    "inheritance": "parent",
    "publication_tables": "publication",
    "row_security": "row-level security",
    "owners": "owner",
    "grants": "grant",
    "comments": "comment",
    "security_labels": "security label",
}
RELATIONS = {
    "tables": "table",
    "views": "view",
    "materialized_views": "materialized view",
    "foreign_tables": "foreign table",
    "sequences": "sequence",
}
_WORDS = {
    **OF_TABLES,
    **RELATIONS,
    "functions": "function",
    "types": "type",
    "schemas": "schema",
    "extensions": "extension",
    "event_triggers": "event trigger",
    "publications": "publication",
    "subscriptions": "subscription",
    "text_search_configurations": "text search configuration",
    "text_search_dictionaries": "text search dictionary",
    "text_search_parsers": "text search parser",
    "text_search_templates": "text search template",
    "operators": "operator",
    "operator_families": "operator family",
    "operator_classes": "operator class",
    "casts": "cast",
    "collations": "collation",
    "conversions": "conversion",
    "languages": "language",
    "access_methods": "access method",
    "transforms": "transform",
    "foreign_data_wrappers": "foreign-data wrapper",
    "foreign_servers": "foreign server",
    "user_mappings": "user mapping",
    "publication_schemas": "schema of a publication",
}
_ABOUT = frozenset({"owners", "grants", "comments", "security_labels"})
_VERSIONS = "extension_versions"  # a dump does not carry them
# Between majors the server writes definitions differently; these stay the same.
_SAME_ACROSS_MAJORS = frozenset({"owners", "grants", "row_security", "inheritance"})
_QUALIFIED = re.compile(r'((?:"(?:[^"]|"")*"|[^\s".])+\.(?:"(?:[^"]|"")*"|[^\s"])+)(?: (.*))?\Z', re.DOTALL)
_NEEDLESS_QUOTES = re.compile(r'"([a-z_][a-z0-9_$]*)"')
_HASH = re.compile(r" ?#?\b[0-9a-f]{32}\Z")


@dataclass(frozen=True)
class Difference:
    """`what` is missing, extra or different; `table` is None where no table is concerned."""

    kind: str
    object: str
    table: str | None
    what: str
    message: str


def compare(expected: Measured, found: Measured, *, same_major: bool = True, leave_out: Collection[str] = ()) -> List[Difference]:
    """Return what `found` has otherwise than `expected`. `leave_out` names kinds that are not compared, such as `owners` and `grants`.

    What is not compared for other reasons, `not_compared` says.
    """
    differences = list(_structure(expected, found, same_major, leave_out))
    gone = {one.object for one in differences if one.kind in RELATIONS and one.what != DIFFERENT}
    names = tuple({name for one in differences if one.what != DIFFERENT for name in _names(one)})
    told = [one for one in differences if not _follows(one, gone, names)]
    rows = [one for one in _rows(expected, found, leave_out) if one.table not in gone]
    return [*told, *rows, *_sequences(expected, found, leave_out), *_large_objects(expected, found, leave_out)]


def not_compared(expected: Measured, found: Measured, *, same_major: bool = True, leave_out: Collection[str] = ()) -> List[Dict[str, str]]:
    """Return what `compare` says nothing about: `what`, `object` and `why`."""
    told = [{"what": kind.replace("_", " "), "object": "", "why": "left out by request"} for kind in sorted(leave_out)]
    if not same_major:
        told.append({"what": "definitions", "object": "", "why": "another major version writes them differently: only that each is there"})
    if expected.objects is None or found.objects is None:
        told.append({"what": "structure", "object": "", "why": "it was not measured"})
    if expected.tables is None or found.tables is None:
        told.append({"what": "rows", "object": "", "why": "they were not measured"})
    versions, here = ((side.objects or {}).get(_VERSIONS, {}) for side in (expected, found))
    told += [
        {"what": "extension", "object": name, "why": f"version {here[name]} instead of {version}: a dump does not carry the version"}
        for name, version in versions.items()
        if here.get(name, version) != version
    ]
    unread = {**expected.unread, **found.unread}
    told += [{"what": "rows", "object": name, "why": why} for name, why in sorted(unread.items())]
    for side, name in ((expected, "the backup"), (found, "the database")):
        hidden = [one.name for one in side.sequences or () if one.last_value is None]
        told += [{"what": "sequence state", "object": one, "why": f"the role could not read it in {name}"} for one in hidden]
        if side.large_objects and side.large_objects.hash is None:
            why = f"the role could not read {side.large_objects.hidden} of them in {name}"
            told.append({"what": "content of large objects", "object": "", "why": why})
    mine, other = expected.large_objects, found.large_objects
    if mine and other and mine.count and other.count and mine.by != other.by:
        why = f"they were hashed by {mine.by!r} in the backup and by {other.by!r} in the database"
        told.append({"what": "content of large objects", "object": "", "why": why})
    return told


def _names(one: Difference) -> Iterator[str]:
    """Yield how owners, grants and comments call an object that is missing or too many."""
    word = _WORDS.get(one.kind, "")
    if one.kind in _ABOUT or one.kind in RELATIONS or not word:
        return
    rest = one.object if one.table is None else _parts(one.kind, one.object)[1]
    yield f"{word} {rest} "
    if one.table is not None:
        yield f"{one.table} {word} {rest} "


def _follows(one: Difference, gone: Collection[str], names: Tuple[str, ...]) -> bool:
    """Whether a difference only follows from another: a missing table has no columns, a missing function no owner."""
    if one.kind in RELATIONS:
        return False
    return one.table in gone or (one.kind in _ABOUT and f"{one.object} ".startswith(names))


def _rows(expected: Measured, found: Measured, leave_out: Collection[str]) -> Iterator[Difference]:
    if expected.tables is None or found.tables is None or "rows" in leave_out:
        return
    here = {one.name: one for one in found.tables}
    there = {one.name for one in expected.tables}
    for table in expected.tables:
        other = here.get(table.name)
        if other is None:
            if table.name not in found.unread:
                yield Difference(
                    "rows", table.name, table.name, MISSING, f"{table.name}: the table is missing with its {_rows_of(table.rows)}"
                )
        elif other.rows != table.rows:
            short = table.rows - other.rows
            lacks = f"{_rows_of(short)} missing" if short > 0 else f"{_rows_of(-short)} too many"
            message = f"{table.name}: {lacks} ({other.rows} instead of {table.rows})"
            yield Difference("rows", table.name, table.name, DIFFERENT, message)
        elif (other.by, other.hash) != (table.by, table.hash):
            # Hashed in another way: only one side has text that cannot be converted.
            message = f"{table.name}: {_rows_of(table.rows)} as expected, but what is in them differs"
            yield Difference("rows", table.name, table.name, DIFFERENT, message)
    for name, other in here.items():
        if name not in there and name not in expected.unread:
            yield Difference("rows", name, name, EXTRA, f"{name}: a table with {_rows_of(other.rows)} that the backup does not have")


def _sequences(expected: Measured, found: Measured, leave_out: Collection[str]) -> Iterator[Difference]:
    if expected.sequences is None or found.sequences is None or "sequence_state" in leave_out:
        return
    here = {one.name: one for one in found.sequences}
    for sequence in expected.sequences:
        other = here.get(sequence.name)
        if other is None and (expected.objects is None or found.objects is None):
            yield Difference("sequences", sequence.name, None, MISSING, f"sequence {sequence.name} is missing")
        elif other is not None and other.behind(sequence):
            message = f"sequence {sequence.name} is behind: it would give {other.next_value} next instead of {sequence.next_value}"
            yield Difference("sequence_state", sequence.name, None, DIFFERENT, message)


def _large_objects(expected: Measured, found: Measured, leave_out: Collection[str]) -> Iterator[Difference]:
    mine, other = expected.large_objects, found.large_objects
    if mine is None or other is None or "large_objects" in leave_out:
        return
    if mine.count != other.count:
        message = f"large objects: {other.count} instead of {mine.count}"
        yield Difference("large_objects", "", None, DIFFERENT, message)
    elif mine.by == other.by and None not in (mine.hash, other.hash) and mine.hash != other.hash:
        yield Difference("large_objects", "", None, DIFFERENT, f"large objects: {mine.count} as expected, but what is in them differs")


def _structure(expected: Measured, found: Measured, same_major: bool, leave_out: Collection[str]) -> Iterator[Difference]:
    if expected.objects is None or found.objects is None:
        return
    kinds = [*dict.fromkeys([*expected.objects, *found.objects])]
    unlike = {_VERSIONS} if same_major else {_VERSIONS, "inherited_triggers"}
    for kind in (one for one in kinds if one not in leave_out and one not in unlike):
        mine, other = (_comparable(kind, side.objects or {}, same_major) for side in (expected, found))
        for identity, there in mine.items():
            if identity not in other:
                yield _difference(kind, identity, MISSING, "is missing")
            elif other[identity] != there and (same_major or kind in _SAME_ACROSS_MAJORS):
                yield _difference(kind, identity, DIFFERENT, _changed(there, other[identity]))
        for identity in other:
            if identity not in mine:
                yield _difference(kind, identity, EXTRA, "is there and not in the backup")


def _comparable(kind: str, objects: Dict[str, Dict[str, str]], same_major: bool) -> Dict[str, str]:
    found = objects.get(kind, {})
    if same_major:
        return found
    # Which words must be quoted, which privileges there are and who may use the schema public depends on the major version.
    across = {_NEEDLESS_QUOTES.sub(r"\1", name): text for name, text in found.items()}
    if kind in _ABOUT:
        across = {name: text for name, text in across.items() if " MAINTAIN " not in name and not name.startswith("schema public")}
    return across


def _difference(kind: str, identity: str, what: str, happened: str) -> Difference:
    table, rest = _parts(kind, identity)
    word = _WORDS.get(kind, kind.replace("_", " "))
    if table is None:
        return Difference(kind, identity, None, what, f"{word} {identity} {happened}")
    if kind in RELATIONS:
        return Difference(kind, identity, table, what, f"{table}: the {word} {happened}")
    return Difference(kind, identity, table, what, f"{table}: {' '.join(filter(None, (word, rest)))} {happened}")


def _parts(kind: str, identity: str) -> Tuple[str | None, str]:
    if kind in OF_TABLES or kind in RELATIONS:
        match = _QUALIFIED.match(identity)
        if match is not None:
            return match.group(1), match.group(2) or ""
    return None, identity


def _changed(before: str, after: str) -> str:
    old, new = (_HASH.sub("", text).strip() for text in (before, after))
    if old == new:
        return "is defined differently"
    return f"is {new or 'plain'} instead of {old or 'plain'}"


def _rows_of(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def as_results(differences: List[Difference]) -> List[Dict[str, Any]]:
    """Return differences as a module returns them."""
    return [vars(one).copy() for one in differences]
