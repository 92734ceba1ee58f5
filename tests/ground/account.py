"""Which operating system account runs the server, and what that account can reach.

A PostgreSQL server refuses to run as root. An ordinary user runs it as oneself.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import GroundError

# Where it was when the process began: what a test does to it is about what is tested.
_TEMPORARY = Path(tempfile.gettempdir())


@dataclass(frozen=True)
class Account:
    """The account that runs servers. `switch` says whether processes must change to it first."""

    name: str
    uid: int
    gid: int
    switch: bool

    def popen_options(self) -> dict[str, object]:
        """Return the arguments of subprocess.Popen that start a process as this account, and nothing of the caller's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, path: Path) -> None:
        """Give `path`, and what is in it, to this account."""
        if not self.switch:
            return
        for place, _folders, files in os.walk(path):
            os.chown(place, self.uid, self.gid)
            for name in files:
                os.chown(Path(place, name), self.uid, self.gid)

    def can_read(self, path: Path) -> bool:
        """Say whether this account can enter the folder or read the file at `path`."""
        if not self.switch:
            return os.access(path, os.R_OK)
        test = "-x" if path.is_dir() else "-r"
        return subprocess.run(["test", test, str(path)], cwd="/", check=False, **self.popen_options()).returncode == 0  # type: ignore[call-overload]


@functools.cache
def server_account() -> Account:
    """Return the caller's account, or for root that of `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return Account(str(os.geteuid()), os.geteuid(), os.getegid(), switch=False)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, switch=True)
    raise GroundError("a PostgreSQL server does not run as root, and this machine has neither a user postgres nor nobody")


def reachable_copy(prefix: Path, key: str, *, around: Path | None = None, beside: Sequence[Path] = ()) -> Path:
    """Return `prefix`, or a copy of it under the system's temporary directory where the server's account cannot reach it.

    The copy keeps the places of `prefix` and of the folders `beside` it relative to `around`, for libraries found that way.
    """
    account = server_account()
    if account.can_read(prefix / "bin" / "postgres"):
        return prefix
    top = around or prefix.parent
    copy = owned_temporary_folder() / key
    if not copy.exists():
        part = Path(tempfile.mkdtemp(dir=copy.parent))
        for folder in (prefix, *beside):
            shutil.copytree(folder, part / folder.relative_to(top), symlinks=True)
        part.chmod(0o755)
        rename_into_place(part, copy)
    return copy / prefix.relative_to(top)


def owned_temporary_folder() -> Path:
    """Return this user's folder for what is worth keeping between runs but cannot be in the checkout."""
    folder = _TEMPORARY / f"pgops-ground-{os.geteuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
        raise GroundError(f"{folder} belongs to somebody else: remove it or set TMPDIR")
    return folder


def rename_into_place(part: Path, target: Path) -> None:
    """Rename the complete folder `part` to `target`; where another process was faster, its folder stays."""
    try:
        part.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(part)
