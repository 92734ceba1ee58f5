# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh and verified backup of every database that is meant exists; what is not kept any more goes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup import preflight
from ansible_collections.pgops.runbook.plugins.module_utils._backup.copies import COPIED, Copied, copy_out, foresee, purge_copies
from ansible_collections.pgops.runbook.plugins.module_utils._backup.copies import FAILED as NOT_COPIED
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, counting, head_of, missing_file, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.leftovers import clear_leftovers, new_run
from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.lock import folder_lock
from ansible_collections.pgops.runbook.plugins.module_utils._backup.make import Made, Run, make, need_of
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._backup.progress import OPERATION
from ansible_collections.pgops.runbook.plugins.module_utils._backup.retention import AHEAD, plan_retention, purge
from ansible_collections.pgops.runbook.plugins.module_utils._backup.server import chosen_databases, look_at
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import DECODE, LEVELS, RESTORE, deepest, record, standing
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import Look, restored, verify
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import Encryption
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import storage_error
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import find_client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError, with_hint
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch, unwatched

MADE, VERIFIED, PRESENT, FAILED = "made", "verified", "present", "failed"


class Unfinished(RunbookError):
    """At least one of the backups is not there. `result` is what the module returns all the same."""

    def __init__(self, message: str, result: Mapping[str, Any], *, object_name: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, object_name=object_name, hint=hint)
        self.result = result

    def as_result(self) -> Dict[str, Any]:
        """Add what was done."""
        return {**self.result, **super().as_result()}


@dataclass
class _Entry:
    """What becomes of one database."""

    database: str
    action: str
    id: str | None = None
    path: str | None = None
    size: int | None = None
    age: float | None = None
    verified: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    copies: List[Copied] = field(default_factory=list)
    message: str | None = None

    def as_result(self, *, alone: bool) -> Dict[str, Any]:
        """Return it as a result shows it; unless it is `alone`, the other databases have entries, and are not named as left out."""
        left_out = (self.manifest.get("coverage") or {}).get("left_out") or []
        tables = self.manifest.get("tables") or []
        counted = [table["rows"] for table in tables if table.get("rows") is not None]
        return {
            "database": self.database,
            "action": self.action,
            "id": self.id,
            "path": self.path,
            "bytes": self.size,
            "age_seconds": None if self.age is None else round(self.age, 1),
            "verified": self.verified,
            "tables": len(tables) if self.manifest else None,
            "rows": sum(counted) if counted else None,
            "left_out": [one for one in left_out if alone or one["what"] != "database"],
            "seconds": dict(self.seconds),
            "copies": [copy.as_result() for copy in self.copies],
            "msg": self.message,
        }


def back_up(login: ConnectionOptions, options: Options, *, check_mode: bool = False, watch: Watch = unwatched) -> Dict[str, Any]:
    """See that the backups that `options` ask for are there, and return the result; in check mode only say what would be done.

    One database that fails keeps no other from its backup; at the end Unfinished is raised, and nothing is purged. Raises InvalidValue,
    MissingObject, ProgramMissing, ConnectError, Refused and Busy before anything is written.
    """
    deadline = Deadline(options.max_runtime)
    with connect(login, application_name=options.application_name, read_only=True) as database:
        server = look_at(database)
        names, notices = chosen_databases(server, options, database.name)
    client = find_client(server.version_num, options.bin_dir)
    floor = client.below_floor()
    run = Run(new_run(), options, login, client, server, deadline, watch)
    preflight.prepare_folder(options.folder, check_mode=check_mode)
    with ExitStack() as stack:
        if not check_mode:
            stack.enter_context(folder_lock(options.folder, OPERATION))
            _clear(options.folder)
        said = (floor, preflight.exposed(options.folder))
        return _Backups(run, [*notices, *(one for one in said if one)], check_mode).result(names)


def _clear(folder: Path) -> None:
    try:
        clear_leftovers(folder)
    except OSError as error:
        raise storage_error(error, Path(error.filename or folder)) from None


