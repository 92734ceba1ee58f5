# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One revocation from the first look to the proof."""

from __future__ import annotations

import secrets
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._instant import Instant, server_now
from ansible_collections.pgops.runbook.plugins.module_utils._introspection import ask_sample
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import journal as journals
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.asked import require_token_column, tokens_to_ask_about
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.audit import Audit
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.cached import Cached
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.guards import guard, require_proof
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.not_found import count_not_found
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import REVOKED, Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.passes import Pass, Run, revoke_all
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.preflight import require_possible, require_temporary_tables
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.progress import Progress, StoreProgress
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Interrupted, result_of
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.selected import in_words
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.stage import Stages, count_accepted
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import DEPENDENT, LIMIT, Marking, placeholders_of
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import resolve_stores


def revoke(database: Any, options: Options, *, check_mode: bool) -> dict[str, Any]:
    """Revoke what `options` select and return the result; in check mode count it, in one snapshot of a read-only transaction."""
    if check_mode:
        with database.transaction(read_only=True, snapshot=True):
            work, journal, revocation_id = _prepare(database, options)
            looks = work.look(Stages(database, keep=False, sample=options.sample))
            progress = _progress(work, looks, with_share=True)
            guard(options, progress, looks, _result(options, work, progress, revocation_id, preview=True))
            require_possible(database, looks)
            return {**_result(options, work, progress, revocation_id, preview=True), "warnings": _warnings(options, progress)}
    work, journal, revocation_id = _prepare(database, options)
    return _Revocation(work, journal, revocation_id).act()


def _prepare(database: Any, options: Options) -> tuple[Pass, Journal, str]:
    """Look everything up that can be wrong before anything is changed."""
    _require_writable(database)
    require_temporary_tables(database)
    stores = resolve_stores(database, options.stores)
    if options.introspection:
        require_token_column(stores)
    journal = Journal(database, options.journal)
    journal.require_writable()
    Audit(database, options.audit).require_writable()
    Cached(database, options).require_usable()
    as_of = server_now(database)
    record = journal.find(options.revocation_id) if options.revocation_id else None
    if record:
        journals.require_same(record, _digest(options))
    marking = Marking(record.mark if record else as_of, options.reason, options.clock_skew, placeholders_of(options))
    work = Pass(database, stores, options, marking, as_of)
    return work, journal, options.revocation_id or _new_id(as_of)


class _Revocation:
    """A run that changes something."""

    def __init__(self, work: Pass, journal: Journal, revocation_id: str) -> None:
        self.work, self.journal, self.revocation_id = work, journal, revocation_id
        self.database, self.options = work.database, work.options
        self.audit, self.cached = Audit(work.database, work.options.audit), Cached(work.database, work.options)
        self.sample: list[str] = []
        self.foreseen = False

    def act(self) -> dict[str, Any]:
        """Guard, revoke, prove, forget what caches hold, ask the endpoint, record; and return the result."""
        database, options = self.database, self.options
        stages = Stages(database, keep=True, sample=options.sample)
        looks = self.work.look(stages)
        self.progress = _progress(self.work, looks, with_share=options.max_share is not None)
        guard(options, self.progress, looks, _result(options, self.work, self.progress, self.revocation_id, preview=True))
        require_possible(database, looks)
        if options.introspection:
            self.sample = tokens_to_ask_about(database, looks, options.introspection_sample)
        self.cached.begin()
        try:
            revoke_all(self.work, stages, looks, self.journal, Run(self.revocation_id, self.progress, self._before))
            return self._finish()
        except DatabaseError as error:
            if not self.progress.begun:
                raise
            raise Interrupted(error, self._result()) from error

    def _before(self, looks: list[Look]) -> None:
        self.cached.remember(looks)
        if any(look.rows for look in looks):
            self._begin()
            if not self.foreseen:
                changes = [change for look in looks for stage in look.stages for change in stage.target.changes]
                self.journal.foresee(changes, self.revocation_id)
                self.foreseen = True

    def _begin(self) -> None:
        """Make the record of this run, once."""
        if self.progress.begun:
            return
        self.journal.create()
        self.audit.create()
        options = self.options
        record = {
            "revocation_id": self.revocation_id,
            "mark": str(self.work.marking.mark),
            "requested_by": options.requested_by,
            "reason": options.reason,
            "caches_pending": bool(options.caches),
        }
        with self.database.transaction():
            self.journal.begin(record, in_words(options), _digest(options))
            self.audit.begin(REVOKED, self.revocation_id, options.requested_by, options.reason, in_words(options))
        self.progress.begun = True

    def _finish(self) -> dict[str, Any]:
        caches = self._forget()
        asked = ask_sample(self.options.introspection, self.sample) if self.options.introspection else None
        if self.progress.begun:
            with self.database.transaction():
                self.journal.end(self.revocation_id)
                self.audit.end(REVOKED, self.revocation_id, _counts(self._result()))
        self.database.set_application_name(self.options.application_name)
        warnings = [*_warnings(self.options, self.progress), *(cache.pop("warning") for cache in caches if "warning" in cache)]
        result = {**self._result(), "caches": caches, "introspection": asked, "warnings": warnings}
        result["changed"] = result["changed"] or any(cache["deleted"] for cache in caches)
        require_proof(result, self.progress)
        return result

    def _forget(self) -> list[dict[str, Any]]:
        """Forget what caches hold; what one of them still holds is kept in the record, for whichever run comes next."""
        unfinished = self.journal.unfinished(self.revocation_id) if self.options.caches else []
        caches = self.cached.forget(self.journal, unfinished)
        if any(cache["error"] for cache in caches):
            self._begin()
            self.cached.keep(self.journal, self.revocation_id)
        elif caches:
            self.journal.caches_done([self.revocation_id, *(one["revocation_id"] for one in unfinished)])
        return caches

    def _result(self) -> dict[str, Any]:
        return _result(self.options, self.work, self.progress, self.revocation_id, preview=False)


