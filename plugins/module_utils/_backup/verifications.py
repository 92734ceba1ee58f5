# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found each time a backup was verified after its publication: `verified.json` beside the manifest, which stays as it is.

{"format": "pgops.verified/1", "of": "<the seal of the manifest>", "entries": [
    {"how": "restore", "at": "2026-11-22T03:00:00+00:00", "ok": true, "message": null, "drill": {...}}]}
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import (
    SEAL,
    from_iso,
    iso,
    read_document,
    write_document,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import VERIFIED
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

CHECKSUM, DECODE, RESTORE = LEVELS = ("checksum", "decode", "restore")

_LOCK = ".verified.lock"
_FORMAT = "pgops.verified/1"
_MOST_ENTRIES = 500  # more than a year of one a day


@dataclass(frozen=True)
class Verification:
    """One look at a backup: `how` deep it went, whether the backup was found whole, and what else is to be said."""

    how: str
    at: datetime
    ok: bool
    message: str | None = None
    drill: Mapping[str, Any] | None = None

    def as_entry(self) -> Dict[str, Any]:
        """Return it as it is written to a file."""
        entry = {"how": self.how, "at": iso(self.at), "ok": self.ok, "message": self.message}
        return {**entry, "drill": dict(self.drill)} if self.drill is not None else entry


@dataclass(frozen=True)
class Standing:
    """What all verifications of a backup come to: the deepest level that still holds, or why there is none; and its last drill."""

    how: str | None
    at: datetime | None
    broken: str | None
    drill: Verification | None


def deepest(manifest: Mapping[str, Any]) -> str:
    """Return how deep a look at a backup can go: no restore shows anything where it holds rows alone, or does not say which there were."""
    kind = (manifest.get("scope") or {}).get("kind", "full")
    return RESTORE if kind == "schema_only" or (kind != "data_only" and manifest.get("tables") is not None) else DECODE


def record(backup: Path, manifest: Mapping[str, Any], found: Verification, *, repeats: bool = False) -> None:
    """Write down that the backup was verified. Only verdicts about the backup belong there, not that a program was missing.

    One that `repeats` what was found before takes its place. Earlier ones that cannot be read count as a failure of the deepest look that
    there can be, which only such a look makes good. Raises InvalidValue where the file cannot be written.
    """
    try:
        with _alone(backup):
            try:
                earlier = read_verifications(backup, manifest)
            except InvalidValue:
                earlier = [Verification(deepest(manifest), found.at, False, "what was found earlier cannot be read")]
            entries = [one.as_entry() for one in [*(_without_repeated(earlier, found) if repeats else earlier), found][-_MOST_ENTRIES:]]
            write_document(backup / VERIFIED, {"format": _FORMAT, "of": manifest[SEAL], "entries": entries})
    except OSError as error:
        raise InvalidValue(
            f"that the backup was verified cannot be written to {backup / VERIFIED}: {error.strerror}", object_name=backup.name
        ) from None


def _without_repeated(earlier: Sequence[Verification], found: Verification) -> List[Verification]:
    """Return the earlier ones without those since the last failure that `found` only repeats.

    One look a day would else push out what lies deeper and was found once.
    """
    if not found.ok or found.drill is not None:
        return list(earlier)
    failed = max((number for number, one in enumerate(earlier) if not one.ok), default=-1)
    return [one for number, one in enumerate(earlier) if number <= failed or one.how != found.how or one.drill is not None]


def read_verifications(backup: Path, manifest: Mapping[str, Any]) -> List[Verification]:
    """Return the later verifications of a backup, the oldest first. Raises InvalidValue where they cannot be read or are another's."""
    path = backup / VERIFIED
    try:
        document = read_document(path)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        if document["of"] != manifest[SEAL]:
            raise ValueError("it is that of another backup")
        return [_entry(entry) for entry in document["entries"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
        hint = "Verify the backup again, as deep as verify=restore or a recovery drill does where it can be restored."
        raise InvalidValue(f"what later verifications found, {path}, cannot be read: {why}", object_name=backup.name, hint=hint) from None


def standing(backup: Path, manifest: Mapping[str, Any]) -> Standing:
    """Return what the manifest and the later verifications of a backup come to.

    One that failed makes the backup count as not verified, until one that goes as deep or deeper has found it whole. So does a file of
    later verifications that nobody can read: a failure may stand in it.
    """
    first = manifest.get("verified")
    begun = [_entry({**first, "ok": True})] if first else []
    try:
        later = read_verifications(backup, manifest)
    except InvalidValue as fault:
        return Standing(None, None, fault.message, None)
    whole: List[Verification] = []
    failed: Verification | None = None
    for one in [*begun, *later]:
        if not one.ok:
            if failed is None or LEVELS.index(one.how) >= LEVELS.index(failed.how):
                failed = one
            whole = []
        elif failed is None or LEVELS.index(one.how) >= LEVELS.index(failed.how):
            failed, whole = None, [*whole, one]
    drills = [one for one in later if one.drill is not None]
    drill = drills[-1] if drills else None
    if failed is not None:
        broken = f"the verification ({failed.how}) at {iso(failed.at)} failed: {failed.message or 'it does not say why'}"
        return Standing(None, None, broken, drill)
    if not whole:
        return Standing(None, None, None, drill)
    best = max(whole, key=lambda one: (LEVELS.index(one.how), one.at))
    return Standing(best.how, best.at, None, drill)


def _entry(said: Mapping[str, Any]) -> Verification:
    if said["how"] not in LEVELS:
        raise ValueError(f"{said['how']!r} is none of {', '.join(LEVELS)}")
    if not isinstance(said["ok"], bool):
        raise ValueError("ok is neither true nor false")
    return Verification(said["how"], from_iso(said["at"]), said["ok"], said.get("message"), said.get("drill"))


@contextmanager
def _alone(backup: Path) -> Iterator[None]:
    """Hold a lock, so that of two that write at once neither is lost. A folder cannot be locked itself on every file system."""
    place = os.open(str(backup / _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
