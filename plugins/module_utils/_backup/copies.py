# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Second places: a backup that is published is copied there, hashed there, and gets its manifest last.

A path gets it whole under a hidden name, which is renamed when the hashes fit. Where nothing can be renamed, with rsync and rclone, it
is the manifest that makes it a backup. A copy that is there with its manifest and the sizes of all its files is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Type, Union

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import given_parts
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import Head, counting, missing_file, read_heads
from ansible_collections.pgops.runbook.plugins.module_utils._backup.lock import folder_lock
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import MANIFEST, SEAL, flush_folder, read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import COPYING, DELETED, SUMS, VERIFIED, hidden
from ansible_collections.pgops.runbook.plugins.module_utils._backup.retention import Keep, plan_retention, purge, read_keep
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import checksum_faults
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import run
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import require_program
from ansible_collections.pgops.runbook.plugins.module_utils._client.files import CHUNK, Rhythm, storage_error, write_all
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramFailed, RunbookError, with_hint
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

KINDS = ("path", "rsync", "rclone")
COPIED, PRESENT, FAILED = ("copied", "present", "failed")

_OPERATION = "copy"
_RSYNC_NO_FOLDER = (3, 11, 23)
_RCLONE_DIFFERS, _RCLONE_NO_FOLDER = 1, 3
_RCLONE_FOUND = re.compile(r"\d+ differences found|not found")
_RCLONE_OTHER = re.compile(rf"\b{re.escape(MANIFEST)}: [^\n]*differ", re.IGNORECASE)
_MANIFEST_ALONE = ("--include=/" + MANIFEST, "--exclude=/*")
_SECRET = re.compile(r"://[^/@:]*:[^/@]*@")
# Everything that is local to the first place stays there, and the manifest comes by itself.
_LEFT_OUT = (MANIFEST, VERIFIED, ".*")


@dataclass(frozen=True)
class Place:
    """One second place: `kind` is path, rsync or rclone, `target` where it is, `option` how the options call it."""

    kind: str
    target: str
    option: str
    keep: Keep = field(default_factory=Keep)

    @property
    def folder(self) -> Path:
        """Where a place of the kind path is."""
        return Path(self.target).expanduser()


@dataclass(frozen=True)
class Copied:
    """What became of one copy. `purged` are older copies that went by the place's own rules."""

    place: Place
    action: str
    bytes: int = 0
    seconds: float = 0.0
    message: str | None = None
    purged: Sequence[str] = ()
    notices: Sequence[str] = ()

    def as_result(self) -> Dict[str, Any]:
        """Return it as results show it."""
        return {
            "place": self.place.target,
            "how": self.place.kind,
            "action": self.action,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "purged": list(self.purged),
            "msg": self.message,
        }


def read_copies(given: Sequence[Mapping[str, Any]] | None, folder: Path) -> List[Place]:
    """Return the places that the option `copies` names. Raises InvalidValue, which names the part and what would be right."""
    places: List[Place] = []
    for number, one in enumerate(given or []):
        option = f"copies[{number}]"
        parts = given_parts(one)
        kinds = [kind for kind in KINDS if kind in parts]
        unknown = sorted(set(parts) - {*KINDS, "keep"})
        if len(kinds) != 1 or unknown:
            wrong = f"{unknown[0]!r} is not known" if unknown else "it names no place" if not kinds else f"it names {' and '.join(kinds)}"
            raise InvalidValue(f"{option}: {wrong}; name one of path, rsync and rclone", object_name=option)
        place = Place(kinds[0], str(parts[kinds[0]]).strip(), option, read_keep(parts.get("keep"), f"{option}.keep"))
        _check_place(place, folder)
        places.append(place)
    return places


def copy_out(
    backup: Path, manifest: Mapping[str, Any], places: Sequence[Place], *, tick: Tick | None = None, check_mode: bool = False
) -> List[Copied]:
    """Copy a published backup to each place, and return what became of it there. One place that fails keeps no other from its copy.

    In check mode the places are looked at, and nothing is written.
    """
    return [_copy_to(place, backup, manifest, tick, check_mode) for place in places]


def foresee(places: Sequence[Place], folder: Path, size: int) -> List[Copied]:
    """Return what would become of the copies of a backup of about `size` bytes in `folder`, as far as a look at the places tells."""
    return [_foreseen(place, folder, size) for place in places]


