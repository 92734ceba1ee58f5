# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup of one database, from its first look at the server to its name in the folder."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup import preflight
from ansible_collections.pgops.runbook.plugins.module_utils._backup.beside import Beside
from ansible_collections.pgops.runbook.plugins.module_utils._backup.by_hand import by_hand
from ansible_collections.pgops.runbook.plugins.module_utils._backup.dump import (
    Blocked,
    Dumped,
    Recipe,
    compress_members,
    discard,
    dump,
    dump_arguments,
    spelled,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.globals import dump_globals
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head
from ansible_collections.pgops.runbook.plugins.module_utils._backup.leftovers import (
    begin_partial,
    end_programs,
    partial_folder,
    run_environment,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import VERSION, from_iso, iso, sealed, write_document
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import OBJECTS
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._backup.phases import Phases
from ansible_collections.pgops.runbook.plugins.module_utils._backup.progress import OPERATION, Progress
from ansible_collections.pgops.runbook.plugins.module_utils._backup.publish import free_id, listed_files, publish
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import Server
from ansible_collections.pgops.runbook.plugins.module_utils._backup.settings import read_settings
from ansible_collections.pgops.runbook.plugins.module_utils._backup.snapshot import Snapshot, open_snapshot
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import CHECKSUM, DECODE, RESTORE
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import verify
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import own_environment
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import choose_compression
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import client_login
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import Written, storage_error
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, Database, connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured, measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, tables_in
from ansible_collections.pgops.runbook.plugins.module_utils._content.sequences import measure_sequences
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

if TYPE_CHECKING:
    from ansible_collections.pgops.runbook.plugins.module_utils._restore.proof import Proof

COLLECTION_VERSION = "0.1.0"
_EVERY = 0.25
_TRIES = 5


@dataclass(frozen=True)
class Run:
    """What holds for all databases of a run. `id` marks its folders and the programs that it starts."""

    id: str
    options: Options
    login: ConnectionOptions
    client: Client
    server: Server
    deadline: Deadline
    watch: Watch

    def connect(self, name: str, *, long: bool = False) -> Database:
        """Open a session on database `name` that only reads; a `long` one lets a statement take as long as the run may."""
        login = self.login.to(name)
        login = login.within(self.deadline.statement_seconds) if long else login
        return connect(login, application_name=self.options.application_name, read_only=True)

    @cached_property
    def recipe(self) -> Recipe:
        """How backups are written: asked for when one is to be, since pg_dump is asked what it can. Raises ProgramMissing."""
        options = self.options
        compression = choose_compression(options.compression, options.format, self.client, options.compression_level)
        return Recipe(self.client, options.format, compression, options.encrypt, options.jobs, self.server.version_num // 10000)

    @property
    def scope(self) -> Scope:
        """What of each database is meant."""
        return Scope(self.options.kind, self.options.schemas, self.options.tables)

    def rehearsed(self, path: Path, manifest: Mapping[str, Any]) -> Proof:
        """Restore a backup into a hidden database and return what that says of it. Raises RunbookError."""
        # Only few runs do this, and it is half of another module.
        from ansible_collections.pgops.runbook.plugins.module_utils._backup.rehearse import rehearse

        return rehearse(path, manifest, self.login, self.options, self.server, self.client, self.deadline, self.watch)

    @property
    def environment(self) -> Dict[str, str]:
        """What every program of the run has in its environment."""
        return run_environment(self.id)


@dataclass
class Made:
    """A backup that stands in the folder under its name, with its sealed manifest."""

    path: Path
    manifest: Dict[str, Any]
    seconds: Dict[str, float]
    notices: List[str] = field(default_factory=list)


def need_of(run: Run, database: Database, previous: Head | None) -> preflight.Need:
    """Return what the backup of the connected database is expected to take. Raises DatabaseError, MissingObject."""
    scope = run.scope
    tables = [table for table in tables_in(database, scope) if table.measured]
    return preflight.estimate(
        database,
        [table.oid for table in tables],
        previous,
        method=run.recipe.compression.method,
        raw_first=run.recipe.raw_first,
        large_objects=scope.whole and scope.with_rows,
    )


def make(run: Run, name: str, previous: Head | None, number: int) -> Made:
    """Make the backup of database `name`. Whatever goes wrong, nothing of it is left. Raises RunbookError."""
    partial = partial_folder(run.options.folder, run.id, number)
    try:
        begin_partial(partial, run.id, OPERATION)
        return _Making(run, name, partial).made(previous)
    except OSError as error:
        raise storage_error(error, Path(error.filename or partial)) from None
    finally:
        if partial.exists():
            # A worker of pg_dump may outlive its leader for a moment.
            end_programs(run.id)
            shutil.rmtree(str(partial), ignore_errors=True)


class _Making:
    """The parts of one backup, in their order."""

    def __init__(self, run: Run, name: str, partial: Path) -> None:
        self._run = run
        self._name = name
        self._partial = partial
        self._phases = Phases()
        self._known: Dict[str, Written] = {}
        self._notices: List[str] = []

    def made(self, previous: Head | None) -> Made:
        run, began = self._run, datetime.now(timezone.utc)
        with self._phases.phase("total"):
            with run.connect(self._name, long=True) as database:
                with self._phases.phase("preflight"):
                    need = need_of(run, database, previous)
                    preflight.require_room(run.options.folder, need, run.options.min_free)
                progress = Progress(self._name, run.options.application_name, self._partial, need.size, run.deadline, run.watch)
                settings = read_settings(database)
                self._notices += self._shown(settings)
                snapshot, measured = self._read(database, progress)
                progress.attend(None)
            globals_ = self._globals(progress)
            with self._phases.phase("compress"):
                if run.recipe.raw_first:
                    compress_members(run.recipe, self._partial, {**own_environment(), **run.environment}, progress)
            document = self._document(began, snapshot, measured, settings, globals_, progress)
            with self._phases.phase("verify"):
                document["verified"] = self._verified(document, progress)
            with self._phases.phase("publish"):
                document = sealed({**document, "finished_at": iso(datetime.now(timezone.utc))})
                path = publish(self._partial, document)
        return Made(path, document, self._phases.seconds, self._notices)

    def _read(self, database: Database, progress: Progress) -> Tuple[Snapshot, Measured]:
        """Dump and measure; again with a new snapshot where somebody stood in the way, and the last time with a single process.

        One process locks all tables at its start. Several lock each table again when they come to it, without waiting.
        """
        recipe = self._run.recipe
        for number in range(_TRIES):
            last = number == _TRIES - 1
            try:
                return self._read_once(database, progress, replace(recipe, jobs=1) if last else recipe)
            except Blocked as error:
                if last:
                    raise
                discard(recipe, self._partial)
                self._notices.append(f"the dump of {self._name} was begun again: {error.message}")
        raise AssertionError("the last try returns or raises")

    def _read_once(self, database: Database, progress: Progress, recipe: Recipe) -> Tuple[Snapshot, Measured]:
        """Dump and measure in one snapshot. The session has to live until both are done, or what they saw may differ."""
        run, scope = self._run, self._run.scope
        progress.attend(None)
        with client_login(run.login, self._name, run.options.application_name) as login:
            lock_began = time.monotonic()
            with open_snapshot(database, lambda: tables_in(database, scope)) as snapshot:
                self._phases.add("lock", time.monotonic() - lock_began)
                progress.attend(database)
                patience = run.login.milliseconds()["lock_timeout"] / 1000
                arguments = spelled(database, dump_arguments(recipe, scope, snapshot.tables, snapshot.id, patience))
                dump_began = time.monotonic()

                def work(tick: Tick) -> Dumped:
                    return dump(recipe, login, arguments, self._partial, run.environment, tick)

                wanted = run.options.contents and scope.with_rows
                # pg_dump must not find them further back than is written down.
                sequences = measure_sequences(database, scope) if wanted else None
                with Beside(work) as beside:

                    def tick() -> None:
                        beside.check()
                        progress()

                    with self._phases.phase("contents"):
                        measured = measure(database, scope, rows=wanted, tables=list(snapshot.tables), sequences=sequences, tick=tick)
                    dumped = beside.result(progress, _EVERY)
                    measured = measured if recipe.with_subscriptions else _without_subscriptions(measured)
                self._phases.add("dump", time.monotonic() - dump_began)
                # What a session that was lost meanwhile had seen proves nothing.
                database.value("SELECT 1")
        self._known.update(dumped.known)
        self._notices += [f"pg_dump of {self._name}: {line}" for line in dumped.said.splitlines() if line]
        return snapshot, measured

    def _shown(self, settings: Mapping[str, Any]) -> List[str]:
        """Return what to say where the manifest shows what an encrypted backup may be meant to hide: parameters of applications."""
        every = [*settings["config"], *(one for config in settings["role_config"].values() for one in config or ())]
        own = sorted({name for name in (one.partition("=")[0] for one in every) if "." in name})
        if self._run.recipe.encryption is None or not own:
            return []
        names = ", ".join(own)
        return [f"the manifest of the backup of {self._name} is not encrypted, and has the settings of the database in it, also {names}"]

    def _globals(self, progress: Progress) -> Dict[str, Any] | None:
        run = self._run
        if run.options.kind != "full" or not run.options.with_globals:
            return None
        with self._phases.phase("globals"), client_login(run.login, self._name, run.options.application_name) as login:
            entry, known = dump_globals(
                run.recipe, login, self._name, self._partial, run.environment, progress, passwords=run.server.reads_passwords
            )
        self._known.update(known)
        self._notices += [f"the roles in the backup of {self._name}: {entry['note']}"] if entry["note"] else []
        return entry

    def _document(
        self,
        began: datetime,
        snapshot: Snapshot,
        measured: Measured,
        settings: Dict[str, Any],
        globals_: Dict[str, Any] | None,
        progress: Progress,
    ) -> Dict[str, Any]:
        run, recipe = self._run, self._run.recipe
        schemas = sorted({table.schema for table in snapshot.tables}) if run.options.tables else []
        with self._phases.phase("hash"):
            write_document(self._partial / OBJECTS, measured.objects or {})
            files = listed_files(self._partial, self._known, run.options.jobs, progress)
        return {
            "format": VERSION,
            "kind": "logical",
            "id": free_id(run.options.folder, self._name, run.options.name, from_iso(snapshot.at)),
            "name": run.options.name,
            "database": self._name,
            "database_oid": run.server.oid(self._name),
            "system_identifier": run.server.system_identifier,
            "started_at": iso(began),
            "bytes": sum(file["bytes"] for file in files),
            "verified": None,
            "dump": {
                "format": recipe.format,
                "compression": recipe.compression.as_manifest(),
                "encryption": recipe.encryption.as_manifest() if recipe.encryption else None,
                "jobs": run.options.jobs if recipe.format == "directory" else 1,
            },
            "versions": {
                "server": run.server.version,
                "server_version_num": run.server.version_num,
                "client": run.client.text,
                "collection": COLLECTION_VERSION,
            },
            "snapshot": {
                "at": snapshot.at,
                "lsn": snapshot.lsn,
                "in_recovery": snapshot.in_recovery,
                "timeline": run.server.timeline,
            },
            "files": files,
            **measured.as_manifest(),
            "settings": settings,
            "globals": globals_,
            "by_hand": by_hand(recipe, run.options.kind, settings, globals_, schemas),
        }

    def _verified(self, document: Dict[str, Any], progress: Progress) -> Dict[str, Any]:
        """Verify what stands on the disk; the stream of an encrypted backup was read whole before it was encrypted."""
        run = self._run
        level = CHECKSUM if run.recipe.encryption is not None or run.options.verify == CHECKSUM else DECODE
        found = verify(self._partial, document, level, run.client, progress)
        if not found.ok:
            raise RunbookError(
                f"what was written of {self._name} is not what was sent to the disk: {found.message}",
                object_name=self._name,
                hint="Look at the disk and the kernel's log.",
            )
        how = DECODE if run.recipe.encryption is not None and run.options.verify != CHECKSUM else found.how
        if found.message:
            self._notices.append(f"{self._name}: {found.message}")
        if run.options.verify == RESTORE:
            proof = run.rehearsed(self._partial, document)
            if proof.differences:
                raise RunbookError(
                    f"what was restored of {self._name} is not what was dumped: {proof.told}",
                    object_name=self._name,
                    hint="Restore such a backup by hand and look at what it names.",
                )
            if proof.whole:
                return {"how": RESTORE, "at": iso(datetime.now(timezone.utc))}
            self._notices.append(f"{self._name}: it was restored, which proves less than was asked for: {proof.told}")
        return {"how": how, "at": iso(found.at)}


def _without_subscriptions(measured: Measured) -> Measured:
    """Return what was measured as the dump has it, and say what it lacks."""
    why = "pg_dump of 16 and newer writes it in a form that this server does not take: write its definition down, and make it by hand"
    told = [{**one, "why": why} if one["what"] == "subscription" else one for one in measured.coverage["left_out"]]
    objects = {kind: found for kind, found in (measured.objects or {}).items() if kind != "subscriptions"}
    return replace(measured, objects=objects, coverage={**measured.coverage, "left_out": told})
