# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything and changes nothing: looks the rules up, computes the cut-offs, counts what will go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import (
    counting,
    dropping,
    predicate,
    preflight,
    protection,
    references,
    revoked_rows,
    sampling,
)
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.at import At
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.order import in_order
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.planned import Plan, PlannedRule
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import DROP, SOFT_DELETE
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.survey import Survey
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
from ansible_collections.pgops.runbook.plugins.module_utils._system.rules import StoreTables

Count = Callable[[Any, predicate.Target], PlannedRule]


def exactly(database: Any, target: predicate.Target) -> PlannedRule:
    """Return a rule with its numbers, counted. Raises DatabaseError."""
    if target.action == DROP:
        going = {oid: rows for due in target.due if due.free for oid, rows in due.rows.items()}
        return PlannedRule(target, sum(sum(due.rows.values()) for due in target.due), going, going)
    relation = target.relation
    found = counting.with_rows(database, target, predicate.matched(database, target), relation.leaves, joined=not target.plain)
    goes = found.meant
    if target.protected:
        goes = counting.count_by_leaf(database, relation, predicate.removable(database, target, ahead=True))
    estimates = {leaf.oid: counting.about(database, leaf, found.large[leaf.oid]) for leaf in relation.leaves if leaf.oid in found.large}
    return PlannedRule(target, sum(found.meant.values()), goes, {**found.rows, **estimates}, unsure=frozenset(estimates))


def nearly(database: Any, target: predicate.Target) -> PlannedRule:
    """Return a rule with its numbers, or near ones where a run that has them counts in the end anyway. Raises DatabaseError."""
    found = sampling.sample(database, target)
    if found is None:
        return exactly(database, target)
    (leaf,) = target.relation.leaves
    unsure = frozenset(counting.large_leaves(database, target, [leaf]))
    return PlannedRule(target, found.going, {leaf.oid: found.going}, {leaf.oid: found.rows}, estimated=True, unsure=unsure)


def make_plan(database: Any, options: Options, count: Count = exactly) -> Plan:
    """Return the plan of `options`, from one snapshot in a read-only transaction, with the numbers that `count` gives.

    Raises MissingObject, InvalidValue or DatabaseError for the first rule that cannot be carried out.
    """
    _require_writable(database)
    with database.transaction(read_only=True, snapshot=True):
        as_of = _instant.server_now(database)
        survey = Survey(database, options, as_of, look_up(database, _names(options)))
        survey.require_tables()
        written = [survey.target(index) for index in range(len(options.rules))]
        for target in written:
            survey.require_apart(target, written)
        if any(target.latest for target in written):
            # The server expects few rows where it knows little, and would work out the latest of all keys for each of them.
            database.execute("SET LOCAL enable_nestloop TO off")
        facts = references.look_up_references(database, [target.relation for target in written])
        targets: list[predicate.Target] = []
        for target in in_order(written, facts):
            preflight.require_plain_change(target, facts)
            if target.removes and target.action != DROP:
                preflight.require_deny_rows_untouched(target, facts.ways(target.relation), survey.deny_lists())
            after = replace(target, before=tuple(targets))
            targets.append(dropping.narrowed(database, after) if target.action == DROP else after)
        return Plan(as_of, tuple(_planned(survey, target, facts, count) for target in targets))


def _names(options: Options) -> list[RelationName]:
    """Return every table that the rules or the stores name, and that the plan has to know."""
    tables = [parse_relation(rule["table"]) for rule in options.rules]
    archives = [parse_relation(rule["archive"]["table"]) for rule in options.rules if rule["archive"]]
    return [
        *tables,
        *archives,
        *protection.names_of(options.token_stores),
        *revoked_rows.names_of(options.token_stores),
        *_read_by_stores(options),
    ]


def _read_by_stores(options: Options) -> list[RelationName]:
    """Return the tables of all stores where a rule writes to a table, which might be one of them under another name."""
    writes = any(rule["archive"] or rule["action"] == SOFT_DELETE for rule in options.rules)
    return [parse_relation(table) for table in StoreTables(options.token_stores).tables] if writes else []


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


def _planned(survey: Survey, target: predicate.Target, facts: references.Facts, count: Count) -> PlannedRule:
    ways = facts.ways(target.relation) if target.removes else []
    keys = {way.last.oid: way.last for way in ways if len(way.keys) == 1}
    with At(target.path, _tables_of(target)):
        # A message about rows that others refer to has to be exact.
        counted = (count if not ways else exactly)(survey.database, target)
    # Whole tables go without a trigger.
    triggers = () if target.action == DROP else tuple(facts.triggers_on(target.relation, target.event))
    own = set(references.tables_of(target.relation))
    at_once = target.action != DROP and any(way.last.holds and way.target in own for way in ways)
    rule = replace(counted, foreign_keys=tuple(keys.values()), triggers=triggers, at_once=at_once)
    if rule.to_remove and target.archive and target.archive.triggers:
        names = ", ".join(target.archive.triggers)
        rule = replace(rule, warnings=(f"{target.path}.archive: triggers fire when rows arrive in {target.archive.name}: {names}",))
    if not rule.to_remove or not ways:
        return rule
    taken = {way.target for way in ways if not way.last.holds}
    stores = survey.stores(lambda _deny, tokens: bool(taken & {tokens.oid, *tokens.descendants, *tokens.ancestors}))
    with At(target.path, [*_tables_of(target), *dict.fromkeys(way.last.table for way in ways)]):
        preflight.require_not_referred_to(survey.database, target, ways, rule.to_remove)
        if target.action == DROP:
            return rule
        if target.archive and preflight.take_each_other_along(survey.database, target, ways, rule.removable):
            rule = replace(rule, at_once=True, along=True)
        preflight.require_tokens_not_needed(survey.database, target, ways, stores, rule.to_remove)
        preflight.require_revoked_rows_untouched(survey.database, target, ways, survey.kept_rows(taken), rule.to_remove)
        allowed = survey.options.allow_unindexed_references
        warnings = preflight.unindexed_references(survey.database, target, ways, rule.to_remove, allowed=allowed)
    return replace(rule, warnings=(*rule.warnings, *warnings))


def _tables_of(target: predicate.Target) -> list[RelationName]:
    stores = [*target.forgets, *target.serves]
    return list(dict.fromkeys([target.relation.name, *(table.name for store in stores for table in (store.deny, store.tokens))]))
