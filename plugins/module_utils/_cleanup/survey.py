# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks up what the rules and the token stores name, and refuses what cannot be carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import (
    archive,
    conditions,
    dropping,
    latest,
    mark,
    predicate,
    preflight,
    protection,
    revoked_rows,
)
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.at import At
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import DROP, SOFT_DELETE
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._readable import require_readable_leaves
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, require
from ansible_collections.pgops.runbook.plugins.module_utils._system.rules import StoreTables
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column

_SECONDS = (978_307_200, 4_102_444_800)  # the years 2001 to 2099 in seconds since 1970
_NEEDED = {SOFT_DELETE: ("SELECT", "UPDATE"), DROP: ("SELECT",)}
_NEEDED_TO_REMOVE = ("SELECT", "UPDATE", "DELETE")


class Survey:
    """What was looked up, and the rules and stores made of it."""

    def __init__(self, database: Any, options: Options, as_of: _instant.Instant, relations: Mapping[RelationName, Relation]) -> None:
        self.database, self.options, self.as_of, self.relations = database, options, as_of, relations
        self._stores: dict[int, protection.Store] = {}
        self._units: set[tuple[int | None, str]] = set()

    def require_tables(self) -> None:
        """Refuse a deny list or token list that is no table: its rows lie where a rule could reach them without any protection."""
        for index, *lists in self._tables():
            for part, relation in zip(("revoke", "tokens"), lists):
                if relation.exists and not relation.is_table:
                    path = f"token_stores[{index}].{part}.table"
                    hint = "Name the table that holds the rows."
                    message = f"{path}: {relation.name} is a {relation.kind_name}, and only tables can be protected"
                    raise InvalidValue(message, object_name=str(relation.name), hint=hint)

    def target(self, index: int) -> predicate.Target:
        """Return a rule with everything that its predicate needs."""
        rule, path = self.options.rules[index], f"rules[{index}]"
        relation = self.relations[parse_relation(rule["table"])]
        with At(f"{path}.table"):
            _require_changeable(require(relation), rule["action"])
        with At(f"{path}.column"):
            time = time_column(relation, rule["column"], f"{path}.column")
            self._check_unit(relation, time)
        resolved = self.stores(lambda deny, tokens: relation.related(deny) or relation.related(tokens))
        forgets = tuple(store for store in resolved if relation.related(store.deny))
        serves = tuple(store for store in resolved if relation.related(store.tokens))
        skew = self.options.clock_skew
        for store in forgets:
            protection.require_columns(relation, store.deny_columns, store.name, f"{path}.table")
        for store in serves:
            protection.require_columns(relation, store.token_columns, store.name, f"{path}.table")
        stays = revoked_rows.rows_that_stay(
            self.database, self.options.token_stores, relation, self.relations, self.as_of, skew, f"{path}.table"
        )
        _check_protects(rule, path, relation, self.options.token_stores, forgets + serves)
        at = self.as_of.before(rule["older_than_seconds"] + (skew if forgets else 0.0))
        limit = _instant.constant(self.database, time, at)
        target = predicate.Target(index, rule["name"], path, relation, time, self.as_of, at, limit, forgets, serves, stays, rule["action"])
        return self._refined(target, rule)

    def _refined(self, target: predicate.Target, rule: Mapping[str, Any]) -> predicate.Target:
        """Return a rule with what its action and its conditions need."""
        database, relation, path = self.database, target.relation, target.path
        archived = rule["archive"] and self.relations[parse_relation(rule["archive"]["table"])]
        if target.action == DROP:
            with At(f"{path}.column"):
                dropping.require_possible(database, target)
        marked = mark.resolve(database, relation, rule["mark"], f"{path}.mark") if rule["mark"] else None
        if marked and not target.removes:
            mark.assignment(database, marked, target.as_of)  # refuses now what the run could not set
        return replace(
            target,
            conditions=conditions.resolve(database, relation, rule["where"], f"{path}.where"),
            latest=latest.resolve(database, relation, rule["keep_latest"], f"{path}.keep_latest") if rule["keep_latest"] else None,
            mark=marked,
            archive=archive.resolve(database, relation, archived, rule["archive"], f"{path}.archive") if archived else None,
        )

    def require_apart(self, target: predicate.Target, targets: Sequence[predicate.Target]) -> None:
        """Refuse a rule that writes where another rule or a store reads, also as a partition or child of the table that they name.

        What the names alone show is refused with the options.
        """
        known = StoreTables(self.options.token_stores)
        if target.archive:
            archived = self.relations[target.archive.name]
            taken = {table: f"the token store {reader}" for table, reader in known.tables.items()}
            taken.update({str(other.relation.name): f"rules[{other.index}]" for other in targets})
            for table, reader in taken.items():
                if archived.related(self.relations[parse_relation(table)]):
                    path = f"{target.path}.archive.table"
                    message = f"{path}: {archived.name} belongs to {table}, which is a table of {reader}"
                    raise InvalidValue(message, object_name=path, hint="Name a table that is only an archive.")
        if target.mark and not target.removes:
            for (table, column), reader in known.columns.items():
                if column == target.mark.column.name and target.relation.related(self.relations[parse_relation(table)]):
                    path = f"{target.path}.mark"
                    message = f"{path}: {column!r} is read by the token store {reader}, and writing to it could make a revoked token valid"
                    raise InvalidValue(message, object_name=path, hint="Name a column that no store reads.")

    def stores(self, concerned: Callable[[Relation, Relation], bool]) -> list[protection.Store]:
        """Return the stores about whose deny and token tables `concerned` is true: others need not even exist."""
        return [self._store(index) for index, deny, tokens in self._tables() if concerned(deny, tokens)]

    def kept_rows(self, tables: set[int]) -> list[preflight.Kept]:
        """Return the tables among `tables` (oids) with rows that keep a token revoked by themselves."""
        read = StoreTables(self.options.token_stores).columns
        found = []
        for name in dict.fromkeys(revoked_rows.names_of(self.options.token_stores)):
            relation = self.relations[name]
            if not relation.exists or not tables & {relation.oid, *relation.descendants, *relation.ancestors}:
                continue
            stores = self.options.token_stores
            skew = self.options.clock_skew
            stays = revoked_rows.rows_that_stay(self.database, stores, relation, self.relations, self.as_of, skew, "token_stores")
            columns = frozenset(column for table, column in read if table and column and parse_relation(table) == name)
            if stays:
                found.append(preflight.Kept(relation, columns, _any_of(self.database.sql, stays)))
        return found

    def deny_lists(self) -> list[preflight.DenyList]:
        """Return the deny tables of all stores, as far as they exist."""
        lists = []
        for index, deny, _tokens in self._tables():
            store = self.options.token_stores[index]
            expires = store["revoke"].get("expires_at")
            columns = frozenset([store["revoke"]["id"], *([expires["column"]] if expires else [])])
            if deny.exists:
                lists.append(preflight.DenyList(store["name"], deny, columns))
        return lists

    def _tables(self) -> list[tuple[int, Relation, Relation]]:
        return [
            (index, self.relations[parse_relation(store["revoke"]["table"])], self.relations[parse_relation(store["tokens"]["table"])])
            for index, store in enumerate(self.options.token_stores)
            if protection.has_deny_list(store)
        ]

    def _store(self, index: int) -> protection.Store:
        if index not in self._stores:
            written, path = self.options.token_stores[index], f"token_stores[{index}]"
            deny, tokens = (self.relations[parse_relation(written[part]["table"])] for part in ("revoke", "tokens"))
            for part, relation in (("revoke", deny), ("tokens", tokens)):
                with At(f"{path}.{part}.table"):
                    require_readable_leaves(require(relation))
            with At(path):
                past = self.as_of.before(self.options.clock_skew)
                store = protection.resolve(self.database, written, path, deny, tokens, past)
                self._check_unit(deny, store.deny_expires)
                self._check_unit(tokens, store.token_expires)
                self._check_unit(tokens, store.lasting.issued if store.lasting else None)
            self._stores[index] = store
        return self._stores[index]

    def _check_unit(self, relation: Relation, time: TimeColumn | None) -> None:
        """Refuse milliseconds where any value is one of seconds, of this century: every such row would look expired.

        The newest value tells nothing, because it may be a sentinel. As milliseconds, those values would lie in January and
        February 1970. The reverse mistake only makes rows look as if they never expired.
        """
        if time is None or time.unit != "ms" or (relation.oid, time.column.name) in self._units:
            return
        self._units.add((relation.oid, time.column.name))
        sql = self.database.sql
        look = sql.SQL("SELECT {column} FROM {table} WHERE {column} BETWEEN {first} AND {last} LIMIT 1").format(
            column=sql.Identifier(time.column.name),
            table=relation.name.identifier(sql),
            first=sql.Literal(_SECONDS[0]),
            last=sql.Literal(_SECONDS[1]),
        )
        with At(time.path, [relation.name]):
            found = self.database.value(look)
        if found is not None:
            message = f"{time.path}: {relation.name}.{time.column.name} holds {found}, which are seconds since 1970, not milliseconds"
            raise InvalidValue(message, object_name=time.path)


