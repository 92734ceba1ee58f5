# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole database: restored under a hidden name, compared with the manifest, and only then given its name, or another one's.

Until the last transaction nothing but the hidden database exists that was not there before; whatever goes wrong, it is dropped, by this
run or, where that was killed, by the next.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import iso
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock, take_lock
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases, refuse
from ansible_collections.pgops.runbook.plugins.module_utils._restore.load import load
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import NEW, SWAP
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Compared, compare_restored, left_out_kinds
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import check_files
from ansible_collections.pgops.runbook.plugins.module_utils._restore.prepare import prepare
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import OPERATION, Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.settings import apply_settings

RESTORED, SWAPPED, PRESENT = "restored", "swapped", "present"
_TRIES = 5  # to catch the target without sessions; applications that were sent away come back at once
_IN_USE, _DUPLICATE = "55006", "42P04"


@dataclass
class Plan:
    """What a run does: `present` says that the target holds what the backup holds; `kept` is what it is called after it was replaced."""

    present: Compared | None
    replaces: bool
    leftovers: List[str]
    kept: str | None


class _Rehearsed(Exception):
    """The settings of the database can be applied."""


def restore_whole(run: Run) -> Dict[str, Any]:
    """Restore into a new database or in the place of one, and return the result; in check mode only say what would be done.

    Raises Busy, Refused, MissingObject and InvalidValue before anything was made, RunbookError after it was dropped again.
    """
    if run.check_mode:
        plan = _plan(run)
        if plan.present is None:
            check_files(run.backup, run.tick)
        return _result(run, plan, plan.present)
    operation = f"{OPERATION} of {run.target}"
    take_lock(run.database, operation)
    try:
        plan = _plan(run)
        if plan.present is None:
            with run.phase("fetch"):
                check_files(run.backup, run.tick)
        for name in plan.leftovers:
            databases.drop_database(run.database, run.sessions, name)
        compared = plan.present or _restore(run, plan)
        return _result(run, plan, compared)
    finally:
        release_lock(run.database, operation)


def _plan(run: Run) -> Plan:
    refuse.check_backup(run)
    there = databases.exists(run.database, run.target)
    present = _present(run) if there else None
    if present is None:
        refuse.check_server(run)
        if there:
            refuse.check_target(run)
    kept = databases.kept_name(run.target, datetime.now(timezone.utc)) if there and present is None else None
    return Plan(present, there and present is None, databases.leftovers(run.database), kept)


def _present(run: Run) -> Compared | None:
    """Return how the target compares where it holds exactly what the backup holds, else None."""
    try:
        with run.open(run.target, read_only=True) as session:
            compared = compare_restored(
                session, run.backup.path, run.manifest, leave_out=left_out_kinds(run.options.owners, run.options.privileges), tick=run.tick
            )
    except (ConnectError, DatabaseError) as error:
        if run.database.closed:
            raise
        if run.options.mode == NEW:
            raise refuse.there_already(run, f"and cannot be compared with the backup: {error.message}") from None
        # That it cannot be read may be why it is restored.
        run.warnings.append(f"{run.target} could not be compared with the backup before: {error.message}")
        return None
    if not compared.differences:
        return compared
    if run.options.mode == NEW:
        raise refuse.there_already(run, f"and holds something else than the backup: {compared.differences[0].message}")
    return None


def _restore(run: Run, plan: Plan) -> Compared:
    hidden = databases.hidden_name()
    databases.hold(run.database, hidden)
    try:
        with _dropped_after_failure(run, hidden):
            compared = _fill(run, hidden)
            with run.phase("publish"):
                _publish(run, hidden, plan)
    finally:
        databases.let_go(run.database, hidden)
    if plan.kept and not run.options.keep_old:
        databases.drop_database(run.database, run.sessions, plan.kept)
        plan.kept = None
    return compared


