# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every way to restore is given: the backup, the server, the programs, and the time that is left."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.phases import Phases
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import Server
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, Database
from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView, Watch, named
from ansible_collections.pgops.runbook.plugins.module_utils._restore.load import Loading
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import Archive

OPERATION = "pg_restore"
_SECONDS_BETWEEN = 1.0  # two signs of life


@dataclass
class Run:
    """A restore that goes on. `database` is the session on a database that stays as it is, `target` the name that is asked for.

    In check mode every session only reads. What is said to a person goes to `warnings`.
    """

    options: Options
    backup: Backup
    target: str
    login: ConnectionOptions
    sessions: Sessions
    database: Database
    server: Server
    client: Client
    deadline: Deadline
    watch: Watch
    check_mode: bool = False
    warnings: List[str] = field(default_factory=list)
    tables_done: int = 0
    _spent: Phases = field(default_factory=Phases)
    _began: float = field(default_factory=time.monotonic)
    _next: float = 0.0

    @property
    def seconds(self) -> Dict[str, float]:
        """How long each phase took."""
        return self._spent.seconds

    @property
    def manifest(self) -> Any:
        """The backup's manifest."""
        return self.backup.manifest

    @property
    def archive(self) -> Archive:
        """What of the backup holds the database. Raises InvalidValue where that is of no form that is known here."""
        return Archive.of(self.backup.path, self.manifest, self.client, self.options.identity, self.options.gpg_home)

    @property
    def loading(self) -> Loading:
        """How the backup is loaded."""
        options = self.options
        return Loading(
            jobs=options.jobs,
            owners=options.owners,
            privileges=options.privileges,
            scratch=options.scratch_folder,
            superuser=self.server.superuser,
            application_name=options.application_name,
        )

    @property
    def same_major(self) -> bool:
        """Whether the server is of the major version of the one that was backed up."""
        return int(self.manifest["versions"]["server_version_num"]) // 10000 == self.server.version_num // 10000

    def open(self, name: str, *, read_only: bool | None = None) -> Database:
        """Return a session on database `name`, whose statements may take as long as the run; it only reads in check mode."""
        only = self.check_mode if read_only is None else read_only
        return self.sessions.open(name, read_only=only, seconds=self.deadline.statement_seconds)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block."""
        with self._spent.phase(name):
            yield

    def add_phases(self, found: Mapping[str, float]) -> None:
        """Count the seconds of phases that something else has measured, one after the other, of which the last has just ended."""
        for name, seconds in found.items():
            self._spent.add(name, seconds)

    def tick(self) -> None:
        """Look whether the run may go on. Raises OutOfTime, and DatabaseError where the server is gone."""
        self.deadline.check()
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN
            self.show(self.tables_done, len(self.manifest.get("tables") or ()))

    def count_table(self, number: int) -> None:
        """Take note that so many tables have been filled."""
        self.tables_done = number

    def show(self, done: int, total: int) -> None:
        """Show how far the restore is, to a watcher and as the name of the session, which is kept alive by that."""
        view = ProgressView.after(OPERATION, self.target, min(done, total), total + 1, time.monotonic() - self._began)
        self.watch(view)
        if not self.database.in_transaction:
            self.database.set_application_name(named(self.options.application_name, view))
