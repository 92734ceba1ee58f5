# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses before the first change what the server would do, or refuse, behind the back of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Collection, Mapping, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import counting, predicate, protection, references
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import DROP
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation, look_up
from ansible_collections.pgops.runbook.plugins.module_utils._same_id import plainly_comparable

# Rows read for rows that go: minutes of work for one that a plan would not show.
MOST_READING = 1_000_000_000
_BLANK_PADDED = "bpchar"
_BYTES_OF_A_ROW = 100  # with its place in indexes, where nothing better is known


class DenyList(NamedTuple):
    """A deny table of a store, and those of its columns that say what is denied and for how long."""

    store: str
    relation: Relation
    columns: frozenset[str]


class Kept(NamedTuple):
    """A table with rows that keep a token revoked by themselves: `stays` gives, for an alias, their condition; `columns` say so."""

    relation: Relation
    columns: frozenset[str]
    stays: Callable[[str], Any]


def require_plain_change(target: predicate.Target, facts: references.Facts) -> None:
    """Raise InvalidValue where a rewrite rule would make something else of the statements."""
    names = [] if target.action == DROP else facts.rewrite_rules(target.relation, target.event)
    if names:
        listed = ", ".join(f'"{name}"' for name in names)
        message = f"{target.path}.table: {target.relation.name} has a rewrite rule on {target.event}, {listed}, which batches cannot obey"
        raise InvalidValue(message, object_name=str(target.relation.name), hint="Make it a trigger, or disable it.")


def require_deny_rows_untouched(target: predicate.Target, ways: Sequence[references.Way], deny_lists: Sequence[DenyList]) -> None:
    """Raise InvalidValue where a foreign key would remove rows of one of `deny_lists`, or change what they say.

    The server asks no predicate of ours for such rows: a deny row of a living token would be lost.
    """
    for way in ways:
        for deny in deny_lists:
            if _changes(way, deny.relation, deny.columns):
                message = (
                    f"{target.path}.table: the removal of rows of {target.relation.name} would reach deny rows of store {deny.store!r} by"
                    f" the foreign key {way}, whether their tokens are alive or not"
                )
                hint = "Make it a foreign key without an action, and remove the deny rows by a rule of their own."
                raise InvalidValue(message, object_name=str(target.relation.name), hint=hint)


def require_tokens_not_needed(
    database: Any, target: predicate.Target, ways: Sequence[references.Way], stores: Sequence[protection.Store], rows: int
) -> None:
    """Raise InvalidValue where a cascade would remove token rows that a deny row still needs, or change what they say."""
    for store in stores:
        for way in ways:
            columns = {store.token_id.name, *store.end_columns}
            if not _changes(way, store.tokens, columns):
                continue

            def needed(alias: str, store: protection.Store = store) -> Any:
                return protection.is_needed(database, store, alias, lambda deny: predicate.gone(database, target.before, store.deny, deny))

            lost = _count(database, target, way, needed)
            if lost:
                message = (
                    f"{target.path}.table: by the foreign key {way}, {lost} of the {_rows(rows)} of {target.relation.name} that would go"
                    f" would take token rows along that deny rows of store {store.name!r} still need"
                )
                hint = "They can go when those tokens have expired."
                raise InvalidValue(message, object_name=str(target.relation.name), hint=hint)


def require_revoked_rows_untouched(
    database: Any, target: predicate.Target, ways: Sequence[references.Way], kept: Sequence[Kept], rows: int
) -> None:
    """Raise InvalidValue where a foreign key would remove rows that keep a token revoked by themselves, or change what they say."""
    for one in kept:
        for way in ways:
            lost = _count(database, target, way, one.stays) if _changes(way, one.relation, one.columns) else 0
            if lost:
                message = (
                    f"{target.path}.table: by the foreign key {way}, {lost} of the {_rows(rows)} of {target.relation.name} that would go"
                    f" would take along, or change, rows of {one.relation.name} that keep tokens revoked"
                )
                hint = "They can go when those tokens have expired."
                raise InvalidValue(message, object_name=str(target.relation.name), hint=hint)


def require_not_referred_to(database: Any, target: predicate.Target, ways: Sequence[references.Way], rows: int) -> None:
    """Raise InvalidValue where rows that would go are still referred to by a foreign key without an action, or a partition by any.

    Referring rows that an earlier rule removes do not count. Left to the server are those that the role may not read, and
    those in a table that a cascade empties in the same statement.
    """
    if target.action == DROP:
        # A partition cannot be detached from under rows that refer to it, whatever would happen to them if its rows were deleted.
        holding = {way.last.oid: replace(way, cascades=()) for way in ways if len(way.keys) == 1}
    else:
        cascaded = {way.target for way in ways if way.last.action == "c"}
        holding = {way.last.oid: way for way in ways if way.last.holds and way.target not in cascaded and not _protects(way, target)}
    if not holding:
        return
    tables = look_up(database, [key.table for way in holding.values() for key in way.followed])
    for way in holding.values():
        if not all(_readable(tables[key.table]) for key in way.followed):
            continue
        held = _count(database, target, way, _stays(database, target, tables[way.last.table]))
        if held:
            message = f"{target.path}.table: {held} of the {_rows(rows)} of {target.relation.name} that would go are still referred to by"
            hint = "Remove the rows that refer to them first, by a rule of their own in the same run."
            raise InvalidValue(f"{message} the foreign key {way}", object_name=str(target.relation.name), sqlstate="23503", hint=hint)