def purge_copies(done: Sequence[Copied], copied: Head, now: datetime, *, check_mode: bool = False) -> List[Copied]:
    """Delete in each place what its own rules do not want any more beside the backup `copied`, and return `done` with what went.

    To be called when nothing has failed. In check mode nothing goes, and `copied` counts as if it were there.
    """
    return [_purged(one, copied, now, check_mode) for one in done]


def _check_place(place: Place, folder: Path) -> None:
    option = f"{place.option}.{place.kind}"
    if place.kind == "path":
        path = place.folder
        if not path.is_absolute():
            raise InvalidValue(f"{option}: {place.target!r} is no absolute path", object_name=option)
        here, there = folder.resolve(), path.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise InvalidValue(f"{option}: {place.target} is the folder of the backups itself, or in it, or around it", object_name=option)
        return
    if place.keep.given:
        hint = "Give the place rules of its own, or delete there with its own means."
        raise InvalidValue(f"{place.option}.keep: only copies to a path can be deleted by rules", object_name=place.option, hint=hint)
    inline = place.kind == "rclone" and (place.target.startswith(":") or "," in place.target.partition(":")[0])
    if _SECRET.search(place.target) or inline:
        # Not shown: it may hold a password.
        hint = "Every account can read the arguments of programs. Put what is secret into the configuration of rclone or ssh."
        raise InvalidValue(f"{option}: it holds a password or other settings, which do not belong there", object_name=option, hint=hint)
    if place.target.startswith("-") or (place.kind == "rclone" and ":" not in place.target):
        example = "backup@host:/srv/backups" if place.kind == "rsync" else "offsite:backups/postgresql"
        raise InvalidValue(f"{option}: {place.target!r} is no place; one looks like {example}", object_name=option)


def _copy_to(place: Place, backup: Path, manifest: Mapping[str, Any], tick: Tick | None, check_mode: bool) -> Copied:
    started = time.monotonic()
    size = sum(int(file["bytes"]) for file in manifest["files"])
    notices: List[str] = []
    try:
        notices += _notices(place, backup.parent)
        remote = _PLACES[place.kind](place, backup, manifest, tick)
        remote.require_place(place)
        there = remote.is_there()
        if not there and not check_mode:
            remote.send()
        seconds = time.monotonic() - started
        return Copied(place, PRESENT if there else COPIED, bytes=0 if there else size, seconds=seconds, notices=notices)
    except (RunbookError, OSError) as fault:
        return Copied(place, FAILED, seconds=time.monotonic() - started, message=_told(place, fault), notices=notices)


def _foreseen(place: Place, folder: Path, size: int) -> Copied:
    notices: List[str] = []
    try:
        notices += _notices(place, folder)
        _PLACES[place.kind].require_place(place)
    except (RunbookError, OSError) as fault:
        return Copied(place, FAILED, message=_told(place, fault), notices=notices)
    return Copied(place, COPIED, bytes=size, notices=notices)


def _told(place: Place, fault: Union[RunbookError, OSError]) -> str:
    error = storage_error(fault, fault.filename or place.target) if isinstance(fault, OSError) else fault
    return f"{place.option}: {with_hint(error.message, error.hint)}"


def _notices(place: Place, folder: Path) -> List[str]:
    if place.kind == "path" and place.folder.is_dir() and folder.is_dir() and place.folder.stat().st_dev == folder.stat().st_dev:
        return [f"{place.option}: {place.target} stands on the same file system as the backups: what destroys those takes it along"]
    return []


def _purged(done: Copied, copied: Head, now: datetime, check_mode: bool) -> Copied:
    place = done.place
    if place.kind != "path" or not place.keep.given:
        return done
    folder = place.folder
    try:
        heads, _faults = read_heads(str(folder))
        series = [counting(folder, head) for head in heads if head.series == copied.series]
        if check_mode and copied.folder not in {head.folder for head in series}:
            series.append(copied)
        plan = plan_retention(series, place.keep, now)
        if check_mode or not plan.delete:
            return replace(done, purged=[head.folder for head in plan.delete])
        with folder_lock(folder, _OPERATION):
            gone = purge(folder, plan)
    except RunbookError as fault:
        return replace(done, notices=[*done.notices, f"{place.option}: {fault.message}"])
    return replace(done, purged=gone.names, notices=[*done.notices, *(f"{place.option}: {fault}" for fault in gone.faults)])


