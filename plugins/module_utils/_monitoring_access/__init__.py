# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a monitoring role what the health checks need, or takes it away again: planned by measurement, done in one transaction."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock, take_lock
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access import history, membership, sequences, server, stores
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.draft import Draft
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.options import OPERATION, Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._monitoring_access.plan import Gap, Plan, Step

__all__ = ["OPERATION", "NotAllowed", "Options", "arrange", "read_options"]

# Roles and databases belong to the server: another database's run may change the same row of the catalogue at the same time.
_TRIES = 3
_CLASHES = ("23505", "XX000")


class NotAllowed(RunbookError):
    """The session may not do everything that is needed, and has done nothing. `result` says what, and who may."""

    def __init__(self, message: str, *, object_name: str, hint: str, result: Dict[str, Any]) -> None:
        super().__init__(message, object_name=object_name, sqlstate="42501", hint=hint)
        self.result = result

    def as_result(self) -> Dict[str, Any]:
        """Add what is missing."""
        return {**super().as_result(), **self.result}


def arrange(database: Any, options: Options, *, check_mode: bool) -> Dict[str, Any]:
    """Do what `options` ask for and return the result; in check mode only say what would be done.

    Raises Busy while another run is at work on the database, MissingObject where the role does not exist, NotAllowed where the session may
    not do everything (unless `partial`), and DatabaseError. Whatever is raised, nothing has been changed.
    """
    if database.in_recovery:
        hint = "Run against the primary; its standbys follow."
        message = f"database {database.name} is on a standby, where nothing can be granted"
        raise DatabaseError(message, object_name=database.name, sqlstate="25006", hint=hint)
    if check_mode:
        with database.transaction(read_only=True, snapshot=True):
            return _result(database, options, _allowed(database, options, _plan(database, options)))
    take_lock(database, OPERATION)
    try:
        return _repeatedly(database, options)
    finally:
        release_lock(database, OPERATION)


def _repeatedly(database: Any, options: Options) -> Dict[str, Any]:
    for _attempt in range(_TRIES - 1):
        try:
            return _arrange(database, options)
        except DatabaseError as error:  # noqa: PERF203  (somebody else was in the way, and has finished)
            if error.sqlstate not in _CLASHES or database.closed:
                raise
    return _arrange(database, options)


def _arrange(database: Any, options: Options) -> Dict[str, Any]:
    with database.transaction():
        plan = _allowed(database, options, _plan(database, options))
        for step in plan.steps:
            _take(database, step)
        left = _plan(database, options).steps if plan.steps else []
        if left:
            # The server only warns where a GRANT grants nothing.
            message = f"{left[0].what} on {left[0].on}: the server took the statement and nothing came of it; nothing was changed"
            raise DatabaseError(message, object_name=left[0].on)
        return _result(database, options, plan)


def _take(database: Any, step: Step) -> None:
    try:
        database.execute(step.statement)
    except DatabaseError as error:
        message = f"{step.what} on {step.on}: {error.message}; nothing was changed"
        raise DatabaseError(message, object_name=step.on, sqlstate=error.sqlstate, hint=error.hint) from None


def _plan(database: Any, options: Options) -> Plan:
    role = membership.look(database, options.role)
    draft = Draft(database, options, role, [role.name])
    membership.plan(draft)
    server.ask(draft)
    stores.ask(draft)
    sequences.ask(draft)
    history.plan(draft)
    draft.settle()
    sequences.plan_defaults(draft)
    return draft.plan


def _allowed(database: Any, options: Options, plan: Plan) -> Plan:
    if plan.missing and not options.partial:
        first, count = plan.missing[0], len(plan.missing)
        change = "grant to" if options.present else "revoke from"
        more = f" and {count - 1} more" if count > 1 else ""
        raise NotAllowed(
            f"{database.user} may not {change} {options.role!r} what is needed: {first.what} on {first.on}{more}; nothing was changed",
            object_name=options.role,
            hint="Connect as a superuser, or do the rest alone with partial=true and hand the statements in missing to one.",
            result={"changed": False, "missing": _told(database, plan.missing), "not_granted": _told(database, plan.not_granted)},
        )
    return plan


def _result(database: Any, options: Options, plan: Plan) -> Dict[str, Any]:
    done = [step.as_result(database) for step in plan.steps]
    lines = "".join(f"{step['what']} on {step['on']}\n" for step in done)
    return {
        "changed": bool(done),
        "role": options.role,
        "database": database.name,
        "grants": done,
        "missing": _told(database, plan.missing),
        "not_granted": _told(database, plan.not_granted),
        "diff": {"before": "" if options.present else lines, "after": lines if options.present else ""},
    }


def _told(database: Any, gaps: Sequence[Gap]) -> List[Dict[str, Any]]:
    return [gap.as_result(database) for gap in gaps]
