# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore from its options to its result: which backup, on which server, and by which of the ways."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import look_at
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import find_client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch, unwatched
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import NEW, SCHEMA, SWAP, TABLES, Options
from ansible_collections.pgops.runbook.plugins.module_utils._restore.parts import restore_tables
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup, pick
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.schema import restore_schema
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions, maintenance_database
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import PLAIN
from ansible_collections.pgops.runbook.plugins.module_utils._restore.whole import restore_whole

WAYS: Dict[str, Callable[[Run], Dict[str, Any]]] = {NEW: restore_whole, SWAP: restore_whole, TABLES: restore_tables, SCHEMA: restore_schema}


def restore(login: ConnectionOptions, options: Options, *, check_mode: bool, watch: Watch = unwatched) -> Dict[str, Any]:
    """Do what `options` say and return the result; in check mode only say what would be done.

    `watch` is called with a view of how far the restore is, about once a second. Raises Busy, Refused, MissingObject, InvalidValue and
    ProgramMissing before anything is changed, RunbookError otherwise; what was begun is taken back then.
    """
    began = time.monotonic()
    deadline = Deadline(options.max_runtime)
    backup = pick(options)
    target = _target(login, options, backup)
    sessions = Sessions(login, options.application_name)
    with sessions.open(maintenance_database(login, target), read_only=check_mode) as database:
        server = look_at(database)
        client = find_client(server.version_num, options.bin_dir)
        sessions = sessions.knowing(server.superuser, server.version_num)
        run = Run(options, backup, target, login, sessions, database, server, client, deadline, watch, check_mode)
        _warn(run)
        result = WAYS[options.mode](run)
    result["seconds"] = {**result["seconds"], "total": round(time.monotonic() - began, 3)}
    return result


def _target(login: ConnectionOptions, options: Options, backup: Backup) -> str:
    """Return the database that is asked for: for a whole one the one that was backed up, for a part of one that of the login."""
    if options.target or options.mode in (NEW, SWAP):
        return options.target or backup.database
    return login.parameters().get("dbname") or backup.database


def _warn(run: Run) -> None:
    if run.backup.verified is None:
        run.warnings.append(f"the backup {run.backup.id} has never been verified beyond its checksums, which are looked at now")
    flaws = run.client.below_floor()
    if flaws and run.manifest["dump"]["format"] == PLAIN:
        run.warnings.append(flaws)