class _Remote(ABC):
    """A place and what is to stand there."""

    def __init__(self, place: Place, backup: Path, manifest: Mapping[str, Any], tick: Tick | None) -> None:
        self.place = place
        self.backup = backup
        self.manifest = manifest
        self.tick = tick

    def require_whole(self, backup: Path) -> None:
        """Compare the files in a folder with the manifest: what is compared with a source that rots is no better than that."""
        faults = checksum_faults(backup, self.manifest, self.tick)
        if faults:
            message = f"what stands in {backup} is not what was backed up: {faults_in_words(faults)}"
            raise InvalidValue(message, object_name=str(backup), hint="Nothing was copied.")

    def another(self) -> InvalidValue:
        """Return the error for another backup in its place, such as that of a server whose database has the same name."""
        name = self.backup.name
        hint = "Look which of both is right, and move the other one away. Give each server a place of its own."
        return InvalidValue(f"another backup of the name {name} is in {self.place.target}", object_name=name, hint=hint)

    @staticmethod
    @abstractmethod
    def require_place(place: Place) -> None:
        """Refuse a place to which nothing can be copied, as far as that shows without a backup. Raises InvalidValue, ProgramMissing."""

    @abstractmethod
    def is_there(self) -> bool:
        """Say whether the copy is there: the same manifest, and the files by their sizes. Raises InvalidValue where it is another one."""

    @abstractmethod
    def send(self) -> None:
        """Copy, compare the hashes there, and let the manifest come last."""


