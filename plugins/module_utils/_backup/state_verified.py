# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that are there are looked at again, and what was found is written down beside each.

Nothing is locked: a backup may be made meanwhile, and one that is deleted meanwhile is renamed first, so that it is told from a broken one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.decode import Keys
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, each_backup, has_manifest, read_head
from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline, OutOfTime
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import iso
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import part_of_id
from ansible_collections.pgops.runbook.plugins.module_utils._backup.option_values import given, one_of
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import EVERY, Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._backup.progress import OPERATION
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import Server, look_at
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import (
    CHECKSUM,
    DECODE,
    LEVELS,
    RESTORE,
    deepest,
    record,
    standing,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import Look, restored, verify
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client, find_client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import (
    InvalidValue,
    MissingObject,
    ProgramMissing,
    RunbookError,
    with_hint,
)
from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView, Watch, unwatched

STATES = PRESENT, VERIFIED = ("present", "verified")
LATEST = "latest"
WHOLE, BROKEN, UNKNOWN, LEFT, PLANNED = "whole", "broken", "unknown", "left", "planned"

_DELETED = "it was deleted meanwhile"
_OWN = ("backup", "identity", "gpg_home")
_OLDEST_SERVER = 120000


@dataclass(frozen=True)
class Wanted:
    """Which backups are looked at: `backup` by name, the `latest`, or all that are of the databases, name and scope of `options`."""

    options: Options
    backup: str = ""
    keys: Keys = field(default_factory=Keys)


def asked_for(parameters: Mapping[str, Any]) -> bool:
    """Return whether backups are to be verified and not made. Raises InvalidValue for options that only the other state has."""
    if given(parameters, "state", PRESENT) == VERIFIED:
        return True
    for option in _OWN:
        if given(parameters, option, None) is not None:
            raise InvalidValue(f"{option}: it means nothing with state=present; leave it out, or use state=verified", object_name=option)
    return False


def read_wanted(parameters: Mapping[str, Any], application_name: str = Options.application_name) -> Wanted:
    """Return what a module's `parameters` ask to verify. Raises InvalidValue, which names the option and what would be right."""
    # What says how one is made and kept is no matter here: a task may say both with the same variables.
    options = read_options({**parameters, "encrypt": None, "keep": None, "copies": None, "verify": None}, application_name)
    options = replace(options, verify=one_of(parameters, "verify", LEVELS, options.verify))
    backup = str(given(parameters, "backup", ""))
    if backup.startswith(".") or "/" in backup:
        raise InvalidValue(
            f"backup: {backup!r} is not the id of a backup: write the name of its folder as pg_backup_info shows it, or {LATEST}",
            object_name="backup",
        )
    return Wanted(options, backup, Keys(given(parameters, "identity", None), given(parameters, "gpg_home", None)))


@dataclass
class _Entry:
    """What was found of one backup."""

    path: Path
    head: Head | None = None
    level: str | None = None
    result: str = LEFT
    verified: str | None = None
    changed: bool = False
    seconds: float = 0.0
    message: str | None = None

    def as_result(self) -> Dict[str, Any]:
        """Return it as a result shows it."""
        head = self.head
        return {
            "id": self.path.name,
            "path": str(self.path),
            "database": head.database if head else None,
            "name": head.name if head else None,
            "taken_at": iso(head.taken_at) if head else None,
            "bytes": head.size if head else None,
            "level": self.level,
            "result": self.result,
            "verified": self.verified,
            "changed": self.changed,
            "seconds": round(self.seconds, 3),
            "msg": self.message,
        }


def verify_those_there(login: ConnectionOptions, wanted: Wanted, *, check_mode: bool = False, watch: Watch = unwatched) -> Dict[str, Any]:
    """Look at each backup that is wanted, write down what was found, and return the result; in check mode only say which they are.

    Where one is broken, or could not be looked at, Unfinished is raised when all were. Raises InvalidValue, MissingObject and ConnectError
    before anything is looked at.
    """
    return _Verifying(login, wanted, check_mode, watch).result()


class _Verifying:
    """The looks of one run."""

    def __init__(self, login: ConnectionOptions, wanted: Wanted, check_mode: bool, watch: Watch) -> None:
        self._login = login
        self._wanted = wanted
        self._options = wanted.options
        self._check_mode = check_mode
        self._watch = watch
        self._deadline = Deadline(wanted.options.max_runtime)
        self._notices: List[str] = []
        self._began = time.monotonic()
        self._done = 0
        self._total = 0
        self._client: Client | None = None

    def result(self) -> Dict[str, Any]:
        """Look at one after the other."""
        untrusted, chosen = self._chosen()
        self._total = sum(head.size for head, _manifest in chosen)
        if chosen and not self._check_mode:
            # Before anything is looked at: what is missing for all of them is no fault of any.
            self._client = self._find_client()
        entries = untrusted + [self._entry(head, manifest) for head, manifest in chosen]
        left = [entry for entry in entries if entry.result == LEFT]
        if left:
            self._notices.append(f"{len(left)} of {len(entries)} backups were not looked at: {left[0].path.name}: {left[0].message}")
        result = {
            "changed": any(entry.changed for entry in entries),
            "verifications": [entry.as_result() for entry in entries],
            "warnings": self._notices,
        }
        self._fail_for(entries, result)
        return result

    def _fail_for(self, entries: Sequence[_Entry], result: Mapping[str, Any]) -> None:
        """Raise Unfinished where a backup is broken, or where that is not known."""
        for outcome, words in ((BROKEN, "is broken"), (UNKNOWN, "could not be verified")):
            bad = [entry for entry in entries if entry.result == outcome]
            if bad:
                more = f" (it is one of {len(bad)} of {len(entries)})" if len(bad) > 1 else ""
                hint = "Make another one, and look at the disk." if outcome == BROKEN else None
                raise Unfinished(
                    f"the backup {bad[0].path.name} {words}{more}: {bad[0].message}", result, object_name=bad[0].path.name, hint=hint
                )

    # --- which ----------------------------------------------------------------------------------------------------------

    def _chosen(self) -> Tuple[List[_Entry], List[Tuple[Head, Mapping[str, Any]]]]:
        """Return the wanted backups that cannot be trusted at all, and the others, the newest first. Raises MissingObject."""
        folder, backup = self._options.folder, self._wanted.backup
        untrusted: List[_Entry] = []
        found: List[Tuple[Head, Mapping[str, Any]]] = []
        if backup not in ("", LATEST):
            return self._named(folder / backup)
        for one in each_backup(str(folder)):
            if not isinstance(one, InvalidValue):
                found += [one] if self._meant(one[0]) else []
            elif not backup and self._may_be_meant(str(one.object_name)):
                untrusted.append(_Entry(folder / str(one.object_name), result=BROKEN, message=one.message))
            else:
                self._notices.append(one.message)
        found.sort(key=lambda one: (one[0].taken_at, one[0].folder), reverse=True)
        if not found and not untrusted:
            raise MissingObject(
                f"{folder} holds no backup{self._meaning()}", object_name=str(folder), hint="pg_backup_info lists what there is."
            )
        return untrusted, found[:1] if backup else found

    def _named(self, path: Path) -> Tuple[List[_Entry], List[Tuple[Head, Mapping[str, Any]]]]:
        if not has_manifest(path):
            raise MissingObject(
                f"backup: {path.parent} holds no {path.name}", object_name="backup", hint="pg_backup_info lists what there is."
            )
        try:
            return [], [read_head(path)]
        except InvalidValue as fault:
            broken = _Entry(path, result=BROKEN, message=fault.message)
            return [broken if has_manifest(path) else _Entry(path, message=_DELETED)], []

    @cached_property
    def _databases(self) -> Tuple[str, ...]:
        """The databases whose backups are meant, none for all."""
        options = self._options
        if options.databases:
            return () if options.every_database else options.databases
        name = self._login.parameters().get("dbname")
        return (name,) if name else ()

    def _meant(self, head: Head) -> bool:
        options = self._options
        if self._databases and head.database not in self._databases:
            return False
        return options.name == EVERY or (head.name == options.name and head.scope == (options.kind, options.schemas, options.tables))

    def _may_be_meant(self, folder: str) -> bool:
        """Say whether a folder whose manifest tells nothing has such a name as one of those that are meant."""
        database, _dot, rest = folder.partition(".")
        wanted, name = {part_of_id(one) for one in self._databases}, part_of_id(self._options.name)
        return (not wanted or database in wanted) and (self._options.name == EVERY or rest.partition(".")[0] == name)

    def _meaning(self) -> str:
        of = f" of {', '.join(self._databases)}" if self._databases else ""
        return of + ("" if self._options.name == EVERY else f" called {self._options.name}, of the kind {self._options.kind}")

    # --- the look -------------------------------------------------------------------------------------------------------

    def _entry(self, head: Head, manifest: Mapping[str, Any]) -> _Entry:
        path, began = self._options.folder / head.folder, time.monotonic()
        entry = _Entry(path, head, verified=head.verified)
        level = self._level(manifest)
        if self._check_mode:
            entry.level, entry.result = level, PLANNED
            entry.changed = head.verified is None or LEVELS.index(head.verified) < LEVELS.index(level)
            return entry
        try:
            self._deadline.check()
            self._write_down(entry, manifest, self._looked_into(path, manifest, level))
        except OutOfTime as over:
            entry.message = over.message
        except RunbookError as error:
            entry.result, entry.message = UNKNOWN, with_hint(error.message, error.hint)
        except OSError as error:
            entry.result, entry.message = UNKNOWN, f"{error.filename or path} cannot be read: {error.strerror or error}"
        if not has_manifest(path):
            # Whatever was seen of it is what is seen while one goes.
            entry = _Entry(path, head, message=_DELETED)
        entry.seconds = time.monotonic() - began
        self._done += head.size
        return entry

    def _level(self, manifest: Mapping[str, Any]) -> str:
        """Return how deep a backup can be looked at, at the most as deep as is asked for."""
        level, keys = self._options.verify, self._wanted.keys
        if manifest["dump"]["encryption"] and not keys.given:
            return CHECKSUM
        return min(level, deepest(manifest), key=LEVELS.index)

    def _looked_into(self, path: Path, manifest: Mapping[str, Any], level: str) -> Look:
        """Return what was found. Raises OutOfTime, and InvalidValue where the backup may not be read."""
        wanted, keys = self._options.verify, self._wanted.keys
        # Without its key it says so itself.
        first = CHECKSUM if wanted == CHECKSUM else DECODE
        found = verify(path, manifest, first, self._client, self._tick, keys)
        if level != RESTORE or not found.ok or found.how != DECODE:
            return Look(found, _no_restore(manifest) if wanted == RESTORE and level == DECODE and found.ok else None)
        server, client = self._server, self._client
        if server is None or client is None:
            return Look(found)
        # Only few runs do this, and it is half of another module.
        from ansible_collections.pgops.runbook.plugins.module_utils._backup.rehearse import rehearse

        return restored(
            found, lambda: rehearse(path, manifest, self._login, self._options, server, client, self._deadline, self._watch, keys)
        )

    def _write_down(self, entry: _Entry, manifest: Mapping[str, Any], look: Look) -> None:
        """Take what was found into the entry and into the record of the backup."""
        path, before, found = entry.path, entry.head, look.verification
        if not has_manifest(path):
            return
        entry.level, entry.message = found.how, found.message or look.trouble
        try:
            record(path, manifest, found, repeats=True)
        except InvalidValue as fault:
            # A place that is only read, such as one that holds copies. What was found holds all the same.
            entry.result = UNKNOWN if look.failed else WHOLE if found.ok else BROKEN
            self._notices += [fault.message] if has_manifest(path) else []
            return
        after = standing(path, manifest)
        entry.verified = after.how
        entry.result = BROKEN if after.broken else UNKNOWN if look.failed else WHOLE
        if after.broken and found.ok:
            entry.message = after.broken
        if before is not None:
            entry.changed = (after.how, bool(after.broken)) != (before.verified, bool(before.broken))
        if entry.result == WHOLE and entry.message:
            self._notices.append(f"{path.name}: {entry.message}")

    # --- with what ------------------------------------------------------------------------------------------------------

    @cached_property
    def _server(self) -> Server | None:
        """The server in which backups are restored, None where none is."""
        if self._options.verify != RESTORE:
            return None
        with connect(self._login, application_name=self._options.application_name, read_only=True) as database:
            return look_at(database)

    def _find_client(self) -> Client | None:
        """Return the programs that read archives; None where there are none, and where none are needed. Raises ProgramMissing."""
        if self._options.verify == CHECKSUM:
            return None
        if self._server is not None:
            return find_client(self._server.version_num, self._options.bin_dir)
        try:
            return find_client(_OLDEST_SERVER, self._options.bin_dir)
        except ProgramMissing:
            # Then each backup says that only its checksums were looked at.
            return None

    def _tick(self) -> None:
        self._deadline.check()
        self._watch(ProgressView.after(OPERATION, "verified", self._done, max(1, self._total), time.monotonic() - self._began))


def _no_restore(manifest: Mapping[str, Any]) -> str:
    """Return why a backup that could be decoded is not restored."""
    if (manifest.get("scope") or {}).get("kind") == "data_only":
        return "it holds rows alone, which nothing can be restored from by itself"
    return "it does not say which rows there were, so that no restore shows that they came back"
