"""Have the collections of others that tests and benchmarks call in .cache/collections, out of the wheel `ansible` on PyPI.

usage: python -m tests.tools.foreign_collections        (says where they are)

The wheel has a hundred collections and is not installed: only those of WANTED are unpacked, and the wheel is thrown away. Nothing
is fetched where they are there already; an interrupted run is repeated, and two runs at once wait for each other.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from tests.ground import fetched

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / ".cache" / "collections"
PINNED = ROOT / "requirements" / "collections.txt"
WANTED = ("community.general", "community.postgresql")


def ensure() -> Path:
    """Return the folder for ANSIBLE_COLLECTIONS_PATH that holds the collections of WANTED. Raises ProgramMissing."""
    wanted = _wanted()
    stamp = PATH / "from.txt"
    if _read(stamp) != wanted:
        PATH.parent.mkdir(exist_ok=True)
        with PATH.with_suffix(".lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _read(stamp) != wanted:
                _fetch(wanted)
    return PATH


def _wanted() -> str:
    (requirement,) = re.findall(r"^ansible==[\d.]+", PINNED.read_text(encoding="utf-8"), re.MULTILINE)
    return " ".join((requirement, *WANTED))


def _read(stamp: Path) -> str | None:
    return stamp.read_text(encoding="utf-8") if stamp.exists() else None


def _fetch(wanted: str) -> None:
    part = Path(tempfile.mkdtemp(dir=PATH.parent))
    try:
        made = part / "collections"
        folders = tuple(f"ansible_collections/{name.replace('.', '/')}/" for name in WANTED)
        with zipfile.ZipFile(fetched.wheel(wanted.split(" ", maxsplit=1)[0], part)) as wheel:
            # Without their tests and changelogs, which are a sixth of them.
            names = [name for name in wheel.namelist() if name.startswith(folders) and not name.startswith(_left_out(folders))]
            wheel.extractall(made, names)
        (made / "from.txt").write_text(wanted, encoding="utf-8")
        shutil.rmtree(PATH, ignore_errors=True)
        made.replace(PATH)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _left_out(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{folder}{name}/" for folder in folders for name in ("tests", "changelogs", "docs"))


if __name__ == "__main__":
    print(ensure())