class _Backups:
    """The backups of one run."""

    def __init__(self, run: Run, notices: Sequence[str], check_mode: bool) -> None:
        self._run = run
        self._options = run.options
        self._notices = list(notices)
        self._check_mode = check_mode
        self._number = 0

    def result(self, names: Sequence[str]) -> Dict[str, Any]:
        """Make what is missing, then copy, then purge."""
        entries = [self._entry(name) for name in names]
        failed = [entry for entry in entries if entry.action == FAILED]
        lost = [copy.message for entry in entries for copy in entry.copies if copy.action == NOT_COPIED]
        purged, kept = ([], []) if failed or lost else self._purged(entries)
        copied = any(copy.action == COPIED or copy.purged for entry in entries for copy in entry.copies)
        self._notices += [notice for entry in entries for copy in entry.copies for notice in copy.notices]
        result = {
            "changed": any(entry.action in (MADE, VERIFIED) for entry in entries) or bool(purged) or copied,
            "backups": [entry.as_result(alone=not self._options.every_database) for entry in entries],
            "purged": purged,
            "kept": kept,
            "warnings": self._notices,
        }
        if failed:
            others = f" ({len(failed)} of {len(entries)} databases failed)" if len(entries) > 1 else ""
            message = f"there is no backup of {failed[0].database}{others}: {failed[0].message}"
            raise Unfinished(message, result, object_name=failed[0].database)
        if lost:
            there, lacks = ("would be", "would") if self._check_mode else ("is", "is")
            raise Unfinished(f"the backup {there} there, and a copy of it {lacks} not: {lost[0]}", result, object_name="copies")
        return result

    def _entry(self, name: str) -> _Entry:
        try:
            self._run.deadline.check()
            entry = self._looked_at(name)
        except RunbookError as error:
            return _Entry(name, FAILED, message=with_hint(error.message, error.hint))
        self._copy(entry)
        return entry

    def _looked_at(self, name: str) -> _Entry:
        series = self._series(name)
        fresh = self._fresh(series)
        if fresh is not None:
            entry = self._kept(name, *fresh)
            if entry is not None:
                return entry
        if self._check_mode:
            return self._foreseen(name, series)
        made = make(self._run, name, series[0] if series else None, self._next_number())
        self._notices += made.notices
        self._look_again(made.path, made.manifest)
        return self._of_made(name, made)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _series(self, name: str) -> List[Head]:
        """Return the verified backups of the same scope of a database, the newest first."""
        options = self._options
        scope = (options.kind, options.schemas, options.tables)
        same = [head for head in self._of_series(name) if head.scope == scope and head.verified]
        return sorted(same, key=lambda head: head.taken_at, reverse=True)

    def _of_series(self, name: str) -> List[Head]:
        """Return the backups of the name that is asked for of a database, of whatever scope."""
        wanted = (self._run.server.system_identifier, name, self._options.name)
        return [head for head in self._heads.values() if head.series == wanted]

    @cached_property
    def _heads(self) -> Dict[str, Head]:
        """Return the backups in the folder by name, read once: nobody else may add any, and there may be thousands."""
        heads, faults = read_heads(str(self._options.folder)) if self._options.folder.is_dir() else ([], [])
        self._notices += [fault.message for fault in faults]
        return {head.folder: head for head in heads}

    def _look_again(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Take notice of a backup that was made, or of what was found about one."""
        self._heads[path.name] = head_of(path, manifest)

    def _fresh(self, series: Sequence[Head]) -> Tuple[Head, Mapping[str, Any]] | None:
        """Return the newest backup, with its manifest, where it is young enough and its files are there.

        One of the future is no measure of anything.
        """
        now = self._run.server.clock
        for head in series:
            if head.taken_at > now + AHEAD:
                self._notices.append(f"{head.folder} was taken in the future, by a clock that was wrong: it does not count as fresh")
                continue
            if (now - head.taken_at).total_seconds() > self._options.fresh_for:
                return None
            path = self._options.folder / head.folder
            manifest = read_manifest(path)
            why = self._of_another(head) or standing(path, manifest).broken or missing_file(path, manifest)
            if why is None:
                return head, manifest
            self._notices.append(f"{head.folder} does not count as fresh: {why}")
        return None

    def _of_another(self, head: Head) -> str | None:
        """Return why a backup is not one of this database as it is now, although server and name are the same."""
        server = self._run.server
        if None not in (head.database_oid, server.oid(head.database)) and head.database_oid != server.oid(head.database):
            return "it is of another database, which had this name then"
        if None not in (head.timeline, server.timeline) and head.timeline != server.timeline:
            return f"it is of timeline {head.timeline}, and the server is on {server.timeline}: it was promoted, or is a clone"
        return None

    def _kept(self, name: str, head: Head, manifest: Mapping[str, Any]) -> _Entry | None:
        """Return the entry of a fresh backup, verified deeper where that is asked for; None where it does not hold."""
        path = self._options.folder / head.folder
        readers = _not_for(manifest["dump"]["encryption"], self._options.encrypt)
        if readers:
            self._notices.append(f"{head.folder} does not count as fresh: {readers}")
            return None
        entry = _Entry(name, PRESENT, head.folder, str(path), head.size, self._age(head.taken_at), head.verified, manifest)
        if head.verified in LEVELS[LEVELS.index(self._options.verify) :]:
            return entry
        if manifest["dump"]["encryption"] or LEVELS.index(deepest(manifest)) < LEVELS.index(self._options.verify):
            # Nobody here can read it, or a restore would show nothing.
            return None
        if not self._check_mode:
            look = self._looked_into(path, manifest)
            found = look.verification
            record(path, manifest, found)
            self._look_again(path, manifest)
            if not found.ok or found.how != self._options.verify:
                self._notices.append(f"{head.folder} was looked at again: {look.trouble or found.message}")
                return None
        entry.action, entry.verified = VERIFIED, self._options.verify
        return entry

    def _looked_into(self, path: Path, manifest: Mapping[str, Any]) -> Look:
        """Verify a backup that is there as deep as is asked for, or as deep as can be done here."""
        wanted = self._options.verify
        found = verify(path, manifest, DECODE if wanted == RESTORE else wanted, self._run.client, self._run.deadline.check)
        if wanted != RESTORE or not found.ok or found.how != DECODE:
            return Look(found)
        return restored(found, lambda: self._run.rehearsed(path, manifest))

    def _age(self, taken_at: datetime) -> float:
        return max(0.0, (self._run.server.clock - taken_at).total_seconds())

    def _foreseen(self, name: str, series: Sequence[Head]) -> _Entry:
        """Return the entry of a backup that would be made, after the looks that come before one is."""
        with self._run.connect(name) as database:
            need = need_of(self._run, database, series[0] if series else None)
        preflight.require_room(self._options.folder, need, self._options.min_free)
        return _Entry(name, MADE, size=need.size, age=0.0, verified=self._options.verify)

    def _of_made(self, name: str, made: Made) -> _Entry:
        manifest = made.manifest
        return _Entry(
            name,
            MADE,
            str(manifest["id"]),
            str(made.path),
            int(manifest["bytes"]),
            0.0,
            manifest["verified"]["how"],
            manifest,
            made.seconds,
        )

    def _copy(self, entry: _Entry) -> None:
        if not self._options.copies:
            return
        if entry.path is None:
            entry.copies = foresee(self._options.copies, self._options.folder, entry.size or 0)
            return
        entry.copies = copy_out(
            Path(entry.path), entry.manifest, self._options.copies, tick=self._run.deadline.check, check_mode=self._check_mode
        )

    def _purged(self, entries: Sequence[_Entry]) -> Tuple[List[str], List[str]]:
        """Delete what is not kept any more, here and in the second places, and return the names of what went here and of what stays.

        In check mode nothing goes.
        """
        gone: List[str] = []
        stays: List[str] = []
        keep, now = self._options.keep, self._run.server.clock
        for entry in entries:
            own = self._of_series(entry.database)
            new = self._hypothetical(entry) if entry.id is None else next(head for head in own if head.folder == entry.id)
            entry.copies = purge_copies(entry.copies, new, now, check_mode=self._check_mode)
            if keep.given:
                own = [counting(self._options.folder, head) for head in own]
                self._notices += [f"{head.folder} counts no more: {head.broken}" for head in own if head.folder == entry.id and head.broken]
            if entry.id is None:
                own.append(new)
            plan = plan_retention(own, keep, now)
            stays += [head.folder for head, _why in plan.keep if head.folder]
            if self._check_mode:
                gone += [head.folder for head in plan.delete]
                continue
            done = purge(self._options.folder, plan)
            gone += done.names
            self._notices += done.faults
        return gone, stays

    def _hypothetical(self, entry: _Entry) -> Head:
        now = self._run.server.clock
        return Head(
            folder="",
            name=self._options.name,
            database=entry.database,
            started_at=now,
            finished_at=now,
            size=entry.size or 0,
            verified=self._options.verify,
            verified_at=now,
            taken_at=now,
            kind=self._options.kind,
            schemas=self._options.schemas,
            tables=self._options.tables,
            system_identifier=self._run.server.system_identifier,
        )


def _not_for(found: Mapping[str, Any] | None, wanted: Encryption | None) -> str | None:
    """Return why a backup is not encrypted as is asked for; one that is encrypted without being asked for harms nobody."""
    if wanted is None:
        return None
    if not found:
        return "it is not encrypted"
    same = found["method"] == wanted.method and set(found["recipients"]) == set(wanted.recipients)
    return None if same else "it is encrypted for others"
