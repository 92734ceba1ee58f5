# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which installed server a scratch cluster runs: of the major version that the backup came from, else the nearest newer one."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import Account, spawn
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramMissing

_PLACES = (("/usr/lib/postgresql", "*/bin"), ("/usr", "pgsql-*/bin"), ("/usr/local/pgsql", "bin"))
_NEEDED = ("postgres", "initdb")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class ServerPrograms:
    """The programs of one installed server."""

    folder: str
    version: Tuple[int, int]

    @property
    def major(self) -> int:
        """Its major version."""
        return self.version[0]

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(Path(self.folder) / name)


def find_server(major: int, bin_dir: str | None, account: Account) -> ServerPrograms:
    """Return the server for a backup of a server of `major`: of `bin_dir` alone, or the best that is installed.

    Raises ProgramMissing where there is none, and InvalidValue where that of `bin_dir` is older or the account cannot run it.
    """
    if bin_dir:
        found = _look([Path(bin_dir).expanduser()], account)
        if found[0].major < major:
            message = f"server_bin_dir: {bin_dir} has PostgreSQL {found[0].major}, older than the backup's {major}"
            raise InvalidValue(message, object_name="server_bin_dir", hint=f"Name one of PostgreSQL {major}, or a newer one.")
    else:
        found = _look(_folders(), account)
    fitting = [one for one in found if one.major >= major]
    if not fitting:
        seen = ", ".join(sorted({str(one.major) for one in found})) or "none at all"
        raise ProgramMissing(
            f"no server of PostgreSQL {major} or newer is installed on this host (found: {seen})",
            object_name="postgres",
            hint=f"Install the server package of PostgreSQL {major}, or name its folder by server_bin_dir.",
        )
    # The same major tells most; of those, the newest minor.
    return min(fitting, key=lambda one: (one.major, -one.version[1]))


def _folders() -> List[Path]:
    return [folder for top, pattern in _PLACES for folder in sorted(Path(top).glob(pattern)) if _complete(folder)]


def _complete(folder: Path) -> bool:
    return all(os.access(str(folder / name), os.X_OK) for name in _NEEDED)


def _look(folders: Sequence[Path], account: Account) -> List[ServerPrograms]:
    """Ask servers for their versions, all at once, as the account that will run them. Raises InvalidValue where that is not possible."""
    with ExitStack() as stack:
        asked = [(folder, stack.enter_context(_asked(folder, account))) for folder in folders]
        return [_answered(folder, child) for folder, child in asked]


def _asked(folder: Path, account: Account) -> subprocess.Popen[bytes]:
    if not _complete(folder):
        hint = "Name the folder that holds both, such as /usr/lib/postgresql/16/bin."
        raise InvalidValue(f"server_bin_dir: {folder} has no {' and '.join(_NEEDED)}", object_name="server_bin_dir", hint=hint)
    try:
        return spawn([str(folder / "postgres"), "--version"], account, Path("/"), subprocess.PIPE)
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidValue(
            f"server_bin_dir: the account {account.name} cannot run {folder / 'postgres'}: {getattr(error, 'strerror', None) or error}",
            object_name="server_bin_dir",
            hint="Let that account enter the folder, or name another account by run_as.",
        ) from None


def _answered(folder: Path, child: subprocess.Popen[bytes]) -> ServerPrograms:
    said = child.communicate()[0].decode("utf-8", "replace")
    match = _VERSION.search(said)
    if match is None:
        raise InvalidValue(
            f"server_bin_dir: {folder / 'postgres'} does not tell its version: {said.strip()[:200]!r}", object_name="server_bin_dir"
        )
    return ServerPrograms(str(folder), (int(match.group(1)), int(match.group(2) or 0)))