def _progress(work: Pass, looks: list[Look], *, with_share: bool) -> Progress:
    """Return the counts of the first look: those of the selected tokens beside what was set aside, and of all that are accepted."""
    stores = []
    for look in looks:
        known = StoreProgress(look.store.name, look.store.how)
        counts = _selected(work.database, look)
        known.selected, known.expired = int(counts["selected"]), int(counts["expired"])
        known.pending, known.pending_tokens, known.elsewhere = look.tokens.rows, look.tokens.tokens, look.elsewhere
        known.claim_sets, known.matched_claims = look.tokens.facts["claim_sets"], look.tokens.facts["matched_claims"]
        known.sample = look.tokens.facts["sample"] or []
        for stage in look.stages:
            if stage.target.kind in (DEPENDENT, LIMIT):
                known.dependent(str(stage.target.relation.name), stage.target.change)["pending"] += stage.rows
        if with_share:
            known.accepted = count_accepted(work.database, look.store, look.acceptance)
        stores.append(known)
    missing = count_not_found(work.database, work.stores, work.options.selection)
    return Progress(stores, not_found=missing)


def _selected(database: Any, look: Look) -> Mapping[str, Any]:
    sql = database.sql
    columns = sql.SQL("pg_catalog.count(*) AS selected, pg_catalog.count(*) FILTER (WHERE NOT ({})) AS expired").format(
        look.acceptance.alive()
    )
    return database.row(look.found.select(sql, columns))


def _result(options: Options, work: Pass, progress: Progress, revocation_id: str, *, preview: bool) -> dict[str, Any]:
    facts = {
        "state": REVOKED,
        # A rehearsal records nothing, so that an id of its own would lead nowhere.
        "revocation_id": options.revocation_id if preview else revocation_id,
        "reason": options.reason,
        "requested_by": options.requested_by,
        "role": work.database.user,
        "as_of": str(work.as_of),
        "selection": in_words(options),
        "undo": {"state": "reinstated", "revocation_id": revocation_id} if progress.begun else None,
        "not_found": progress.not_found,
        "caches": [],
        "introspection": None,
    }
    return result_of(options, progress, facts, preview=preview)


def _warnings(options: Options, progress: Progress) -> list[str]:
    found = []
    if progress.not_found:
        found.append(f"{progress.not_found} of the given ids are in no store: tokens with them, if there are any, are not revoked")
    readers = [each for each in progress.waited[-1].still_open if not each.writes] if progress.waited else []
    if readers:
        pids = ", ".join(str(each.pid) for each in readers[:5])
        found.append(f"{len(readers)} transactions that have only read so far are still open ({pids}): what they add later is not covered")
    if options.selection.rounded:
        found.append("the window was widened to whole seconds, because the times of issue in tokens are")
    return found


def _counts(result: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("name", "selected", "revoked", "extended", "already_revoked", "dependents")
    return {
        "revoked": result["revoked"],
        "passes": result["passes"],
        "stores": [{key: store[key] for key in keys} for store in result["stores"]],
    }


def _digest(options: Options) -> str:
    return journals.digest(options.selection, [store["name"] for store in options.stores])


def _new_id(as_of: Instant) -> str:
    """Return an id that sorts by time and that nobody else has."""
    stamp = str(as_of)[:19].replace("-", "").replace(":", "")
    return f"{stamp}Z-{secrets.token_hex(4)}"


def _require_writable(database: Any) -> None:
    """Refuse where the run could not write, in check mode too: a rehearsal of what cannot happen helps nobody."""
    if database.in_recovery:
        message = f"database {database.name!r} is on a read-only standby"
        raise InvalidValue(message, object_name=database.name, sqlstate="25006", hint="Run against the primary.")
