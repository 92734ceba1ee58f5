# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that says which rows a rule is about: the plan counts with it, check mode reports it, the run deletes by it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Collection, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import conditions, latest, mark, protection
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.archive import Archive
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.conditions import Condition
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.latest import Latest, Staged
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.mark import Mark
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.partitions import Leftover, Partition
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.revoked_rows import Stays
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

ROW = "row_"  # the alias of the table whose rows go
DELETE, ARCHIVE, SOFT_DELETE, PURGE, DROP = "delete", "archive", "soft_delete", "purge", "drop_partitions"


@dataclass(frozen=True)
class Due:
    """A partition, or one that an earlier run detached (`leftover`), with its rows by leaf oid; `free` to go if none has to stay."""

    name: RelationName
    rows: Mapping[int, int]
    free: bool
    partition: Partition | None = None
    leftover: Leftover | None = None


@dataclass(frozen=True)
class Target:
    """A rule with everything that its predicate needs.

    `forgets` are the stores whose deny rows the table holds, `serves` those whose token rows it holds, `stays` the conditions of rows that
    keep a token revoked by themselves. `before` are the targets that are applied earlier. `staged` is what a run has worked out for
    `latest`, `due` what a rule that drops partitions has found.
    """

    index: int
    name: str
    path: str
    relation: Relation
    time: TimeColumn
    as_of: Instant
    cutoff: Instant
    limit: Any
    forgets: tuple[protection.Store, ...]
    serves: tuple[protection.Store, ...]
    stays: tuple[Stays, ...] = ()
    action: str = DELETE
    conditions: tuple[Condition, ...] = ()
    latest: Latest | None = None
    mark: Mark | None = None
    archive: Archive | None = None
    due: tuple[Due, ...] = ()
    before: tuple[Target, ...] = ()
    staged: Staged | None = None

    @property
    def protected(self) -> bool:
        """True if rows past the cut-off may have to stay."""
        return bool(self.forgets or self.serves or self.stays)

    @property
    def removes(self) -> bool:
        """True if its rows leave the table."""
        return self.action != SOFT_DELETE

    @property
    def event(self) -> str:
        """Return what triggers and rewrite rules call what happens to its rows."""
        return "DELETE" if self.removes else "UPDATE"

    @property
    def joined(self) -> bool:
        """True if a statement reads a whole other table, however few of the rows it is about."""
        return not all(store.tokens_by_index for store in self.forgets) or not all(store.denies_by_index for store in self.serves)

    @property
    def plain(self) -> bool:
        """True if its condition looks at nothing but the row itself."""
        others = [other for other in self.before if _reach(other, self.relation)]
        return not self.latest and all(one.plain and not one.protected and _told_by(one, self.relation) for one in others)

    @property
    def by_time_alone(self) -> bool:
        """True if all rows before the cut-off go."""
        others = any(_reach(other, self.relation) for other in self.before)
        return not (self.conditions or self.latest or self.mark or self.protected or others)


# Forms of one and the same condition, for what the server does well: counting all rows, picking a batch, removing what was picked.
COUNT, PICK, REMOVE = "count", "pick", "remove"


def matched(database: Any, target: Target, form: str = COUNT) -> Any:
    """Return the condition for the rows that the rule is about and that no earlier rule of this run is."""
    return database.sql.SQL(" AND ").join(_matched(database, target, ROW, form))


def removable(database: Any, target: Target, form: str = COUNT, row: str = ROW, *, ahead: bool) -> Any:
    """Return the condition for the rows, with the alias `row`, that go: matched and not protected.

    `ahead` looks ahead over the rules that are applied before: it takes the deny rows that they remove as gone. The run itself asks
    for what is there, and so leaves a token row alone whose deny row was passed over.
    """
    parts = [*_matched(database, target, row, form), *_unprotected(database, target, row, ahead, form)]
    return database.sql.SQL(" AND ").join(parts)


def protected(database: Any, target: Target, *, ahead: bool) -> Any:
    """Return the condition for the rows that must stay, whatever their age; `ahead` as with `removable`."""
    sql = database.sql
    return sql.SQL("({}) IS NOT TRUE").format(sql.SQL(" AND ").join(_unprotected(database, target, ROW, ahead, COUNT)))


def not_taken_before(database: Any, target: Target) -> Any:
    """Return the condition (never NULL) for the rows of a target's table that no earlier rule of this run is about; None for all."""
    parts = _not_gone(database, target, ROW)
    return parts[0] if parts else None


def without(target: Target, leaves: Collection[int]) -> Target:
    """Return the target after `leaves`, by their oids, have gone with partitions, and with them rules that were about nothing else."""
    relation = replace(target.relation, leaves=tuple(leaf for leaf in target.relation.leaves if leaf.oid not in leaves))
    before = tuple(without(other, leaves) for other in target.before if any(leaf.oid not in leaves for leaf in other.relation.leaves))
    return replace(target, relation=relation, before=before)


def competes(database: Any, target: Target) -> Callable[[str], Sequence[Any]]:
    """Return what gives, for an alias, the conditions of the rows among which a rule keeps the latest."""

    def among(row: str) -> list[Any]:
        return [*_selected(database, target, row), *_not_gone(database, target, row)]

    return among


