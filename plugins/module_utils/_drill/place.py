# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a drill restores to: a server that is made for it and thrown away, or the one of the connection."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import decoders
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import read_stream
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, Database, connect
from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import Account, runs_a_server, server_account
from ansible_collections.pgops.runbook.plugins.module_utils._drill.cluster import FASTER, ScratchCluster, without_libpq_environment
from ansible_collections.pgops.runbook.plugins.module_utils._drill.globals import Globals, read_globals, restore_globals
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._drill.phases import Phases
from ansible_collections.pgops.runbook.plugins.module_utils._drill.plan import require_room
from ansible_collections.pgops.runbook.plugins.module_utils._drill.scratch import PREFIX, ScratchFolder, clear_leftovers
from ansible_collections.pgops.runbook.plugins.module_utils._drill.servers import find_server
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import names_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases, needs, refuse
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run


class Place:
    """The server of a connection. What a drill makes there, it drops again."""

    throwaway = False

    def __init__(self, login: ConnectionOptions) -> None:
        self.login = login
        self.notices: List[str] = []

    @property
    def settings(self) -> Dict[str, str]:
        """What of the server's settings makes it faster than one that keeps its data."""
        return {}

    @property
    def has_network(self) -> bool:
        """Whether what is restored could reach a network."""
        return True

    def start(self, backup: Backup, phases: Phases, await_whole: Callable[[], None]) -> None:
        """Have the server ready, with what of it belongs to the backup, from whose files something is run only after `await_whole`."""

    def make_ready(self, run: Run) -> None:
        """Look whether the backup can become a database there, and drop what killed runs have left. Raises Refused."""
        refuse.check_version(run, "Drill on a newer server, or with in=cluster.", option="in")
        self._require(_missing(run), "Make them there, or drill with in=cluster, which needs nothing but the extensions.")
        gone, complaints = databases.drop_leftovers(run.database, run.sessions)
        self.notices += [*(f"database {name} of a run that was killed has been dropped" for name in gone), *complaints]

    def _require(self, missing: Mapping[str, List[str]], hint: str) -> None:
        if missing:
            words = "; ".join(f"{kind}: {names_in_words(names)}" for kind, names in missing.items())
            first = next(iter(missing.values()))[0]
            raise Refused(f"the backup needs what the server of the drill does not have: {words}", object_name=first, hint=hint)


class ScratchPlace(Place):
    """A server of one's own, with the roles of the backup."""

    throwaway = True

    def __init__(self, cluster: ScratchCluster, options: Options) -> None:
        super().__init__(ConnectionOptions())
        self._cluster = cluster
        self._options = options
        self._network = True

    @property
    def settings(self) -> Dict[str, str]:
        """What makes it faster."""
        return dict(FASTER)

    @property
    def has_network(self) -> bool:
        """Whether what is restored could reach a network."""
        return self._network

    def start(self, backup: Backup, phases: Phases, await_whole: Callable[[], None]) -> None:
        """Start the server and restore the roles. Raises ProgramFailed, DatabaseError, and what `await_whole` raises."""
        name = self._options.restore.application_name
        with phases.phase("start"):
            self._cluster.start()
            self._network = self._cluster.has_network
        await_whole()
        with phases.phase("globals"):
            found = _globals(backup, self._options)
            self._cluster.name_superuser(found.bootstrap, name)
            self.login = self._cluster.login()
            with connect(self.login, application_name=name, read_only=False) as database:
                notices = restore_globals(database, found)
        self.notices += notices

    def make_ready(self, run: Run) -> None:
        """Make up the roles that a backup without any names. Raises Refused where something else is missing."""
        missing = _missing(run)
        if not run.manifest.get("globals"):
            self._make_up(run.database, missing.pop("roles", []))
        self._require(missing, "Install the packages with these extensions beside the server programs, or back the roles up again.")

    def _make_up(self, database: Database, roles: List[str]) -> None:
        for role in roles:
            database.execute(database.sql.SQL("CREATE ROLE {}").format(database.sql.Identifier(role)))
        if roles:
            self.notices.append(f"the backup holds no roles; those that it names were made up: {names_in_words(roles)}")


@contextmanager
def scratch_place(options: Options, backup: Backup) -> Iterator[ScratchPlace]:
    """Begin to make a server for `backup`; after the block it is gone. Raises InvalidValue, ProgramMissing, Refused."""
    parent = str(options.scratch_folder)
    cleared = clear_leftovers(parent)
    account = server_account(options.run_as)
    programs = find_server(int(backup.manifest["versions"]["server_version_num"]) // 10000, options.server_bin_dir, account)
    tight = require_room(options, backup)
    folder = ScratchFolder.make(parent, account)
    try:
        with without_libpq_environment(), ScratchCluster(programs, folder, account, jobs=options.restore.jobs) as cluster:
            cluster.begin()
            place = ScratchPlace(cluster, options)
            place.notices += [f"{path} of a run that was killed has been removed" for path in cleared] + tight + _neighbour(account)
            yield place
    finally:
        folder.remove()


def _neighbour(account: Account) -> List[str]:
    """Return a notice where what is restored, which may run code, could read and write the files of a server at work."""
    if not runs_a_server(account, unless_in=f"/{PREFIX}"):
        return []
    return [f"{account.name} runs another server on this host, whose files are open to what is restored; run_as names another account"]


def _missing(run: Run) -> Dict[str, List[str]]:
    """Return the roles and extensions that the server lacks; tablespaces are not used."""
    objects = needs.read_objects(run.backup.path) or {}
    missing = needs.missing(run.database, run.manifest["settings"], objects, owners=True, privileges=True)
    return {kind: names for kind, names in missing.items() if kind != "tablespaces"}


def _globals(backup: Backup, options: Options) -> Globals:
    entry = backup.manifest.get("globals")
    if not entry:
        return read_globals("")
    path = backup.path / str(entry["file"])
    parts: List[bytes] = []
    read_stream(path, decoders(path.name, options.restore.identity, options.restore.gpg_home), parts.append)
    try:
        return read_globals(b"".join(parts).decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidValue(f"{path.name} of the backup is not in UTF-8", object_name=path.name) from None
