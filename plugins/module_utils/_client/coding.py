# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compression and encryption of a backup's files: which method, by whom, and the commands that do and undo it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import listed
from ansible_collections.pgops.runbook.plugins.module_utils._client.child import missing, own_environment
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

METHODS = ("auto", "zstd", "lz4", "gzip", "none")
SUFFIXES = {"zstd": ".zst", "lz4": ".lz4", "gzip": ".gz", "none": ""}
ENCRYPTED = {"age": ".age", "gpg": ".gpg"}
# The smallest and largest level that the programs know; for zstd those beyond 19 need far more memory.
LEVELS = {"zstd": (1, 19), "lz4": (1, 12), "gzip": (1, 9)}
_METHODS_SINCE = 16  # the pg_dump that has --compress=METHOD
_RECIPIENT = re.compile(r"(age1|ssh-)\S+( .*)?$")


@dataclass(frozen=True)
class Compression:
    """How a dump is compressed. `by` says by whom: `pg_dump` inside the dump, a `program` around it, None for nobody."""

    method: str
    level: Optional[int] = None
    by: Optional[str] = None

    def dump_arguments(self, client: Client) -> List[str]:
        """Return the arguments that make pg_dump do its part, which is none where a program does it."""
        if self.by != "pg_dump":
            return ["--compress=0"]
        if client.major < _METHODS_SINCE:
            return [f"--compress={self.level}"] if self.level else []
        return [f"--compress={self.method}" + (f":{self.level}" if self.level else "")]

    @property
    def suffix(self) -> str:
        """What a program adds to the name of the file."""
        return SUFFIXES[self.method] if self.by == "program" else ""

    def as_manifest(self) -> Dict[str, Any]:
        """Return the manifest's entry."""
        return {"method": self.method, "level": self.level, "by": self.by}


@dataclass(frozen=True)
class Encryption:
    """For whom a backup is encrypted: `method` age or gpg. The recipients are public keys or the names of such."""

    method: str
    recipients: Tuple[str, ...]
    gpg_home: Optional[str] = None

    @classmethod
    def from_option(cls, given: Mapping[str, Any]) -> Optional[Encryption]:
        """Return what the option `encrypt` says, {age: [...]} or {gpg: [...], gpg_home: ...}, None without recipients.

        Raises InvalidValue.
        """
        lists = {method: tuple(text for text in (str(one).strip() for one in listed(given.get(method))) if text) for method in ENCRYPTED}
        methods = [method for method, recipients in lists.items() if recipients]
        if len(methods) > 1:
            raise InvalidValue("encrypt: give recipients of one kind, for age or for gpg, not for both", object_name="encrypt")
        for position, recipient in enumerate(lists["age"], 1):
            if not _RECIPIENT.match(recipient):
                # Not shown: it may be the secret key.
                hint = "Give public keys, such as age1... or ssh-ed25519 ..."
                raise InvalidValue(f"encrypt: recipient {position} of age is no public key", object_name="encrypt", hint=hint)
        return cls(methods[0], lists[methods[0]], given.get("gpg_home") or None) if methods else None

    @property
    def suffix(self) -> str:
        """What it adds to the name of the file."""
        return ENCRYPTED[self.method]

    def as_manifest(self) -> Dict[str, Any]:
        """Return the manifest's entry."""
        return {"method": self.method, "recipients": list(self.recipients)}


def choose_compression(wanted: str, format: str, client: Client, level: Optional[int] = None) -> Compression:
    """Return how a dump in `format` (directory, custom, plain) is compressed when `wanted`, one of METHODS, is asked for.

    `auto` is zstd where pg_dump or the program zstd can do it, else gzip. Raises ProgramMissing where neither can.
    """
    method = wanted
    if wanted == "auto":
        method = "zstd" if (format != "plain" and compresses(client, "zstd")) or shutil.which("zstd") else "gzip"
    if method == "none":
        return Compression("none")
    if format != "plain" and compresses(client, method):
        return Compression(method, level, "pg_dump")
    require_program(method)
    return Compression(method, level, "program")


def compresses(client: Client, method: str) -> bool:
    """Tell whether the client's pg_dump compresses by `method` itself, and so its pg_restore decompresses."""
    if method == "gzip":
        return True
    return client.major >= _METHODS_SINCE and _built_with(client.program("pg_dump"), method)