def _matched(database: Any, target: Target, row: str, form: str) -> list[Any]:
    sql = database.sql
    expired = [_expired(database, target, row), *_selected(database, target, row)]
    # An index that the planner took for rows that it has by their ctid would be searched, and each hit in the whole array.
    parts = [sql.SQL("({}) IS TRUE").format(part) for part in expired] if form == REMOVE else expired
    return [*parts, *_superseded(database, target, row), *_not_gone(database, target, row)]


def _expired(database: Any, target: Target, row: str) -> Any:
    sql = database.sql
    return sql.SQL("{} OPERATOR(pg_catalog.<) {}").format(sql.Identifier(row, target.time.column.name), target.limit)


def _selected(database: Any, target: Target, row: str) -> list[Any]:
    """Return the conditions that a rule sets beside the age."""
    parts = list(conditions.holds(database, target.conditions, row))
    if target.mark:
        marked = mark.is_marked(database, target.mark, row)
        parts.append(marked if target.removes else database.sql.SQL("({}) IS NOT TRUE").format(marked))
    return parts


def _superseded(database: Any, target: Target, row: str) -> list[Any]:
    if not target.latest:
        return []
    if target.staged:
        return [latest.superseded_staged(database, target.staged, row)]
    return [latest.superseded(database, target.latest, target.relation, target.time, row, competes(database, target))]


def _not_gone(database: Any, target: Target, row: str) -> list[Any]:
    """Return the condition that no earlier rule has the row. To a rule that marks, one that is marked by then is as good as gone."""
    earlier = _taken(database, [other for other in target.before if other.removes or not target.removes], target.relation, row)
    return [] if earlier is None else [database.sql.SQL("({}) IS NOT TRUE").format(earlier)]


def _unprotected(database: Any, target: Target, row: str, ahead: bool, form: str) -> list[Any]:
    sql = database.sql
    probe = form != COUNT
    parts = [protection.may_be_forgotten(database, target.forgets, row, probe=probe)] if target.forgets else []
    parts += [sql.SQL("NOT {}").format(stays(row)) for stays in target.stays]
    for store in target.serves:

        def removed(deny: str, store: protection.Store = store) -> Any:
            return gone(database, target.before, store.deny, deny)

        needed = protection.is_needed(database, store, row, removed if ahead else None, probe=probe)
        parts.append(sql.SQL("NOT {}").format(needed))
    return parts


def gone(database: Any, targets: Iterable[Target], relation: Relation, row: str) -> Any:
    """Return the condition under which one of `targets` removes the row of `relation` with the alias `row`; None if none can."""
    return _taken(database, [target for target in targets if target.removes], relation, row)


def _taken(database: Any, targets: Iterable[Target], relation: Relation, row: str) -> Any:
    sql = database.sql
    cases = [_case(database, target, relation, row) for target in targets if _reach(target, relation)]
    return sql.SQL(" OR ").join(cases) if cases else None


def _case(database: Any, target: Target, relation: Relation, row: str) -> Any:
    sql = database.sql
    if (target.latest and not target.staged) or not _told_by(target, relation):
        # Which rows these are is worked out once; among the cases of an OR it would be for every row. Old servers cannot hash a ctid.
        # A parent does not have all columns of its child.
        inner = row + "_taken"
        return sql.SQL(
            "({row}.tableoid, {row}.ctid::text) IN (SELECT {i}.tableoid, {i}.ctid::text FROM {table} AS {i} WHERE {taken})"
        ).format(
            row=sql.Identifier(row),
            i=sql.Identifier(inner),
            table=target.relation.name.identifier(sql),
            taken=_alone(database, target, inner),
        )
    parts = [_alone(database, target, row)]
    if not {leaf.oid for leaf in relation.leaves} <= {leaf.oid for leaf in target.relation.leaves}:
        oids = sql.SQL(", ").join(sql.SQL("{}::oid").format(sql.Literal(leaf.oid)) for leaf in target.relation.leaves)
        parts.append(sql.SQL("{} IN ({})").format(sql.Identifier(row, "tableoid"), oids) if target.relation.leaves else sql.SQL("false"))
    return sql.SQL("({})").format(sql.SQL(" AND ").join(parts))


def _alone(database: Any, target: Target, row: str) -> Any:
    """Return the condition for what a rule takes, as if it were the only one that is about its table."""
    parts = [_expired(database, target, row), *_selected(database, target, row), *_superseded(database, target, row)]
    return database.sql.SQL(" AND ").join([*parts, *_unprotected(database, target, row, True, COUNT)])


def _reach(target: Target, relation: Relation) -> bool:
    """True if `target` may be about rows of `relation`."""
    return target.relation.related(relation)


def _told_by(target: Target, relation: Relation) -> bool:
    """True if the columns of `relation` tell which of its rows `target` is about (a child may have columns of its own)."""
    return _columns(target) <= set(relation.columns or {})


def _columns(target: Target) -> set[str]:
    named = [target.time.column, *(condition.column for condition in target.conditions)]
    named += [*(target.latest.keys if target.latest else ()), *([target.mark.column] if target.mark else [])]
    return {column.name for column in named}
