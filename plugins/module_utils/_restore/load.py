# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup into an empty database, whatever its format. Of a backup that is encrypted, nothing is ever written to a disk of this host."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import ENCRYPTED
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import client_login
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._restore.archive import ArchiveRestore, Counted
from ansible_collections.pgops.runbook.plugins.module_utils._restore.plain import restore_plain
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sessions import for_loading
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import DIRECTORY, PLAIN, Archive
from ansible_collections.pgops.runbook.plugins.module_utils._restore.unpack import is_packed, lay_out, scratch_folder
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

Source = Tuple[Path, List[List[str]]]


@dataclass(frozen=True)
class Loading:
    """How a backup is loaded: by how many sessions, with what of it left out, unpacked below which folder.

    `superuser` says that the login is one, which can keep restored event triggers from firing before the rest is there.
    """

    jobs: int = 1
    owners: bool = True
    privileges: bool = True
    tablespaces: bool = True
    scratch: Path | None = None
    superuser: bool = False
    application_name: str = "pgops.runbook/pg_restore"

    def arguments(self) -> List[str]:
        """Return what pg_restore is told to leave out."""
        left_out = {"--no-owner": self.owners, "--no-privileges": self.privileges, "--no-tablespaces": self.tablespaces}
        return [word for word, wanted in left_out.items() if not wanted]


def load(
    login: ConnectionOptions,
    server_version: int,
    archive: Archive,
    manifest: Mapping[str, Any],
    loading: Loading,
    tick: Tick | None = None,
    counted: Counted = None,
) -> Dict[str, float]:
    """Load `archive` into the empty database that `login` names and return the seconds of the phases unpack, pre_data, data, post_data.

    The files have been checked. `tick` is called about once a second and may raise, which ends everything; `counted` gets the number of
    tables that have their rows, where that can be told, from another thread. Raises ProgramFailed,
    ProgramMissing, Refused, InvalidValue; what has been loaded till then is of no use.
    """
    database = login.parameters()["dbname"]
    if loading.superuser:
        login = for_loading(login, server_version)
    with ExitStack() as stack:
        access = stack.enter_context(client_login(login, database, loading.application_name))
        if archive.format == PLAIN:
            return {"unpack": 0.0, **restore_plain(archive.path, archive.decoders(), archive.client, access, server_version, tick)}
        began = time.monotonic()
        source, commands = _source(stack, archive, manifest, loading, tick)
        unpacked = time.monotonic() - began
        jobs = 1 if commands else loading.jobs
        restore = ArchiveRestore(
            archive.client, access, server_version, jobs=jobs, arguments=loading.arguments(), tick=tick, counted=counted
        )
        phases = restore.from_stream(source, commands) if commands else restore.from_path(source)
        return {"unpack": unpacked, **phases}


def _source(stack: ExitStack, archive: Archive, manifest: Mapping[str, Any], loading: Loading, tick: Tick | None) -> Source:
    """Return the archive and the commands that it has to go through, none where pg_restore can read it where it stands."""
    backup = archive.path.parent
    if archive.format == DIRECTORY:
        members = _members(archive, manifest)
        if not any(map(is_packed, members)):
            return archive.path, []
        folder = stack.enter_context(scratch_folder(loading.scratch, backup))
        lay_out(folder, members, max(1, loading.jobs), tick)
        return folder, []
    name = archive.path.name
    if is_packed(name) and loading.jobs > 1 and not name.endswith(tuple(ENCRYPTED.values())):
        # Several sessions read at several places of the file, which they cannot do in a stream.
        folder = stack.enter_context(scratch_folder(loading.scratch, backup))
        return next(iter(lay_out(folder, {name: archive.path}, 1, tick).values())), []
    return archive.path, archive.decoders()


def _members(archive: Archive, manifest: Mapping[str, Any]) -> Dict[str, Path]:
    paths = [Path(str(file["path"])) for file in manifest["files"]]
    return {path.name: archive.path / path.name for path in paths if path.parts[0] == archive.path.name and len(path.parts) == 2}


def readable(archive: Archive, manifest: Mapping[str, Any]) -> None:
    """Look whether everything is there that decoding the backup takes. Raises ProgramMissing, InvalidValue."""
    members = sorted(_members(archive, manifest).values()) if archive.format == DIRECTORY else [archive.path]
    for path in {path.suffix: path for path in members}.values():
        archive.decoders(path)
