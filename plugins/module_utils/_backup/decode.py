# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup can be read to its end: every member is decoded whole, the archive by pg_restore too, and nothing is written.

An archive says itself of which database it is. A plain dump and the file of the globals end in a line that says that they are whole.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._backup.archive_head import LONGEST, read_archive_head
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import run
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import ENCRYPTED, decoders, require_program
from ansible_collections.pgops.runbook.plugins.module_utils._client.files import WORKERS, at_once
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import read_stream, run_all
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramFailed, ProgramMissing
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

_CHUNK = 1 << 18
_TAIL = 4096
_BATCH = 500  # members that one program is given
_WHOLE = rb"\n--\n-- PostgreSQL %s dump complete\n--\n(?:\n+\\unrestrict [A-Za-z0-9]+\n)?\n\Z"
# What the list of an archive in a folder says of its members, and how those are called.
_TABLE_DATA = re.compile(r"^(\d+); \d+ \d+ TABLE DATA ", re.MULTILINE)
_LARGE_OBJECTS = re.compile(r"^\d+; \d+ \d+ BLOBS ", re.MULTILINE)
_OF_LARGE_OBJECTS = re.compile(r"blobs(_\d+)?\.toc")
_PACKED = re.compile(r"\.(gz|lz4|zst)\Z")
_END_OF_ROWS = b"\\.\n\n\n"
_TESTERS: Dict[str, Tuple[str, ...]] = {
    ".zst": ("zstd", "--test", "--quiet", "--"),
    ".lz4": ("lz4", "--test", "--multiple", "--quiet", "--"),
}
# What programs say that lack something themselves.
_UNABLE = re.compile(
    r"does not support compression|not built with zlib|unsupported version \([\d.]+\) in file header|No secret key|no identity matched"
)


@dataclass(frozen=True)
class Keys:
    """With what an encrypted backup can be read: the file of age's secret key, or the home of gpg."""

    identity: str | None = None
    gpg_home: str | None = None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self.identity or self.gpg_home)


NO_KEYS = Keys()


class Undecoded(Exception):
    """That nothing can be said about a backup beyond its checksums, and why: something is missing here, not in the backup."""


def decode_faults(backup: Path, manifest: Mapping[str, Any], client: Client | None, keys: Keys, tick: Tick | None = None) -> List[str]:
    """Return what is wrong with a backup whose checksums fit. Raises Undecoded where that cannot be told here."""
    try:
        faults = _database_faults(backup, manifest, client, keys, tick)
        if manifest.get("globals"):
            faults += _text_faults(backup / str(manifest["globals"]["file"]), b"database cluster", keys, tick)
    except ProgramMissing as error:
        raise Undecoded(error.message) from None
    return faults


def _database_faults(backup: Path, manifest: Mapping[str, Any], client: Client | None, keys: Keys, tick: Tick | None) -> List[str]:
    layout = str(manifest["dump"]["format"])
    if layout == "directory":
        return _directory_faults(backup, manifest, _client(client, manifest), tick)
    start = {"custom": "database.dump", "plain": "database.sql"}[layout]
    found = [str(file["path"]) for file in manifest["files"] if str(file["path"]).startswith(start)]
    if len(found) != 1:
        return [f"the manifest names {len(found)} files {start} instead of one"]
    if layout == "custom":
        return _custom_faults(backup / found[0], manifest, client, keys, tick)
    return _text_faults(backup / found[0], b"database", keys, tick)


def _custom_faults(path: Path, manifest: Mapping[str, Any], client: Client | None, keys: Keys, tick: Tick | None) -> List[str]:
    commands = _decoders(path, keys)
    restore = [_client(client, manifest).program("pg_restore"), "--file", os.devnull]
    try:
        faults = _head_faults(path.name, _start(path, commands, tick), manifest)
        if not faults:
            read_stream(path, commands, restore, tick=tick)
    except ProgramFailed as error:
        return _unreadable(path.name, error)
    return faults


def _text_faults(path: Path, what: bytes, keys: Keys, tick: Tick | None) -> List[str]:
    """Return what is wrong with a file of statements; `what` is what its first and last line say that it is a dump of."""
    ends = _Ends()
    try:
        read_stream(path, _decoders(path, keys), ends.take, tick=tick)
    except ProgramFailed as error:
        return _unreadable(path.name, error)
    if b"-- PostgreSQL " + what + b" dump\n" not in ends.start:
        return [f"{path.name} does not begin as such a dump does"]
    whole = re.search(_WHOLE % what, ends.tail)
    return [] if whole else [f"{path.name} is cut off: its last line does not say that it is complete"]


def _directory_faults(backup: Path, manifest: Mapping[str, Any], client: Client, tick: Tick | None) -> List[str]:
    folder = backup / "database"
    contents = folder / "toc.dat"
    if not any(backup / str(member["path"]) == contents for member in manifest["files"]):
        return [f"{folder.name}/toc.dat is missing: without it nobody can tell what the others are"]
    faults = _head_faults(str(contents.relative_to(backup)), _start(contents, [], tick), manifest)
    if faults:
        return faults
    by_suffix: Dict[str, List[Path]] = {}
    for member in manifest["files"]:
        path = backup / str(member["path"])
        if path.parent == folder:
            by_suffix.setdefault(path.suffix, []).append(path)
    faults = _gzip_faults(by_suffix.get(".gz", []), backup, tick)
    try:
        run_all(_testers(by_suffix), parallel=WORKERS, tick=tick)
    except ProgramFailed as error:
        faults += _unreadable(folder.name, error)
    return faults or _contents_faults(folder, client, [path.name for paths in by_suffix.values() for path in paths], tick)


