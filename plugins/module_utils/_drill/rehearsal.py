# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal itself: check the files, restore, compare, look."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Iterator, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import look_at
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import RESTORE
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import find_client
from ansible_collections.pgops.runbook.plugins.module_utils._drill.checks import run_checks
from ansible_collections.pgops.runbook.plugins.module_utils._drill.fetching import Fetching
from ansible_collections.pgops.runbook.plugins.module_utils._drill.finding import Finding
from ansible_collections.pgops.runbook.plugins.module_utils._drill.phases import Phases
from ansible_collections.pgops.runbook.plugins.module_utils._drill.place import Place
from ansible_collections.pgops.runbook.plugins.module_utils._drill.verdict import blames_backup
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch
from ansible_collections.pgops.runbook.plugins.module_utils._restore import refuse
from ansible_collections.pgops.runbook.plugins.module_utils._restore.hidden import analyzing, fill, hidden_database, rehearse_settings
from ansible_collections.pgops.runbook.plugins.module_utils._restore.load import Loading
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Comparison
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import Sessions, maintenance_database
from ansible_collections.pgops.runbook.plugins.module_utils._restore.settings import apply_settings


@dataclass
class _Rehearsal(Run):
    """A restore whose times are those of a drill."""

    phases: Phases = field(default_factory=Phases)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block."""
        with self.phases.phase(name):
            yield

    def add_phases(self, found: Mapping[str, float]) -> None:
        """Count the seconds of phases that something else has measured, one after the other, of which the last has just ended."""
        began = self.phases.passed - sum(found.values())
        for name, seconds in found.items():
            self.phases.add(name, began, seconds)
            began += seconds

    @property
    def loading(self) -> Loading:
        """How the backup is loaded: tablespaces of the source may be at work."""
        return replace(super().loading, tablespaces=False)


def rehearse(place: Place, found: Finding, backup: Backup, watch: Watch) -> None:
    """Restore `backup` in `place`, compare it and look at it; what is found goes to `found`. Raises RunbookError."""
    options, phases = found.options.restore, found.phases
    deadline = Deadline(options.max_runtime)
    with ExitStack() as stack:
        fetching = stack.enter_context(Fetching(found, backup, deadline))
        place.start(backup, phases, fetching.require_whole)
        sessions = Sessions(place.login, options.application_name)
        database = stack.enter_context(sessions.open(maintenance_database(place.login)))
        server = look_at(database)
        client = find_client(server.version_num, options.bin_dir)
        sessions = sessions.knowing(server.superuser, server.version_num)
        found.versions.update(server=server.version, client=client.text)
        found.settings, found.has_network = place.settings, place.has_network
        run = _Rehearsal(
            options,
            backup,
            backup.id,
            place.login,
            sessions,
            database,
            server,
            client,
            deadline,
            watch,
            warnings=found.notices,
            phases=phases,
        )
        found.same_major = run.same_major
        refuse.check_backup(run)
        fetching.require_whole()
        place.make_ready(run)
        with hidden_database(run) as hidden:
            _restore(run, hidden.name, found, throwaway=place.throwaway)
            if found.options.checks is not None:
                with phases.phase("checks"):
                    found.checks = run_checks(run.sessions.of(hidden.name), found.options.checks, options.application_name)
            # The whole server goes, which takes less time.
            hidden.kept = place.throwaway
            found.ended = phases.passed


def _restore(run: _Rehearsal, name: str, found: Finding, *, throwaway: bool) -> None:
    """Restore to where an application could begin to work, and compare. `throwaway` says that nobody else can reach the server."""
    rehearse_settings(run, name)
    _fill(run, name, found)
    with run.open(name) as session:
        # Before the settings of the database hold, which are for its applications.
        comparison = Comparison(session, run.backup.path, run.manifest)
        with analyzing(run, name), run.phase("compare"):
            comparison.read_structure()
        if throwaway:
            with run.phase("settings"), run.database.transaction():
                # A template cannot be dropped.
                apply_settings(run.database, name, {**run.manifest["settings"], "is_template": False})
        # Elsewhere they would let everybody in whom the source lets in.
        run.phases.mark_usable()
        with run.phase("compare"):
            comparison.read_rows(workers=run.options.jobs, tick=run.tick)
            found.compared = comparison.compared()


def _fill(run: _Rehearsal, name: str, found: Finding) -> None:
    began = run.phases.passed
    try:
        fill(run, name)
    except ProgramFailed as error:
        run.phases.add("load", began, run.phases.passed - began)
        if blames_backup(error, run.backup.kind, same_major=found.same_major):
            found.broken = RESTORE
        raise