def take_each_other_along(database: Any, target: predicate.Target, ways: Sequence[references.Way], removable: Mapping[int, int]) -> bool:
    """Return whether rows that would go have others of their own table removed by a cascade, which might have to be archived before.

    Others of any age count, since what goes along with them may be due. Raises InvalidValue where the rows that would go are in several
    partitions (`removable`, by oid): one statement, which archives all that it removes, takes rows of one.
    """
    own = {*references.tables_of(target.relation), *target.relation.ancestors}
    found = [way for way in ways if way.last.action == "c" and way.target in own]
    tables = look_up(database, [key.table for way in found for key in way.followed])
    for way in found:
        if all(_readable(tables[key.table]) for key in way.followed) and not _count(database, target, way, lambda _alias: None):
            continue
        if sum(1 for rows in removable.values() if rows) > 1:
            message = (
                f"{target.path}.table: by the foreign key {way}, rows of one partition of {target.relation.name} would take rows of others"
                " along before they are archived"
            )
            hint = "Make it a foreign key that sets its columns to NULL."
            raise InvalidValue(message, object_name=str(target.relation.name), hint=hint)
        return True
    return False


def unindexed_references(database: Any, target: predicate.Target, ways: Sequence[references.Way], rows: int, *, allowed: bool) -> list[str]:
    """Return a warning for each foreign key without an index for which the server reads a table once for each of the `rows`.

    Raises InvalidValue where that would be so much reading that nobody wants to wait for it, unless it is `allowed`.
    """
    slow = {way.last.oid: way.last for way in ways if not way.last.indexed}
    tables = look_up(database, [key.table for key in slow.values()], sizes=True)
    warnings = []
    for key in slow.values():
        there = _estimate(tables[key.table])
        if not there:
            continue
        columns = ", ".join(f'"{own}"' for own, _other in key.columns)
        reading = (
            f"the foreign key {key} has no index on {columns}: the server reads all of its about {_rows(there)} for each row that goes"
        )
        hint = f"An index on {key.table} ({columns}), made concurrently, ends that"
        if rows * there > MOST_READING and not allowed:
            message = f"{target.path}.table: {reading}, and {_rows(rows)} of {target.relation.name} would go"
            advice = f"{hint}; allow_unindexed_references lets the run go on without."
            raise InvalidValue(message, object_name=str(target.relation.name), hint=advice)
        warnings.append(f"{target.path}.table: {reading}. {hint}.")
    return warnings


def _estimate(relation: Relation) -> int:
    """Return about how many rows there are; by its size where the server has counted none, as after pg_upgrade."""
    return (relation.bytes or 0) // _BYTES_OF_A_ROW if relation.rows_estimate is None else relation.rows_estimate


def _changes(way: references.Way, relation: Relation, columns: Collection[str]) -> bool:
    """True if `way` removes rows of `relation`, or sets one of `columns`."""
    if way.last.holds or way.target not in {relation.oid, *relation.descendants, *relation.ancestors}:
        return False
    return way.last.action == "c" or any(own in columns for own, _other in way.last.columns)


def _protects(way: references.Way, target: predicate.Target) -> bool:
    """True if the rows that `way` refers from are deny rows that need the row of their token for as long as they are there themselves.

    What they refer to is protected, so that none of it goes, and nothing has to be looked up.
    """
    return len(way.keys) == 1 and any(
        store.deny_expires is None
        and store.deny.name == way.last.table
        and way.last.columns == ((store.deny_id.name, store.token_id.name),)
        and plainly_comparable(store.deny_id, store.token_id)
        and _same_blanks(store.deny_id, store.token_id)
        for store in target.serves
    )


def _same_blanks(one: Column, other: Column) -> bool:
    """True if a foreign key compares two columns as we do: blanks at the end count for it in neither or in both."""
    return one.base == other.base or _BLANK_PADDED not in {one.base, other.base}


def _readable(relation: Relation) -> bool:
    parts = (*relation.leaves, *([relation.itself] if relation.itself else []))
    return all("SELECT" in part.privileges and not part.hides_rows for part in parts)


def _stays(database: Any, target: predicate.Target, referring: Relation) -> Callable[[str], Any]:
    """Return the condition for the referring rows that are still there when the rule is applied."""
    itself = (target,) if target.relation.related(referring) else ()

    def condition(alias: str) -> Any:
        gone = predicate.gone(database, (*target.before, *itself), referring, alias)
        return None if gone is None else database.sql.SQL("({}) IS NOT TRUE").format(gone)

    return condition


def _count(database: Any, target: predicate.Target, way: references.Way, condition: Callable[[str], Any]) -> int:
    sql = database.sql
    goes = predicate.removable(database, target, ahead=True)

    def goes_too(table: RelationName, alias: str) -> Any:
        return predicate.removable(database, target, row=alias, ahead=True) if table == target.relation.name else None

    hit = references.reached(database, way, predicate.ROW, condition, goes_too)
    return sum(counting.count_by_leaf(database, target.relation, sql.SQL("{} AND {}").format(goes, hit)).values())


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"
