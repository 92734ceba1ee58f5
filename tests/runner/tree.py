"""The copy of the collection that linters and Ansible's own tools see: .cache/tree/ansible_collections/pgops/runbook.

Those tools want the collection at such a path and read everything below it, so they get the files that belong to the
repository (tracked, or new and not ignored) and never a virtual environment or another tool's leavings.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
COLLECTIONS = CACHE / "tree"
COPY = COLLECTIONS / "ansible_collections" / "pgops" / "runbook"
# Where there is no git (an unpacked archive), these are what .gitignore would have left out.
_IGNORED = {".ansible", ".cache", ".demo", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__"}


def files() -> list[Path]:
    """Return the repository's files relative to its top, sorted."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return sorted(_walk())
    names = {Path(os.fsdecode(name)) for name in listed.split(b"\0") if name}
    return sorted(name for name in names if (ROOT / name).is_file())


def _walk() -> list[Path]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if name not in _IGNORED and (here / name).as_posix() != "tests/output"]
        found += [here / name for name in names if not name.endswith((".pyc", ".retry"))]
    return found


def refresh() -> Path:
    """Bring the copy up to date, touching only what differs so that the tools' caches stay good; return its path."""
    COPY.mkdir(parents=True, exist_ok=True)
    wanted = set(files())
    for folder, _folders, names in os.walk(COPY, topdown=False):
        here = Path(folder).relative_to(COPY)
        if here.parts[:1] == (".git",) or here.parts[:2] == ("tests", "output"):
            continue
        for name in names:
            if here / name not in wanted and here / name != Path(".git"):
                (COPY / here / name).unlink()
        if here.parts and not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    for path in sorted(wanted):
        _copy(ROOT / path, COPY / path)
    if not (COPY / ".git").exists():
        # ansible-test looks upwards for a repository and would find ours, in which the copy is ignored.
        subprocess.run(["git", "init", "--quiet", str(COPY)], capture_output=True, check=False)
    return COPY


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        if not (target.is_symlink() and target.readlink() == source.readlink()):
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        return
    if target.is_file() and not target.is_symlink() and filecmp.cmp(source, target, shallow=False):
        if source.stat().st_mode != target.stat().st_mode:
            shutil.copymode(source, target)
        return
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