def _contents_faults(folder: Path, client: Client, members: Sequence[str], tick: Tick | None) -> List[str]:
    """Return which members the table of contents names that are not there, or end too early.

    pg_restore reads the whole table for its list, and does not look for the members.
    """
    try:
        listed = run([client.program("pg_restore"), "--list", str(folder)], tick=tick)
    except ProgramFailed as error:
        return _unreadable(folder.name, error)
    there = {_PACKED.sub("", name): name for name in members}
    wanted = [f"{number}.dat" for number in _TABLE_DATA.findall(listed)]
    tables_of_objects = [name for name in members if _OF_LARGE_OBJECTS.fullmatch(name)]
    if _LARGE_OBJECTS.search(listed) and not tables_of_objects:
        wanted.append("blobs.toc")
    for name in tables_of_objects:
        wanted += (folder / name).read_text(encoding="ascii", errors="replace").split()[1::2]
    faults = [f"{folder.name}/{name} is named in toc.dat and is missing" for name in wanted if name not in there]
    # What is compressed was decoded to its end.
    raw = [name for name in wanted if there.get(name) == name and not name.startswith("blob")]
    return faults + [f"{folder.name}/{name} is cut off: it does not end as rows do" for name in raw if not _ends_as_rows_do(folder / name)]


def _ends_as_rows_do(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(len(_END_OF_ROWS), path.stat().st_size), os.SEEK_END)
        return file.read() == _END_OF_ROWS


def _testers(by_suffix: Mapping[str, Sequence[Path]]) -> List[List[str]]:
    """Return commands that decode compressed members to nowhere, each about as many."""
    commands: List[List[str]] = []
    for suffix, (program, *arguments) in _TESTERS.items():
        paths = [str(path) for path in by_suffix.get(suffix, [])]
        shares = max(min(WORKERS, len(paths)), -(-len(paths) // _BATCH))
        commands += [[require_program(program), *arguments, *paths[number::shares]] for number in range(shares)]
    return commands


def _gzip_faults(paths: Sequence[Path], backup: Path, tick: Tick | None) -> List[str]:
    faults = at_once(_gzip_fault, paths, tick)
    return [f"{path.relative_to(backup)} {fault}" for path, fault in zip(paths, faults) if fault]


def _gzip_fault(path: Path, stop: threading.Event) -> str | None:
    """Decode a gzip file; zlib checks its own sums and, with several threads, works on all processors."""
    engine = zlib.decompressobj(wbits=31)
    try:
        with path.open("rb", buffering=0) as file:
            chunk = file.read(_CHUNK)
            while chunk and not stop.is_set():
                engine.decompress(chunk)
                chunk = file.read(_CHUNK)
    except (OSError, zlib.error) as error:
        return f"cannot be decoded: {error}"
    return None if engine.eof and not engine.unused_data else "cannot be decoded: it is cut off, or goes on after its end"


def _unreadable(name: str, error: ProgramFailed) -> List[str]:
    """Return the fault that a program found. What was ended from outside says nothing about the backup."""
    if error.code < 0:
        raise error
    if _UNABLE.search(error.said):
        raise Undecoded(error.message) from None
    return [f"{name} cannot be decoded: {error.message}"]


def _head_faults(name: str, start: bytes, manifest: Mapping[str, Any]) -> List[str]:
    """Compare what the archive says of itself with the manifest."""
    try:
        head = read_archive_head(start)
    except ValueError as error:
        return [f"{name} is not what it should be: {error}"]
    pairs = [
        ("format", head.format, str(manifest["dump"]["format"])),
        ("database", head.database, str(manifest["database"])),
        ("version of the server", _version(head.server), _version(str(manifest["versions"]["server"]))),
    ]
    return [f"{name} says another {what} than the manifest, {said} instead of {wanted}" for what, said, wanted in pairs if said != wanted]


def _version(text: str) -> str:
    return text.split(" ", 1)[0]


def _client(client: Client | None, manifest: Mapping[str, Any]) -> Client:
    if client is None:
        raise Undecoded("no client programs are at hand")
    made_by = str(manifest["versions"]["client"])
    if client.major < int(made_by.split(".", 1)[0]):
        raise Undecoded(f"the backup was made by pg_dump {made_by}, and the pg_restore here is of PostgreSQL {client.major}")
    return client


def _decoders(path: Path, keys: Keys) -> List[List[str]]:
    encrypted = any(suffix in ENCRYPTED.values() for suffix in path.suffixes)
    if encrypted and not keys.given:
        raise Undecoded(f"{path.name} is encrypted, and nobody said with which key it can be read")
    try:
        return decoders(str(path), keys.identity, keys.gpg_home)
    except InvalidValue as error:
        raise Undecoded(error.message) from None


def _start(path: Path, commands: Sequence[Sequence[str]], tick: Tick | None) -> bytes:
    """Return the first bytes of what a file holds when it is decoded by `commands`."""
    if commands:
        ends = _Ends()
        read_stream(path, commands, ends.take_start, tick=tick, whole=False)
        return ends.start
    with path.open("rb") as file:
        return file.read(LONGEST)


class _Ends:
    """The first and the last bytes of what went by."""

    def __init__(self) -> None:
        self.start = b""
        self.tail = b""

    def take(self, chunk: bytes) -> None:
        """Look at what goes by."""
        if len(self.start) < LONGEST:
            self.start += chunk[: LONGEST - len(self.start)]
        self.tail = (self.tail + chunk)[-_TAIL:] if len(chunk) < _TAIL else chunk[-_TAIL:]

    def take_start(self, chunk: bytes) -> bool:
        """Look at what goes by; true when the beginning is complete."""
        self.take(chunk)
        return len(self.start) == LONGEST
