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
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.audit import Audit
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.cached import Cached
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.journal import Journal
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import REVOKED, Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.passes import Pass, Run, revoke_all
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.preflight import require_possible, require_temporary_tables
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.progress import Progress, StoreProgress
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Interrupted, Refused, Unproven, result_of
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.stage import Stages, count_accepted
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.targets import DEPENDENT, LIMIT, Marking, placeholders_of
from ansible_collections.pgops.runbook.plugins.module_utils._token_store import TOKEN, resolve_stores


def revoke(database: Any, options: Options, *, check_mode: bool) -> dict[str, Any]:
    """Revoke what `options` select and return the result; in check mode count it, in one snapshot of a read-only transaction."""
    if check_mode:
        with database.transaction(read_only=True, snapshot=True):
            work, journal, revocation_id = _prepare(database, options)
            looks = work.look(Stages(database, keep=False, sample=options.sample))
            progress = _progress(work, looks)
            _guard(options, progress, looks, _result(options, work, progress, revocation_id, preview=True))
            require_possible(database, looks)
            return {**_result(options, work, progress, revocation_id, preview=True), "warnings": _warnings(options, progress)}
    work, journal, revocation_id = _prepare(database, options)
    return _Revocation(work, journal, revocation_id).act()


def _prepare(database: Any, options: Options) -> tuple[Pass, Journal, str]:
    """Look everything up that can be wrong before anything is changed."""
    _require_writable(database)
    require_temporary_tables(database)
    stores = resolve_stores(database, options.stores)
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

    def act(self) -> dict[str, Any]:
        """Guard, revoke, prove, forget what caches hold, ask the endpoint, record; and return the result."""
        database, options = self.database, self.options
        stages = Stages(database, keep=True, sample=options.sample)
        looks = self.work.look(stages)
        self.progress = _progress(self.work, looks)
        _guard(options, self.progress, looks, _result(options, self.work, self.progress, self.revocation_id, preview=True))
        require_possible(database, looks)
        if options.introspection:
            self.sample = _tokens_to_ask_about(database, looks, options.introspection_sample)
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
        if self.progress.begun or not any(look.rows for look in looks):
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
            self.journal.begin(record, options.selection.as_result(), _digest(options))
            self.audit.begin(REVOKED, self.revocation_id, options.requested_by, options.reason, options.selection.as_result())
        self.progress.begun = True

    def _finish(self) -> dict[str, Any]:
        caches, gone = self.cached.forget(self.journal, self.revocation_id)
        asked = ask_sample(self.options.introspection, self.sample) if self.options.introspection else None
        if self.progress.begun:
            with self.database.transaction():
                self.journal.end(self.revocation_id, caches_pending=not gone)
                self.audit.end(REVOKED, self.revocation_id, _counts(self._result()))
        if gone and caches:
            self.journal.caches_done()
        self.database.set_application_name(self.options.application_name)
        result = {**self._result(), "caches": caches, "introspection": asked, "warnings": _warnings(self.options, self.progress)}
        result["changed"] = result["changed"] or any(cache["deleted"] for cache in caches)
        self._prove(result)
        return result

    def _result(self) -> dict[str, Any]:
        return _result(self.options, self.work, self.progress, self.revocation_id, preview=False)

    def _prove(self, result: dict[str, Any]) -> None:
        """Refuse to end well while anything may still be accepted."""
        left = []
        if result["remaining"]:
            why = f" ({self.progress.held_back})" if self.progress.held_back else ""
            left.append(f"{result['remaining']} rows could not be changed and may still be accepted{why}")
        writers = [each for each in self.progress.waited[-1].still_open if each.writes] if self.progress.waited else []
        if writers:
            who = ", ".join(f"pid {each.pid}" if each.prepared is None else f"prepared {each.prepared}" for each in writers[:5])
            left.append(
                f"{len(writers)} transactions that have written were open before the proof and still are ({who}): they may add tokens"
            )
        left += [f"cache {cache['cache']}: {cache['error']}" for cache in result["caches"] if cache["error"]]
        asked = result["introspection"] or {}
        if asked.get("still_active"):
            left.append(f"the introspection endpoint calls {asked['still_active']} of {asked['asked']} revoked tokens active")
        if asked.get("errors"):
            left.append(f"the introspection endpoint did not answer: {asked['errors'][0]['message']}")
        if left:
            message = f"{result['revoked']} tokens were revoked, which stands, but: {'; '.join(left)}."
            raise Unproven(message, result=result, hint="Run it again when the cause is gone: it does what is left.")