@contextmanager
def _dropped_after_failure(run: Run, hidden: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            _drop(run, hidden)
        except RunbookError as other:
            if isinstance(error, RunbookError):
                kept = f"The database {hidden} could not be dropped ({other.message}); the next run does that."
                error.hint = f"{error.hint} {kept}" if error.hint else kept
        raise


def _drop(run: Run, hidden: str) -> None:
    if not run.database.closed:
        databases.drop_database(run.database, run.sessions, hidden)
        return
    # The session was lost, and the server may be there again.
    with run.sessions.open(run.database.name) as again:
        databases.drop_database(again, run.sessions, hidden)


def _fill(run: Run, hidden: str) -> Compared:
    manifest, options = run.manifest, run.options
    with run.phase("create"):
        told = {
            "run": hidden[len(databases.PREFIX) :],
            "target": run.target,
            "backup": run.backup.id,
            "since": iso(datetime.now(timezone.utc)),
        }
        databases.create_hidden(run.database, hidden, manifest["settings"], run={**told, "pid": run.database.backend_pid})
        _rehearse(run, hidden)
        with run.open(hidden) as session:
            prepare(session, run.backup.path, manifest)
    for phase, seconds in load(
        run.sessions.of(hidden), run.server.version_num, run.backup.path, manifest, run.client, run.loading, run.tick, run.count_table
    ).items():
        run.add_seconds(phase, seconds)
    with run.open(hidden) as session:
        with run.phase("compare"):
            compared = compare_restored(
                session, run.backup.path, manifest, leave_out=left_out_kinds(options.owners, options.privileges), tick=run.tick
            )
        if compared.differences:
            raise refuse.different(run, compared.differences)
        if options.analyze:
            with run.phase("analyze"):
                session.execute("ANALYZE")
    run.deadline.check()
    return compared


def _rehearse(run: Run, hidden: str) -> None:
    """Apply the settings and take them back: what is wrong with them is better known before the rows are loaded than after."""
    try:
        with run.database.transaction():
            _apply(run, hidden)
            raise _Rehearsed
    except _Rehearsed:
        return
    except DatabaseError as error:
        raise DatabaseError(
            f"the settings of the database cannot be applied to this server: {error.message}",
            object_name=run.target,
            sqlstate=error.sqlstate,
            hint=error.hint or "Make what it names, or leave out owners and privileges where that is what it is about.",
        ) from None


def _apply(run: Run, name: str) -> None:
    apply_settings(run.database, name, run.manifest["settings"], owners=run.options.owners, privileges=run.options.privileges)


def _publish(run: Run, hidden: str, plan: Plan) -> None:
    """Give the hidden database its name, and the one that has it another, in one transaction."""
    for number in range(_TRIES):
        databases.terminate(run.database, hidden)
        if plan.replaces and run.options.disconnect:
            databases.terminate(run.database, run.target)
        try:
            with run.database.transaction():
                if plan.kept:
                    databases.rename(run.database, run.target, plan.kept)
                databases.rename(run.database, hidden, run.target)
                _apply(run, run.target)
            return
        except DatabaseError as error:
            if error.sqlstate == _DUPLICATE:
                raise refuse.there_already(run, "since the restore began") from None
            if error.sqlstate != _IN_USE or number == _TRIES - 1:
                raise
        found = databases.sessions_of(run.database, run.target) if plan.replaces else []
        if found and not run.options.disconnect:
            raise databases.in_use(run.target, found)


def _result(run: Run, plan: Plan, compared: Compared | None) -> Dict[str, Any]:
    action = PRESENT if plan.present else SWAPPED if run.options.mode == SWAP else RESTORED
    return {
        "changed": plan.present is None or bool(plan.leftovers),
        "mode": run.options.mode,
        "action": action,
        "backup": run.backup.summary(),
        "target": run.target,
        "kept": plan.kept if run.options.keep_old else None,
        "tables": compared.tables if compared else len(run.manifest.get("tables") or ()),
        "rows": compared.rows if compared else sum(int(table["rows"]) for table in run.manifest.get("tables") or ()),
        "left_out": list((run.manifest.get("coverage") or {}).get("left_out") or ()),
        "not_compared": left_out_kinds(run.options.owners, run.options.privileges),
        "dropped": plan.leftovers,
        "seconds": {**run.seconds},
        "warnings": list(run.warnings),
    }
