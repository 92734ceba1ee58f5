# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what runs, and for how long. They look at the whole server, not at one database."""

from __future__ import annotations

from typing import Iterable, List

from ansible_collections.pgops.runbook.plugins.module_utils._health.longest import longest
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Check, Limits, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import LEFT_OUT, SESSIONS, sessions


def _statement(look: Look, limits: Limits) -> Iterable[Reading]:
    return longest(look, limits, STATEMENT, "statement", look.seen(sessions)["active"], "age")


def _transaction(look: Look, limits: Limits) -> Iterable[Reading]:
    return longest(look, limits, TRANSACTION, "transaction", look.seen(sessions)["busy"], "in_transaction")


STATEMENT = Check(
    id="query.longest",
    title="Longest running statement",
    tier="hourly",
    looks_at="The age of the statements that client backends of all databases run now. A session in another state than active shows "
    f"its last statement, which is over, and does not count. {LEFT_OUT}",
    action="Look what it does and whether it waits for a lock, then cancel it: SELECT pg_cancel_backend(<process>).",
    needs="pg_read_all_stats",
    run=_statement,
    facts=(SESSIONS,),
    unit="seconds",
    warning=300,
    critical=600,
)
TRANSACTION = Check(
    id="transaction.longest",
    title="Longest transaction",
    tier="hourly",
    looks_at="For how long client backends of all databases have been in one transaction, active or idle: a transaction of many short "
    f"statements is long, although none of them is. Autovacuum and senders of WAL are no clients. {LEFT_OUT}",
    action="Look what it waits for, and commit it in the application; or end it: SELECT pg_terminate_backend(<process>).",
    needs="pg_read_all_stats",
    run=_transaction,
    facts=(SESSIONS,),
    unit="seconds",
    warning=1800,
    critical=3600,
)
CHECKS: List[Check] = [STATEMENT, TRANSACTION]
