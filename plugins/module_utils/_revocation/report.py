# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revocation says in the end, in numbers that come from its statements; also when it did not get to its end."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._open_transactions import Transaction, Waited
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.progress import Progress, StoreProgress

_TOTALS = ("selected", "expired", "already_revoked", "pending", "elsewhere", "revoked", "late")


class Refused(RunbookError):
    """A guard stopped the run before the first change. The result holds the counts."""

    def __init__(self, message: str, *, option: str, result: Mapping[str, Any], hint: str) -> None:
        super().__init__(message, object_name=option, hint=hint)
        self.result = dict(result)

    def as_result(self) -> dict[str, Any]:
        """Add the keys of a result."""
        return {**super().as_result(), **self.result}


class Unproven(RunbookError):
    """What was revoked stands, but it is not proven that all of it is: the message says what is left, the result how far it came."""

    def __init__(self, message: str, *, result: Mapping[str, Any], hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.result = dict(result)

    def as_result(self) -> dict[str, Any]:
        """Add the keys of a result."""
        return {**super().as_result(), **self.result}


class Interrupted(DatabaseError):
    """The server refused a statement, or was lost, after the first change. The result says how far the run came."""

    def __init__(self, cause: DatabaseError, result: Mapping[str, Any]) -> None:
        where = f" in {cause.context_function}" if cause.context_function else ""
        message = f"{cause.message.rstrip('.')}{where} ({result['revoked']} tokens were revoked by then, and stay so)."
        hint = "Run it again when the cause is gone: it goes on where it stopped."
        if cause.hint:
            hint = f"{cause.hint} {hint}"
        super().__init__(message, object_name=cause.object_name, sqlstate=cause.sqlstate, hint=hint)
        self.result = dict(result)

    def as_result(self) -> dict[str, Any]:
        """Add the keys of a result."""
        return {**super().as_result(), **self.result}


def result_of(options: Options, progress: Progress, facts: Mapping[str, Any], *, preview: bool) -> dict[str, Any]:
    """Return the result; with `preview` the numbers are what the run would do."""
    stores = [_store(store, preview=preview) for store in progress.stores]
    totals = {key: sum(store[key] for store in stores) for key in _TOTALS}
    dependents = sum(one["changed"] for store in stores for one in store["dependents"])
    remaining = None if preview else _sum(store["remaining"] for store in stores)
    return {
        **facts,
        **totals,
        "changed": any(store["changed"] for store in stores),
        "dependents": dependents,
        "remaining": remaining,
        "passes": progress.passes,
        "waited": _waited(progress.waited),
        "window": _window(options),
        "stores": stores,
    }


def _store(store: StoreProgress, *, preview: bool) -> dict[str, Any]:
    dependents = [
        {"table": table, "change": what, "pending": counts["pending"], "changed": counts["pending"] if preview else counts["changed"]}
        for (table, what), counts in store.dependents.items()
    ]
    revoked = store.pending if preview else store.revoked + store.extended
    return {
        "name": store.name,
        "how": store.how,
        "selected": store.selected,
        "expired": store.expired,
        "already_revoked": max(0, store.selected - store.expired - store.pending_tokens - store.elsewhere),
        "pending": store.pending,
        "elsewhere": store.elsewhere,
        "revoked": revoked,
        "extended": 0 if preview else store.extended,
        "late": store.late,
        "remaining": store.remaining,
        "changed": bool(revoked or any(one["changed"] for one in dependents)),
        "accepted_before": store.accepted,
        "share_pct": round(100.0 * (store.pending_tokens + store.elsewhere) / store.accepted, 2) if store.accepted else None,
        "dependents": dependents,
        "claim_sets": store.claim_sets,
        "matched_claims": store.matched_claims,
        "sample": store.sample,
        "not_before": store.not_before,
        "batches": store.batches,
        "first_effective_at": store.first_effective_at,
        "effective_at": store.effective_at,
        "verified_at": store.verified_at,
    }


def _window(options: Options) -> dict[str, Any] | None:
    selection = options.selection
    if not (selection.issued_from or selection.issued_to):
        return None
    ends = {"from": selection.issued_from, "to": selection.issued_to}
    return {**{name: str(at) if at else None for name, at in ends.items()}, "rounded": selection.rounded}


def _waited(waited: Sequence[Waited]) -> dict[str, Any]:
    transactions: dict[Any, Transaction] = {each.key: each for one in waited for each in one.transactions}
    last = waited[-1].still_open if waited else ()
    return Waited(sum(one.seconds for one in waited), tuple(transactions.values()), tuple(last)).as_result()


def _sum(numbers: Any) -> int | None:
    known = list(numbers)
    return None if any(number is None for number in known) else sum(known)
