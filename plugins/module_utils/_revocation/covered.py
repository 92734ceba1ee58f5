# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the description of a store takes all rows away, or their references, that a foreign key would take along unrecorded."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.cascades import Cascade
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.names import CLEARED, DELETED
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import DEPENDENT, TOKENS, Target
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TokenStore

_WORDS = {DELETED: "delete", CLEARED: "clear"}


def takes_all(store: TokenStore, parent: Target, before: Sequence[Target], cascade: Cascade) -> bool:
    """Return whether one of the targets `before` takes every row that `cascade` would reach when rows of `parent` go.

    A mark would go with the row, and an entry that takes only some of the rows leaves the others to the foreign key.
    """
    for target in before:
        if (
            target.kind != DEPENDENT
            or target.change not in _WORDS
            or cascade.child not in {target.relation.oid, *target.relation.descendants}
        ):
            continue
        for entry in _certain(store, target, before):
            if any(entry["column"] == pair["column"] and _same_values(store, parent, entry, pair["parent"]) for pair in cascade.pairs):
                return True
    return False


def _certain(store: TokenStore, target: Target, before: Sequence[Target]) -> Iterable[Mapping[str, Any]]:
    """Yield the entries whose rows all go with `target`, or with another that does the same to its table.

    Entries with `when` on one table count together, so that one of several may be narrowed by the others, or not count at all.
    """
    entries = _entries(store, target.relation, _WORDS[target.change])
    same = [one for one in before if one.kind == DEPENDENT and (one.relation.oid, one.change) == (target.relation.oid, target.change)]
    each_for_itself = len(same) == len(entries)
    return [entry for entry in entries if not entry["where"] and (each_for_itself or not entry["when"])]


def _same_values(store: TokenStore, parent: Target, entry: Mapping[str, Any], column: str) -> bool:
    """Return whether `entry` goes by the values that `column` has in the rows of `parent` that go, or by more."""
    if parent.kind == TOKENS:
        return bool(entry["references"] == column)
    return all(
        (one["column"], one["references"]) == (column, entry["references"]) and one["when"] in ([], entry["when"])
        for one in _entries(store, parent.relation, "delete")
    )


def _entries(store: TokenStore, relation: Relation, word: str) -> list[Mapping[str, Any]]:
    allow = store.written.get("allowlist")
    entries = list(store.written.get("dependents") or ())
    if allow:
        references = store.written["tokens"]["id"]
        entries.append({**allow, "column": allow["id"], "references": references, "on_revoke": "delete", "when": [], "where": {}})
    return [one for one in entries if one["on_revoke"] == word and parse_relation(one["table"]) == relation.name]