def _guard(options: Options, progress: Progress, looks: list[Look], result: Mapping[str, Any]) -> None:
    """Refuse more than is allowed; `result` is what would be done. A rehearsal ends as the run would."""
    refused = {**result, "changed": False, "revoked": 0, "dependents": 0}
    hint = "Look at the counts of each store, then raise it if they are right. Nothing was changed."
    if options.max_tokens is not None and progress.pending > options.max_tokens:
        message = f"{progress.pending} tokens would be revoked, more than max_tokens ({options.max_tokens})."
        raise Refused(message, option="max_tokens", result=refused, hint=hint)
    accepted = sum(store.accepted or 0 for store in progress.stores)
    tokens = sum(store.pending_tokens + store.elsewhere for store in progress.stores)
    if options.max_share is not None and accepted and 100.0 * tokens / accepted > options.max_share:
        share = 100.0 * tokens / accepted
        message = f"{tokens} of {accepted} accepted tokens ({share:.1f} %) would be revoked, more than max_share ({options.max_share:g} %)."
        raise Refused(message, option="max_share", result=refused, hint=hint)
    rows = sum(look.rows for look in looks)
    if options.atomic and rows > options.batch_rows:
        message = f"atomic: {rows} rows are too many for one transaction; batch_rows allows {options.batch_rows}."
        raise Refused(message, option="atomic", result=refused, hint="Leave atomic out, or raise batch_rows. Nothing was changed.")


def _progress(work: Pass, looks: list[Look]) -> Progress:
    """Return the counts of the first look: those of the selected tokens beside what was set aside."""
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
        if work.options.max_share is not None:
            known.accepted = count_accepted(work.database, look.store, look.acceptance)
        stores.append(known)
    return Progress(stores)


def _selected(database: Any, look: Look) -> Mapping[str, Any]:
    sql = database.sql
    columns = sql.SQL("pg_catalog.count(*) AS selected, pg_catalog.count(*) FILTER (WHERE NOT ({})) AS expired").format(
        look.acceptance.alive()
    )
    return database.row(look.found.select(sql, columns))


def _tokens_to_ask_about(database: Any, looks: list[Look], most: int) -> list[str]:
    """Return some of the tokens that will be revoked, as their clients present them; they go nowhere but to the endpoint."""
    sql, found = database.sql, []
    for look in looks:
        column = look.store.token_column("token")
        if column is None:
            continue
        query = sql.SQL(
            "SELECT {token}.{column} AS token FROM {table} AS {token} "
            " WHERE {token}.{id}::text IN (SELECT id FROM {stage} ORDER BY ordinal LIMIT {most})"
            " AND {token}.{column} IS NOT NULL LIMIT {most}"
        ).format(
            token=sql.Identifier(TOKEN),
            column=sql.Identifier(column.name),
            table=look.store.tokens.name.identifier(sql),
            id=sql.Identifier(look.store.id.name),
            stage=look.tokens.name,
            most=sql.Literal(most),
        )
        found += [str(row["token"]) for row in database.rows(query)]
    if not any(look.store.token_column("token") for look in looks):
        raise InvalidValue(
            "introspection: none of the stores says in which column the token itself stands, so that nothing can be asked",
            object_name="introspection",
            hint="Add tokens.token to the system description, or leave introspection out.",
        )
    return found[:most]


def _result(options: Options, work: Pass, progress: Progress, revocation_id: str, *, preview: bool) -> dict[str, Any]:
    facts = {
        "state": REVOKED,
        "revocation_id": revocation_id,
        "reason": options.reason,
        "requested_by": options.requested_by,
        "role": work.database.user,
        "as_of": str(work.as_of),
        "selection": options.selection.as_result(),
        "undo": {"state": "reinstated", "revocation_id": revocation_id} if progress.begun else None,
        "not_found": _not_found(options, progress),
        "caches": [],
        "introspection": None,
    }
    return result_of(options, progress, facts, preview=preview)


def _not_found(options: Options, progress: Progress) -> int | None:
    """Return how many of the ids that were given no store knows, where that can be said: ids are all that was given."""
    ids = options.selection.lists.get("ids")
    if not ids or len(options.selection.as_result()) > 1:
        return None
    return max(0, len(ids) - sum(store.selected for store in progress.stores))


def _warnings(options: Options, progress: Progress) -> list[str]:
    found = []
    missing = _not_found(options, progress)
    if missing:
        found.append(f"{missing} of the given ids are in no store: tokens with them, if there are any, are not revoked")
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