def encoders(compression: Compression, encryption: Optional[Encryption] = None, threads: int = 1) -> List[List[str]]:
    """Return the commands, in their order, that a dump goes through on its way to the file. Raises ProgramMissing."""
    commands = [compressor(compression, threads)] if compression.by == "program" else []
    if encryption is not None:
        commands.append(_encryptor(encryption))
    return commands


def compressor(compression: Compression, threads: int = 1) -> List[str]:
    """Return the command that compresses its input to its output, with a checksum of the content inside. Raises ProgramMissing."""
    program = require_program(compression.method)
    level = [f"-{compression.level}"] if compression.level else []
    if compression.method == "zstd":
        return [program, "-q", "-c", "--check", f"-T{threads}", *level]
    if compression.method == "lz4":
        return [program, "-q", "-z", "-c", *level, "-"]  # which has a checksum unless it is told otherwise
    return [program, "-q", "-c", "-n", *level]


def member_compressors(compression: Compression, members: Sequence[str], parallel: int) -> List[List[str]]:
    """Return commands that replace the files `members` by compressed ones, `parallel` of about the same number of files each.

    Put the largest first: they go to different commands. A list of arguments has a limit, so there may be more. Raises ProgramMissing.
    """
    program = require_program(compression.method)
    level = [f"-{compression.level}"] if compression.level else []
    start = {"zstd": [program, "-q", "--check", "--rm"], "lz4": [program, "-q", "-z", "-m", "--rm"], "gzip": [program, "-q", "-n"]}
    groups = max(parallel, -(-len(members) // 500))
    shares = [list(members[number::groups]) for number in range(groups)]
    return [[*start[compression.method], *level, *share] for share in shares if share]


def decoders(path: str, identity: Optional[str] = None, gpg_home: Optional[str] = None) -> List[List[str]]:
    """Return the commands that undo what the suffixes of `path` say, the outermost first; none for a file that is neither.

    `identity` is the file with age's secret key. Raises ProgramMissing, and InvalidValue where age's file needs an identity.
    """
    commands: List[List[str]] = []
    methods = {suffix: method for method, suffix in {**SUFFIXES, **ENCRYPTED}.items() if suffix}
    for suffix in reversed(Path(path).suffixes):
        if suffix not in methods:
            break
        commands.append(_decoder(methods[suffix], identity, gpg_home))
    return commands


def require_program(name: str) -> str:
    """Return the path of a program on PATH. Raises ProgramMissing, which names the package."""
    path = shutil.which(name)
    if path is None:
        raise missing(name)
    return path


def _encryptor(encryption: Encryption) -> List[str]:
    program = require_program(encryption.method)
    if encryption.method == "age":
        return [program, "--encrypt", *(part for recipient in encryption.recipients for part in ("--recipient", recipient))]
    # Nobody but the recipients: a default of the account's own gpg.conf would add another.
    words = ["--encrypt", "--no-encrypt-to", "--trust-model", "always", "--compress-algo", "none", "--output", "-"]
    return [program, *_gpg(encryption.gpg_home), *words, *(part for one in encryption.recipients for part in ("--recipient", one))]


def _decoder(method: str, identity: Optional[str], gpg_home: Optional[str]) -> List[str]:
    program = require_program(method)
    if method == "age":
        if not identity:
            raise InvalidValue("identity: the file is encrypted with age: say the file that holds the secret key", object_name="identity")
        return [program, "--decrypt", "--identity", identity]
    if method == "gpg":
        return [program, *_gpg(gpg_home), "--pinentry-mode", "error", "--decrypt"]
    if method == "zstd":
        return [program, "-q", "-d", "-c", "--long=31"]
    return [program, "-q", "-d", "-c", *(["-"] if method == "lz4" else [])]


def _gpg(home: Optional[str]) -> List[str]:
    return ["--batch", "--no-tty", "--quiet", *(["--homedir", home] if home else [])]


@lru_cache(maxsize=None)
def _built_with(pg_dump: str, method: str) -> bool:
    """Ask pg_dump by a dump of a server that cannot be there: what it was not built with, it says before it connects."""
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    command = [pg_dump, "--no-password", "--format=custom", f"--compress={method}", "--dbname", "host='/dev/null/nowhere'"]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, env=own_environment(), **silent)  # type: ignore[call-overload]
    return b"compression" not in done.stderr
