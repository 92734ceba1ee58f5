# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything and changes nothing: looks the rules up, computes the cut-offs, counts what will go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import predicate, preflight, protection, references
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up, require
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn, time_column

_SECONDS = (978_307_200, 4_102_444_800)  # the years 2001 to 2099 in seconds since 1970
_LOCK_TIMEOUT = "55P03"
_NEEDED = ("SELECT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class PlannedRule:
    """One rule with its numbers. `removable` and `rows_before` are rows by leaf oid.

    `foreign_keys` refer to its table, `triggers` fire when rows go.
    """

    target: predicate.Target
    matched: int
    removable: Mapping[int, int]
    rows_before: Mapping[int, int]
    foreign_keys: tuple[references.ForeignKey, ...] = ()
    triggers: tuple[str, ...] = ()

    @property
    def to_remove(self) -> int:
        """Return how many rows will go."""
        return sum(self.removable.values())

    @property
    def protected(self) -> int:
        """Return how many rows past the cut-off stay."""
        return self.matched - self.to_remove


@dataclass(frozen=True)
class Plan:
    """All rules, in the order in which they are applied, as of one instant of the server's clock."""

    as_of: _instant.Instant
    rules: tuple[PlannedRule, ...]

    @property
    def to_remove(self) -> int:
        """Return how many rows will go in all."""
        return sum(rule.to_remove for rule in self.rules)


def make_plan(database: Any, options: Options) -> Plan:
    """Return the plan of `options`, from one snapshot in a read-only transaction.

    Raises MissingObject, InvalidValue or DatabaseError for the first rule that cannot be carried out.
    """
    _require_writable(database)
    with database.transaction(read_only=True, snapshot=True):
        as_of = _instant.server_now(database)
        wanted = [parse_relation(rule["table"]) for rule in options.rules] + protection.names_of(options.token_stores)
        survey = _Survey(database, options, as_of, look_up(database, wanted))
        survey.require_tables()
        targets = _in_order([survey.target(index) for index in range(len(options.rules))])
        facts = references.look_up_references(database, [target.relation for target in targets])
        totals: dict[int, dict[int, int]] = {}
        for target in targets:
            preflight.require_plain_delete(target, facts)
            preflight.require_deny_rows_untouched(target, facts.ways(target.relation), survey.deny_lists())
        return Plan(as_of, tuple(_planned(survey, target, facts, totals) for target in targets))


def _require_writable(database: Any) -> None:
    """Refuse where the run could not write, in check mode too: a preview of what cannot happen helps nobody."""
    name = database.name
    if database.in_recovery:
        raise InvalidValue(
            f"database {name!r} is on a read-only standby", object_name=name, sqlstate="25006", hint="Run against the primary."
        )
    # What is in force without the setting that check mode itself makes.
    if database.value("SELECT s.reset_val FROM pg_settings s WHERE s.name = 'default_transaction_read_only'") == "on":
        raise InvalidValue(f"database {name!r} is read-only by default_transaction_read_only", object_name=name, sqlstate="25006")


class _Survey:
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
        with _At(f"{path}.table"):
            _require_deletable(require(relation))
        with _At(f"{path}.column"):
            time = time_column(relation, rule["column"], f"{path}.column")
            self._check_unit(relation, time)
        resolved = self.stores(lambda deny, tokens: relation.related(deny) or relation.related(tokens))
        forgets = tuple(store for store in resolved if relation.related(store.deny))
        serves = tuple(store for store in resolved if relation.related(store.tokens))
        _check_protects(rule, path, relation, forgets + serves)
        for column in [store.deny_id.name for store in forgets] + [store.token_id.name for store in serves]:
            relation.column(column)
        at = self.as_of.before(rule["older_than_seconds"] + (self.options.clock_skew if forgets else 0.0))
        limit = _instant.constant(self.database, time, at)
        return predicate.Target(index, rule["name"], path, relation, time, at, limit, forgets, serves)

    def stores(self, concerned: Callable[[Relation, Relation], bool]) -> list[protection.Store]:
        """Return the stores about whose deny and token tables `concerned` is true: others need not even exist."""
        return [self._store(index) for index, deny, tokens in self._tables() if concerned(deny, tokens)]

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
                with _At(f"{path}.{part}.table"):
                    _require_readable(require(relation))
            with _At(path):
                past = self.as_of.before(self.options.clock_skew)
                store = protection.resolve(self.database, written, path, deny, tokens, past)
                self._check_unit(deny, store.deny_expires)
                self._check_unit(tokens, store.token_expires)
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
        with _At(time.path, [relation.name]):
            found = self.database.value(look)
        if found is not None:
            message = f"{time.path}: {relation.name}.{time.column.name} holds {found}, which are seconds since 1970, not milliseconds"
            raise InvalidValue(message, object_name=time.path)


def _check_protects(rule: Mapping[str, Any], path: str, relation: Relation, stores: Sequence[protection.Store]) -> None:
    if rule["protects"] is not None and rule["protects"] not in [store.name for store in stores]:
        message = f"{path}.protects: store {rule['protects']!r} keeps neither the rows of a deny list nor their tokens in {relation.name}"
        raise InvalidValue(message, object_name=f"{path}.protects")


def _require_deletable(relation: Relation) -> None:
    if not relation.is_table:
        message = f"{relation.name} is a {relation.kind_name}: only the rows of a table can be removed"
        raise InvalidValue(message, object_name=str(relation.name))
    for leaf in relation.leaves:
        if leaf.kind == "f":
            raise InvalidValue(f"{leaf.name} is a foreign table: clean it up where its rows are kept", object_name=str(leaf.name))
        lacking = [privilege for privilege in _NEEDED if privilege not in leaf.privileges]
        if lacking:
            hint = f"Give it {', '.join(lacking)} there, and USAGE on the schema; UPDATE is needed to lock the rows that go."
            message = f"the role may not {' or '.join(lacking)} {leaf.name}"
            raise DatabaseError(message, object_name=str(leaf.name), sqlstate="42501", hint=hint)
    _require_readable(relation)


def _require_readable(relation: Relation) -> None:
    for part in (*relation.leaves, *([relation.itself] if relation.itself else [])):
        if "SELECT" not in part.privileges:
            hint = "Give it SELECT there, and USAGE on the schema."
            raise DatabaseError(f"the role may not SELECT {part.name}", object_name=str(part.name), sqlstate="42501", hint=hint)
        if part.hides_rows:
            hint = "Use its owner (while row security is not forced) or a role with BYPASSRLS."
            message = f"row-level security hides rows of {part.name} from this role"
            raise DatabaseError(message, object_name=str(part.name), sqlstate="42501", hint=hint)


def _in_order(targets: Sequence[predicate.Target]) -> list[predicate.Target]:
    """Return the targets as they are applied: deny rows first, since token rows may go only after them; else as written."""
    ordered: list[predicate.Target] = []
    for target in sorted(targets, key=lambda target: not target.forgets):
        ordered.append(replace(target, before=tuple(ordered)))
    return ordered


def _planned(survey: _Survey, target: predicate.Target, facts: references.Facts, totals: dict[int, dict[int, int]]) -> PlannedRule:
    ways = facts.ways(target.relation)
    keys = {way.last.oid: way.last for way in ways if len(way.keys) == 1}
    rule = replace(
        _count(survey.database, target, totals), foreign_keys=tuple(keys.values()), triggers=tuple(facts.delete_triggers(target.relation))
    )
    if rule.to_remove:
        taken = {way.target for way in ways if not way.last.holds}
        stores = survey.stores(lambda _deny, tokens: bool(taken & {tokens.oid, *tokens.descendants, *tokens.ancestors}))
        with _At(target.path, [*_tables_of(target), *dict.fromkeys(way.last.table for way in ways)]):
            preflight.require_tokens_not_needed(survey.database, target, ways, stores, rule.to_remove)
            preflight.require_not_referred_to(survey.database, target, ways, rule.to_remove)
    return rule


def _count(database: Any, target: predicate.Target, totals: dict[int, dict[int, int]]) -> PlannedRule:
    relation = target.relation
    with _At(target.path, _tables_of(target)):
        goes = predicate.count_by_leaf(database, relation, predicate.removable(database, target, ahead=True))
        found = sum(goes.values())
        if target.protected:
            found = sum(predicate.count_by_leaf(database, relation, predicate.matched(database, target)).values())
        for leaf in relation.leaves:
            if leaf.oid not in totals:
                totals[leaf.oid] = predicate.count_by_leaf(database, relation, leaves=[leaf])
    rows_before = {leaf.oid: totals[leaf.oid][leaf.oid] for leaf in relation.leaves}
    return PlannedRule(target, found, goes, rows_before)


def _tables_of(target: predicate.Target) -> list[RelationName]:
    stores = [*target.forgets, *target.serves]
    return list(dict.fromkeys([target.relation.name, *(table.name for store in stores for table in (store.deny, store.tokens))]))


class _At:
    """Puts the path of an option in front of the message of an error that does not say it.

    The server does not say for which of the tables that are read a lock was waited for.
    """

    def __init__(self, path: str, reads: Sequence[RelationName] = ()) -> None:
        self.path, self.reads = path, reads

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: Any, _trace: Any) -> None:
        if isinstance(error, DatabaseError) and error.sqlstate == _LOCK_TIMEOUT and self.reads and not error.object_name:
            error.object_name = str(self.reads[0])
            _put(error, f"{error.message} while reading {', '.join(map(str, self.reads))}")
        if isinstance(error, (MissingObject, InvalidValue, DatabaseError)) and not error.message.startswith(self.path):
            _put(error, f"{self.path}: {error.message}")


def _put(error: RunbookError, message: str) -> None:
    error.message = message
    error.args = (message,)
