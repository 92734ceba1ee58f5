# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which installation of the client programs suits a server, and whether it is one that is known to be open to attack."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramMissing

PATTERNS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
WRAPPER = "pg_wrapper"  # Debian's: it chooses a version by cluster, not by the server that is asked
ASKING_SECONDS = 20.0

# What each flaw lets happen, and the first minor of each major without it. A later major never had it; an older one never lost it.
FLAWS: Dict[str, Tuple[str, Dict[int, int]]] = {
    "CVE-2025-8714": ("a server's superuser has a plain dump run commands in psql", {17: 6, 16: 10, 15: 14, 14: 19, 13: 22}),
    "CVE-2025-8715": ("a name with a line end in a dump runs commands in psql", {17: 6, 16: 10, 15: 14, 14: 19, 13: 22}),
    "CVE-2026-6477": ("a server's superuser overwrites the memory of pg_dump and psql", {18: 4, 17: 10, 16: 14, 15: 18, 14: 23}),
    "CVE-2026-18408": ("a plain dump ends its own restriction and runs commands in psql", {18: 6, 17: 11, 16: 15, 15: 19, 14: 24}),
}

_VERSION = re.compile(r"\) (\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Client:
    """The client programs in `folder`, all of one `version` (major, minor)."""

    folder: str
    version: Tuple[int, int]

    @property
    def major(self) -> int:
        """The major version."""
        return self.version[0]

    @property
    def text(self) -> str:
        """The version as people write it."""
        return f"{self.version[0]}.{self.version[1]}"

    def program(self, name: str) -> str:
        """Return the path of a program. Raises ProgramMissing."""
        path = Path(self.folder) / name
        if not _executable(path):
            raise ProgramMissing(
                f"{self.folder} has no {name} of PostgreSQL {self.text}.",
                object_name=name,
                hint=f"Install the package with the client programs of PostgreSQL {self.major}, or say another folder by bin_dir.",
            )
        return str(path)

    def below_floor(self) -> Optional[str]:
        """Return a sentence that names the known flaws of these programs and the version without them, or None."""
        known = [name for name, (_what, fixed) in FLAWS.items() if self._has(fixed)]
        if not known:
            return None
        floors = [FLAWS[name][1].get(self.major) for name in known]
        if None in floors:
            right = f"PostgreSQL {self.major} gets no correction any more: use the programs of a newer one"
        else:
            right = f"use {self.major}.{max(floor for floor in floors if floor is not None)} or newer"
        what = "; ".join(f"{name} ({FLAWS[name][0]})" for name in known)
        return f"the client programs in {self.folder} are of PostgreSQL {self.text}, which is open to {what}: {right}."

    def _has(self, fixed: Dict[int, int]) -> bool:
        return self.major <= max(fixed) and self.version[1] < fixed.get(self.major, self.version[1] + 1)


def find_client(server_version_num: int, bin_dir: Optional[str] = None) -> Client:
    """Return the newest client programs on this host, or those in `bin_dir`, for a server of that `server_version_num`.

    They are never of an older major than the server, whose databases those refuse to dump. Raises InvalidValue, ProgramMissing.
    """
    server = server_version_num // 10000
    found = [_given(bin_dir)] if bin_dir else sorted(_installed(), key=lambda one: one.version, reverse=True)
    if not found:
        raise ProgramMissing(
            f"no client programs of PostgreSQL are installed here: looked in {', '.join(f'/{one}' for one in PATTERNS)} and in PATH.",
            object_name="pg_dump",
            hint=f"Install the package postgresql-client of PostgreSQL {server} or newer, or say where they are by bin_dir.",
        )
    if found[0].major < server:
        where = f"bin_dir {bin_dir} has" if bin_dir else f"the newest client programs here, in {found[0].folder}, are"
        raise InvalidValue(
            f"the server is PostgreSQL {_server_text(server_version_num)}; {where} {found[0].text}: pg_dump does not dump a newer server.",
            object_name="bin_dir",
            hint=f"Install the client programs of PostgreSQL {server} or newer, or say where they are by bin_dir.",
        )
    return found[0]


def _given(bin_dir: str) -> Client:
    folder = Path(bin_dir).expanduser()
    if folder.resolve().joinpath("pg_dump").resolve().name == WRAPPER:
        hint = "Say the folder with the programs themselves, such as /usr/lib/postgresql/17/bin."
        raise InvalidValue(
            f"bin_dir: pg_dump in {folder} is Debian's {WRAPPER}, which chooses a version by itself.", object_name="bin_dir", hint=hint
        )
    version = _version(folder)
    if version is None:
        raise InvalidValue(f"bin_dir: {folder} has no pg_dump that tells its version.", object_name="bin_dir")
    return Client(str(folder), version)


def _installed() -> Iterator[Client]:
    root = Path("/")
    folders: List[Path] = [folder for pattern in PATTERNS for folder in root.glob(pattern)]
    folders += [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    for folder in dict.fromkeys(folders):
        version = None if (folder / "pg_dump").resolve().name == WRAPPER else _version(folder)
        if version is not None:
            yield Client(str(folder), version)


@lru_cache(maxsize=None)
def _version(folder: Path) -> Optional[Tuple[int, int]]:
    """Return what the pg_dump in `folder` says, None where there is none or it says nothing."""
    program = folder / "pg_dump"
    if not _executable(program):
        return None
    try:
        done = subprocess.run(
            [str(program), "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=ASKING_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else None
    return (int(match.group(1)), int(match.group(2) or 0)) if match else None


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(str(path), os.X_OK)


def _server_text(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"
