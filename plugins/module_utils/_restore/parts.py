# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of a live database, out of a backup: what is asked for, done under a lock of its own, and told."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases
from ansible_collections.pgops.runbook.plugins.module_utils._restore.missing_rows import copy_missing_rows
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import REPLACE
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import check_files
from ansible_collections.pgops.runbook.plugins.module_utils._restore.refuse import check_version, require_programs
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import Outcome, Request
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import OPERATION, Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.staging import said_of
from ansible_collections.pgops.runbook.plugins.module_utils._restore.table_replace import PRESENT, REPLACED, replace_tables
from ansible_collections.pgops.runbook.plugins.module_utils._restore.tokens_back import read_stores

COPIED = "rows_copied"


def restore_tables(run: Run) -> Dict[str, Any]:
    """Replace tables of the target, or copy back the rows that they lack, and return the result; in check mode only say what would be done.

    Raises Busy, Refused, MissingObject, InvalidValue and ProgramMissing before anything is changed, RunbookError after it was taken back.
    """
    stores = read_stores(run.options.token_stores)
    require_target(run)
    require_readable(run, rows=True)
    return alone(run, lambda: _restore(run, stores))


def alone(run: Run, work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """Do `work` with the files of the backup looked at, while no other run restores to the target. Raises Busy, Refused."""
    operation = f"{OPERATION} of {run.target}"
    if not run.check_mode:
        databases.take_target(run.database, operation)
    try:
        with run.phase("fetch"):
            check_files(run.backup, run.tick)
        return work()
    finally:
        if not run.check_mode:
            release_lock(run.database, operation)


def require_target(run: Run) -> None:
    """Raise MissingObject where there is no database that parts of a backup could go into."""
    if not databases.exists(run.database, run.target):
        hint = "Name the database with the option target, or restore the whole backup with mode=new."
        raise MissingObject(f"database {run.target} does not exist", object_name="target", hint=hint)


def require_readable(run: Run, *, rows: bool) -> None:
    """Refuse an older server, programs that cannot read the backup, and one of no rows or of nothing else.

    Raises Refused, InvalidValue, ProgramMissing.
    """
    check_version(run)
    if run.backup.kind == "data_only" and not rows:
        raise Refused(f"the backup {run.backup.id} holds rows alone", object_name=run.backup.id, hint="Choose another backup.")
    if run.backup.kind == "schema_only" and rows:
        raise Refused(f"the backup {run.backup.id} holds no rows", object_name=run.backup.id, hint="Choose another backup.")
    require_programs(run)


def _restore(run: Run, stores: Any) -> Dict[str, Any]:
    options = run.options
    request = Request(
        archive=run.archive,
        manifest=run.manifest,
        tables=tuple(map(parse_relation, options.tables)),
        stores=stores,
        accept_tokens_back=options.accept_tokens_back,
        keep_old=options.keep_old,
        key=options.key,
        tick=run.tick,
    )
    for table in request.tables:
        if said_of(run.manifest, table) is None:
            run.warnings.append(f"table {table}: the manifest says nothing of its rows, so that they cannot be compared with it")
    with run.open(run.target) as session, run.phase("restore"):
        outcome = (replace_tables if options.how == REPLACE else copy_missing_rows)(session, request, check_mode=run.check_mode)
    return _result(run, outcome)


def _result(run: Run, outcome: Outcome) -> Dict[str, Any]:
    tables = [table.as_result() for table in outcome.tables]
    replaces = run.options.how == REPLACE
    rows = sum(table["rows" if replaces else "inserted"] for table in tables)
    if replaces:
        changed = any(table["action"] == REPLACED for table in tables)
    else:
        changed = any(table["inserted"] or table["sequences_moved"] for table in tables)
    for table in [] if replaces else tables:
        _warn_of_triggers(run, table)
    return {
        "changed": changed,
        "mode": run.options.mode,
        "action": PRESENT if not changed else REPLACED if replaces else COPIED,
        "backup": run.backup.summary(),
        "target": run.target,
        "tables": len(tables),
        "rows": rows,
        "restored": tables,
        "tokens_back": [count.as_result() for count in outcome.tokens],
        "seconds": {**run.seconds},
        "warnings": list(run.warnings),
    }


def _warn_of_triggers(run: Run, table: Dict[str, Any]) -> None:
    for key, what in (("vetoed", "were not inserted"), ("rewritten", "got other values than they have in the backup")):
        if table[key]:
            who = f" (its triggers are {', '.join(table['triggers'])})" if table["triggers"] else ""
            run.warnings.append(f"table {table['table']}: {table[key]} rows {what}: something in the database did that{who}")
