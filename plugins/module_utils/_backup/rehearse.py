# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deepest verification of a backup: it is restored into a hidden database of the same server, compared, and dropped there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.decode import NO_KEYS, Keys
from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import Server
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import DECODE
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases, refuse
from ansible_collections.pgops.runbook.plugins.module_utils._restore import options as restore_options
from ansible_collections.pgops.runbook.plugins.module_utils._restore.hidden import compare, fill, hidden_database
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._restore.proof import Proof, prove
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions, maintenance_database

_OLDER = "Verify it on a server of that version or a newer one, or let a recovery drill start one."


def rehearse(
    path: Path,
    manifest: Mapping[str, Any],
    login: ConnectionOptions,
    options: Options,
    server: Server,
    client: Client,
    deadline: Deadline,
    watch: Watch,
    keys: Keys = NO_KEYS,
) -> Proof:
    """Restore the backup in the folder `path`, read with `keys` where it is encrypted, and return what that says of it.

    Raises RunbookError where it cannot be restored here; nothing of it is left in any case.
    """
    asked = restore_options.Options(
        path=path,
        jobs=options.jobs,
        identity=keys.identity,
        gpg_home=keys.gpg_home,
        scratch_folder=None,
        application_name=options.application_name,
    )
    sessions = Sessions(login, options.application_name)
    with sessions.open(maintenance_database(login)) as database:
        run = Run(
            asked,
            Backup(path, manifest, DECODE),
            str(manifest["database"]),
            login,
            sessions.knowing(server.superuser, server.version_num),
            database,
            server,
            client,
            deadline,
            watch,
        )
        refuse.check_version(run, _OLDER)
        refuse.check_backup(run)
        refuse.check_server(run)
        # What cannot be dropped hinders no backup; a restore or a drill names it.
        databases.drop_leftovers(database, run.sessions)
        with hidden_database(run) as hidden:
            fill(run, hidden.name)
            return prove(compare(run, hidden.name), run.backup, same_major=run.same_major)
