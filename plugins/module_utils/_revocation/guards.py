# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a run from its first change, and what keeps it from ending well."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._revocation.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.progress import Progress
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Refused, Unproven


def guard(options: Options, progress: Progress, looks: list[Look], result: Mapping[str, Any]) -> None:
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


def require_proof(result: dict[str, Any], progress: Progress) -> None:
    """Refuse to end well while anything may still be accepted. Raises Unproven, with all that is left."""
    left = []
    if result["remaining"]:
        why = f" ({progress.held_back})" if progress.held_back else ""
        left.append(f"{result['remaining']} rows could not be changed and may still be accepted{why}")
    writers = [each for each in progress.waited[-1].still_open if each.writes] if progress.waited else []
    if writers:
        who = ", ".join(f"pid {each.pid}" if each.prepared is None else f"prepared {each.prepared}" for each in writers[:5])
        left.append(f"{len(writers)} transactions that have written were open before the proof and still are ({who}): they may add tokens")
    left += [f"cache {cache['cache']}: {cache['error']}" for cache in result["caches"] if cache["error"]]
    asked = result["introspection"] or {}
    if asked.get("still_active"):
        left.append(f"the introspection endpoint calls {asked['still_active']} of {asked['asked']} revoked tokens active")
    if asked.get("errors"):
        left.append(f"the introspection endpoint did not answer: {asked['errors'][0]['message']}")
    if left:
        message = f"{result['revoked']} tokens were revoked, which stands, but: {'; '.join(left)}."
        raise Unproven(message, result=result, hint="Run it again when the cause is gone: it does what is left.")
