# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup is whole: every file of its manifest there with its size and hash, and none beside them that could pass for one."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._backup.decode import NO_KEYS, Keys, Undecoded, decode_faults
from ansible_collections.pgops.runbook.plugins.module_utils._backup.heads import file_fault
from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import OutOfTime
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import MANIFEST, SEAL, read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import SUMS, VERIFIED
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import CHECKSUM, DECODE, RESTORE, Verification
from ansible_collections.pgops.runbook.plugins.module_utils._client.files import CHUNK, at_once
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError, with_hint
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

if TYPE_CHECKING:
    from ansible_collections.pgops.runbook.plugins.module_utils._restore.proof import Proof

_OWN = (MANIFEST, VERIFIED, SUMS)
_PRETENDERS = ("database", "globals", "objects")  # what members are called; other files beside them are somebody's notes
_DENIED = (errno.EACCES, errno.EPERM)


def verify(
    backup: Path,
    manifest: Mapping[str, Any],
    level: str,
    client: Client | None = None,
    tick: Tick | None = None,
    keys: Keys = NO_KEYS,
) -> Verification:
    """Look whether the backup in the folder `backup` is what its manifest says, down to `level`; a restore is for the caller to do.

    What cannot be decoded here, because one of `keys` or a program is missing, is verified by its checksums alone, and the
    message says so. `tick` is called about once a second and may raise. Raises InvalidValue where this account may not read the backup.
    """
    at = datetime.now(timezone.utc)
    faults = _manifest_faults(backup, manifest) or checksum_faults(backup, manifest, tick)
    if faults or level == CHECKSUM:
        return Verification(CHECKSUM, at, not faults, _told(faults))
    try:
        faults = decode_faults(backup, manifest, client, keys, tick)
    except Undecoded as reason:
        return Verification(CHECKSUM, at, True, f"only the checksums were looked at: {reason}")
    return Verification(DECODE, at, not faults, _told(faults))


@dataclass(frozen=True)
class Look:
    """What a look at a backup found, and why it went less deep than was asked for; it may also have `failed` to."""

    verification: Verification
    trouble: str | None = None
    failed: bool = False


def restored(decoded: Verification, rehearsed: Callable[[], Proof]) -> Look:
    """Return what a look at a backup that is whole as far as it was `decoded` finds by restoring it. Raises OutOfTime.

    That it was decoded is worth something all the same where it cannot be restored here, or where that proves nothing.
    """
    try:
        proof = rehearsed()
    except OutOfTime:
        raise
    except RunbookError as error:
        return Look(decoded, f"it could not be restored here: {with_hint(error.message, error.hint)}", failed=True)
    if proof.whole is None:
        # What another major version has made of it is for somebody to look at.
        return Look(decoded, f"it was restored, which proves nothing: {proof.told}", failed=bool(proof.differences))
    return Look(Verification(RESTORE, datetime.now(timezone.utc), proof.whole, proof.told))


def checksum_faults(backup: Path, manifest: Mapping[str, Any], tick: Tick | None = None) -> List[str]:
    """Return what is wrong with the files of a backup: missing, extra, of another size or content."""
    members: Dict[str, Mapping[str, Any]] = {str(file["path"]): file for file in manifest["files"]}
    faults = [f"{name} is not in the manifest" for name in _strangers(backup, set(members))]
    to_read: List[str] = []
    for name, file in members.items():
        fault = _look(backup / name, int(file["bytes"]))
        if fault:
            faults.append(f"{name} {fault}")
        else:
            to_read.append(name)
    hashes = at_once(_hash, [backup / name for name in to_read], tick)
    for name, found in zip(to_read, hashes):
        if found != members[name]["sha256"]:
            faults.append(f"{name} has another content than when it was written" if found else f"{name} cannot be read to its end")
    return faults + _sums_faults(backup, members)


def _hash(path: Path, stop: threading.Event) -> str | None:
    """Return the SHA-256 of a file as it is on disk, None where the disk fails. Raises InvalidValue where denied."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            # What the kernel remembers of a file that was just written says nothing about the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            chunk = file.read(CHUNK)
            while chunk and not stop.is_set():
                digest.update(chunk)
                chunk = file.read(CHUNK)
    except OSError as error:
        _denied(path, error)
        return None
    return digest.hexdigest()


def _denied(path: Path, error: OSError) -> None:
    """Raise InvalidValue where the account is not allowed to look: that is no fault of the backup."""
    if error.errno in _DENIED:
        hint = "Run this as the account that owns the backups."
        raise InvalidValue(f"{path} cannot be read: {error.strerror}", object_name=str(path), hint=hint) from None


def _look(path: Path, size: int) -> str | None:
    """Return what is wrong with a member before it is read. Raises InvalidValue where denied."""
    try:
        return file_fault(path, size)
    except OSError as error:
        _denied(path, error)
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be looked at: {error.strerror}"


def _strangers(backup: Path, members: set[str]) -> Iterator[str]:
    """Yield the files that could pass for members and are none."""
    failures: List[OSError] = []
    for place, folders, files in os.walk(str(backup), onerror=failures.append):
        folders.sort()
        for file in sorted(files):
            path = Path(place, file).relative_to(backup)
            own = len(path.parts) == 1 and (file in _OWN or not file.startswith(_PRETENDERS))
            if str(path) not in members and not own and not file.startswith("."):
                yield str(path)
    for failure in failures:
        _denied(Path(str(failure.filename)), failure)


def _manifest_faults(backup: Path, manifest: Mapping[str, Any]) -> List[str]:
    """Return what is wrong with the manifest on disk; there is none yet while the backup is being made."""
    try:
        # Without waiting for a writer, should it be a pipe.
        os.close(os.open(str(backup / MANIFEST), os.O_RDONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        return []
    except OSError as error:
        _denied(backup / MANIFEST, error)
    try:
        found = read_manifest(backup)
    except InvalidValue as fault:
        return [fault.message]
    return [] if found[SEAL] == manifest.get(SEAL) else ["the manifest on disk is another one"]


def _sums_faults(backup: Path, members: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Return whether the list for people contradicts the manifest."""
    if SUMS in members or not (backup / SUMS).exists():
        return []
    lines = (backup / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    wanted = {f"{file['sha256']}  {name}" for name, file in members.items()}
    strange = [line for line in lines if line not in wanted and not line.endswith(f"  {MANIFEST}")]
    return [f"{SUMS} says otherwise than the manifest: {strange[0]}"] if strange else []


def _told(faults: Sequence[str]) -> str | None:
    return faults_in_words(faults) if faults else None
