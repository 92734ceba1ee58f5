"""Programs that tests need and this machine may lack: Debian's, fetched by its own client and unpacked into the cache, not installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from tests.ground import fetched
from tests.ground.errors import ProgramMissing
from tests.ground.servers import cache_folder

# What each program comes in, first its own package, then libraries that a small system may be without.
PACKAGES = {
    "age": ("age",),
    "age-keygen": ("age",),
    "rclone": ("rclone",),
    "rsync": ("rsync", "libpopt0", "libxxhash0"),
}
_CLIENT = ("apt-get", "dpkg")


def program(name: str) -> Path:
    """Return the path of a program: the installed one, else Debian's out of the cache, where it is put once.

    Its folder can be put in front of PATH. Raises ProgramMissing, which says why.
    """
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    packages = PACKAGES[name]
    target = cache_folder() / f"debian-{packages[0]}"

    def make(part: Path) -> Path:
        made = unpack(packages, part)
        _make_startable(made, target)
        return made

    return fetched.kept(target, make) / "bin" / name


def unpack(packages: Collection[str], part: Path) -> Path:
    """Fetch packages of Debian into an empty folder and return the one in it that they are unpacked to. Raises ProgramMissing."""
    wanted = " and ".join(packages)
    lacking = [one for one in _CLIENT if shutil.which(one) is None]
    if lacking:
        raise ProgramMissing(f"there is no {' and no '.join(lacking)} here to fetch {wanted} from Debian")
    done = subprocess.run(["apt-get", "download", *packages], cwd=part, capture_output=True, text=True, check=False)
    archives = sorted(part.glob("*.deb"))
    if done.returncode != 0 or len(archives) != len(packages):
        raise ProgramMissing(f"apt-get could not fetch {wanted}: {done.stderr.strip()[-300:]}")
    made = part / "made"
    for archive in archives:
        subprocess.run(["dpkg", "-x", archive, made], check=True, capture_output=True)
    return made


def _make_startable(made: Path, target: Path) -> None:
    """Write a script for each program that lets it find the libraries that were fetched with it."""
    libraries = ":".join(str(target / folder.relative_to(made)) for folder in made.glob("usr/lib/*-linux-gnu*"))
    (made / "bin").mkdir()
    for real in (made / "usr" / "bin").iterdir():
        script = made / "bin" / real.name
        place = target / "usr" / "bin" / real.name
        script.write_text(
            f"#!/bin/sh\nLD_LIBRARY_PATH='{libraries}'${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec '{place}' \"$@\"\n", encoding="utf-8"
        )
        script.chmod(0o755)
