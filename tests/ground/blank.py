"""Data directories as initdb leaves them, made once of each kind and then copied: initdb takes seconds on a busy machine.

Copies have one system identifier, as clones of a server have.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .account import rename_into_place
from .servers import Installation, cache_folder


def fill(data: Path, installation: Installation, words: Sequence[str], make: Callable[[], None]) -> None:
    """Let `data` be what `make` puts there, by a copy if it was called before for the same programs with the same `words`."""
    top = cache_folder() / "data"
    top.mkdir(exist_ok=True)
    kept = top / _key(installation, words)
    if not kept.is_dir():
        with (top / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.is_dir():
                make()
                _keep(data, kept)
                return
    # Renamed when it is complete: a start takes a folder with a version in it for a whole one.
    part = data.with_name(f"{data.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(kept, part, symlinks=True)
    part.rename(data)


def _keep(data: Path, kept: Path) -> None:
    """Copy `data` to `kept`; the caller holds the lock, so that parts are of those who were killed."""
    for left in kept.parent.glob("part.*"):
        shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix="part.", dir=kept.parent))
    shutil.copytree(data, part, symlinks=True, dirs_exist_ok=True)
    rename_into_place(part, kept)


def _key(installation: Installation, words: Sequence[str]) -> str:
    """Return a name that is another one where the programs have changed, or the account that reads the copy."""
    seen = [(installation.bin_dir / name).stat() for name in ("initdb", "postgres")]
    facts = [str(installation.bin_dir), *(f"{one.st_size} {one.st_mtime_ns}" for one in seen), str(os.geteuid()), *words]
    return f"{installation.major}-{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:16]}"