class _Folder(_Remote):
    """A folder that this host can write to, such as a mounted share."""

    @property
    def folder(self) -> Path:
        """The second place."""
        return self.place.folder

    @staticmethod
    def require_place(place: Place) -> None:
        """Refuse what is no folder, and make none: a share that is not mounted would fill the disk below its mount point."""
        if not place.folder.is_dir():
            hint = "Mount it, or make it once, with mode 0700."
            raise InvalidValue(f"{place.folder} is not there, or is no folder", object_name=str(place.folder), hint=hint)

    def is_there(self) -> bool:
        """Compare the manifest and the sizes."""
        target = self.folder / self.backup.name
        if not os.path.lexists(str(target)):
            return False
        if read_manifest(target)[SEAL] != self.manifest[SEAL]:
            raise self.another()
        wrong = missing_file(target, self.manifest)
        if wrong:
            hint = "Move it away; the next run copies it again."
            raise InvalidValue(f"the copy {target} is not whole any more: {wrong}", object_name=str(target), hint=hint)
        return True

    def send(self) -> None:
        """Copy into a hidden folder, read it back, rename it."""
        needed = sum(int(file["bytes"]) for file in self.manifest["files"])
        free = shutil.disk_usage(str(self.folder)).free
        if free < needed:
            message = f"{self.folder} has {format_size(free)} free, and the backup needs {format_size(needed)}"
            raise InvalidValue(message, object_name=str(self.folder), hint="Make room there.")
        try:
            with folder_lock(self.folder, _OPERATION):
                self._clear()
                growing = self.folder / f"{COPYING}{self.backup.name}"
                growing.mkdir(mode=0o700)
                try:
                    self._fill(growing)
                    growing.rename(self.folder / self.backup.name)
                    flush_folder(self.folder)
                finally:
                    self._clear()
        except OSError as error:
            raise storage_error(error, error.filename or self.folder) from None

    def _fill(self, growing: Path) -> None:
        paths = [*(str(file["path"]) for file in self.manifest["files"]), *([SUMS] if (self.backup / SUMS).is_file() else [])]
        for path in paths:
            (growing / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._copy(path, growing)
        for folder in sorted({(growing / path).parent for path in paths}):
            flush_folder(folder)
        self.require_whole(growing)
        self._copy(MANIFEST, growing)
        flush_folder(growing)

    def _copy(self, path: str, growing: Path) -> None:
        rhythm = Rhythm(self.tick, 1.0)
        place = os.open(str(growing / path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with (self.backup / path).open("rb", buffering=0) as source:
                for chunk in iter(lambda: source.read(CHUNK), b""):
                    write_all(place, chunk)
                    rhythm.beat()
            os.fsync(place)
        finally:
            os.close(place)

    def _clear(self) -> None:
        """Remove what killed runs have left."""
        for path in list(self.folder.iterdir()):
            if hidden(path.name) in (COPYING, DELETED) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(str(path))


class _Rsync(_Remote):
    """What rsync reaches, which compares whole files by their hashes there when it is told to."""

    @staticmethod
    def require_place(place: Place) -> None:
        """Refuse a host without rsync; what is at the other end shows when something is sent."""
        require_program("rsync")

    def is_there(self) -> bool:
        """Look what rsync would send, by size and time; it goes without the manifest, which says that all the rest has arrived."""
        if self._differing(_MANIFEST_ALONE, ["--checksum"]):
            if self._differing(_MANIFEST_ALONE, ["--checksum", "--existing"]):
                raise self.another()
            return False
        return not self._differing(_but_manifest(), [])

    def send(self) -> None:
        """Send, and look whether a comparison by hashes finds anything left to send."""
        self.require_whole(self.backup)
        for chosen in (_but_manifest(), _MANIFEST_ALONE):
            # By hashes too: what an earlier run sent may have the size and the time, and another content.
            self._rsync(["--checksum", "--chmod=D700,F600", *chosen])
            left = self._differing(chosen, ["--checksum"])
            if left:
                raise InvalidValue(f"what stands in {self.place.target} is not what was sent: {left}", object_name=self.place.target)

    def _differing(self, chosen: Sequence[str], how: Sequence[str]) -> str:
        """Return the first file that rsync would send, or an empty text."""
        try:
            said = self._rsync(["--dry-run", "--out-format=%n", *how, *chosen])
        except ProgramFailed as error:
            if error.code in _RSYNC_NO_FOLDER and "No such file or directory" in error.said:
                raise self._no_place(error) from None
            raise
        files = [line for line in said.splitlines() if line and not line.endswith("/")]
        return files[0] if files else ""

    def _rsync(self, arguments: Sequence[str]) -> str:
        target = f"{self.place.target.rstrip('/')}/{self.backup.name}/"
        command = [require_program("rsync"), "--recursive", "--times", "--perms", "--timeout=300", "--protect-args"]
        return run([*command, *arguments, "--", f"{self.backup}/", target], tick=self.tick)

    def _no_place(self, error: ProgramFailed) -> InvalidValue:
        hint = "Make the folder there once, with mode 0700."
        return InvalidValue(f"{self.place.target}: {error.said}", object_name=self.place.target, hint=hint)


class _Rclone(_Remote):
    """What rclone reaches; it reads back what it has sent."""

    @staticmethod
    def require_place(place: Place) -> None:
        """Refuse a host without rclone; what is at the other end shows when something is sent."""
        require_program("rclone")

    def is_there(self) -> bool:
        """Compare the manifest by its content, all else by its size."""
        return self._same(["--include=/" + MANIFEST], ["--download"], other=True) and self._same(_but_manifest(), ["--size-only"])

    def send(self) -> None:
        """Send, read back and compare."""
        self.require_whole(self.backup)
        for chosen in (_but_manifest(), ["--include=/" + MANIFEST]):
            self._rclone(["copy", *chosen])
            if self._same(chosen, ["--download"]):
                continue
            # What an earlier run sent may have the size and the time, and another content.
            self._rclone(["copy", "--ignore-times", *chosen])
            if not self._same(chosen, ["--download"]):
                raise InvalidValue(f"what stands in {self.place.target} is not what was sent", object_name=self.place.target)

    def _same(self, chosen: Sequence[str], how: Sequence[str], *, other: bool = False) -> bool:
        try:
            self._rclone(["check", "--one-way", *how, *chosen])
        except ProgramFailed as error:
            if other and error.code == _RCLONE_DIFFERS and _RCLONE_OTHER.search(error.said):
                raise self.another() from None
            if error.code == _RCLONE_NO_FOLDER or (error.code == _RCLONE_DIFFERS and _RCLONE_FOUND.search(error.said)):
                return False
            raise
        return True

    def _rclone(self, arguments: Sequence[str]) -> str:
        target = f"{self.place.target.rstrip('/')}/{self.backup.name}"
        quiet = ["--ask-password=false", "--stats=0", "--log-level=NOTICE"]
        return run([require_program("rclone"), *arguments, *quiet, "--", str(self.backup), target], tick=self.tick)


_PLACES: Dict[str, Type[_Remote]] = {"path": _Folder, "rsync": _Rsync, "rclone": _Rclone}


def _but_manifest() -> List[str]:
    """Return the arguments that leave out what comes last or not at all; rsync and rclone read them alike."""
    return [f"--exclude=/{pattern}" for pattern in _LEFT_OUT]