def _any_of(sql: Any, conditions: Sequence[Callable[[str], Any]]) -> Callable[[str], Any]:
    return lambda row: sql.SQL("({})").format(sql.SQL(" OR ").join(condition(row) for condition in conditions))


def _check_protects(
    rule: Mapping[str, Any], path: str, relation: Relation, written: Sequence[Mapping[str, Any]], stores: Sequence[protection.Store]
) -> None:
    name = rule["protects"]
    listed = [store["name"] for store in written if protection.has_deny_list(store)]
    if name in listed and name not in [store.name for store in stores]:
        message = f"{path}.protects: store {name!r} keeps neither the rows of a deny list nor their tokens in {relation.name}"
        raise InvalidValue(message, object_name=f"{path}.protects")


def _require_changeable(relation: Relation, action: str) -> None:
    if not relation.is_table:
        message = f"{relation.name} is a {relation.kind_name}: only the rows of a table can be removed"
        raise InvalidValue(message, object_name=str(relation.name))
    needed = _NEEDED.get(action, _NEEDED_TO_REMOVE)
    for leaf in relation.leaves:
        if leaf.kind == "f":
            raise InvalidValue(f"{leaf.name} is a foreign table: clean it up where its rows are kept", object_name=str(leaf.name))
        lacking = [privilege for privilege in needed if privilege not in leaf.privileges]
        if lacking:
            hint = f"Give it {', '.join(lacking)} there, and USAGE on the schema; UPDATE is needed to lock the rows that go."
            message = f"the role may not {' or '.join(lacking)} {leaf.name}"
            raise DatabaseError(message, object_name=str(leaf.name), sqlstate="42501", hint=hint)
    require_readable_leaves(relation)
