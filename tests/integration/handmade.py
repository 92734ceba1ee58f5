"""Backups made by hand, of real dumps: what the engine of pg_backup writes, without it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._backup.decode import Keys
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import iso, read_manifest, sealed, write_document
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import backup_id
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import Verification
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import verify
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client, find_client
from tests.ground import servers
from tests.ground.cluster import Cluster

# What each layout is, and how it comes to be: format, compression by pg_dump, program around it, members compressed by a program.
LAYOUTS: dict[str, dict[str, Any]] = {
    "custom, gzip": {"format": "custom", "compress": "gzip"},
    "custom, none": {"format": "custom", "compress": "0"},
    "custom, zstd outside": {"format": "custom", "compress": "0", "outside": "zstd"},
    "directory, gzip": {"format": "directory", "compress": "gzip"},
    "directory, zstd members": {"format": "directory", "compress": "0", "members": "zstd"},
    "plain, none": {"format": "plain"},
    "plain, zstd": {"format": "plain", "outside": "zstd"},
    "plain, gzip": {"format": "plain", "outside": "gzip"},
}
_NAMES = {"custom": "database.dump", "plain": "database.sql", "directory": "database"}
_SUFFIXES = {"zstd": ".zst", "gzip": ".gz", "lz4": ".lz4"}
_ENCODERS = {"zstd": ["zstd", "-q", "--check", "--rm"], "gzip": ["gzip", "-n"], "lz4": ["lz4", "-q", "--rm", "-m"]}


@functools.cache
def client() -> Client:
    """Return the newest client programs."""
    return find_client(120000, str(servers.find(18).program("pg_dump").parent))


def fill(cluster: Cluster, database: str) -> None:
    """Make a small database of several tables, one of them large enough for several blocks of every compressor."""
    with cluster.connect(database) as connection:
        connection.execute(
            """
            CREATE TABLE notes AS SELECT n, md5(n::text) || md5((n * 7)::text) AS note FROM generate_series(1, 4000) AS n;
            CREATE TABLE people AS SELECT n AS id, 'person ' || n AS name FROM generate_series(1, 300) AS n;
            CREATE TABLE empty (id integer PRIMARY KEY);
            SELECT lo_from_bytea(0, 'a large object');
            """
        )


def dumped(
    cluster: Cluster,
    database: str,
    folder: Path,
    layout: str = "custom, gzip",
    *,
    name: str = "full",
    taken_at: datetime | None = None,
    globals_too: bool = True,
    **changes: Any,
) -> Path:
    """Make a backup of `database` in `folder` and return where it stands; `changes` go into the manifest."""
    how = LAYOUTS[layout]
    moment = taken_at or datetime.now(UTC) - timedelta(minutes=1)
    backup = folder / backup_id(database, name, moment)
    backup.mkdir(mode=0o700)
    target = backup / _NAMES[how["format"]]
    place = cluster.conninfo(database)
    known = {**os.environ, "PGPASSWORD": cluster.password}
    compress = [f"--compress={how['compress']}"] if "compress" in how else []
    _run([client().program("pg_dump"), f"--format={how['format']}", *compress, f"--file={target}", "--dbname", place], known)
    if "outside" in how:
        _run([*_ENCODERS[how["outside"]], str(target)])
    if "members" in how:
        _run([*_ENCODERS[how["members"]], *map(str, (path for path in target.glob("*.dat") if path.name != "toc.dat"))])
    if globals_too:
        _run([client().program("pg_dumpall"), "--globals-only", f"--file={backup / 'globals.sql'}", "--dbname", place], known)
        changes.setdefault("globals", {"file": "globals.sql", "role_passwords": True, "note": None})
    (backup / "objects.json").write_text("{}\n", encoding="utf-8")
    document = {
        "format": "pgops.backup/1",
        "kind": "logical",
        "id": backup.name,
        "name": name,
        "database": database,
        "system_identifier": "7000000000000000001",
        "scope": {"kind": "full", "schemas": [], "tables": []},
        "started_at": iso(moment),
        "finished_at": iso(moment + timedelta(seconds=2)),
        "verified": {"how": "decode", "at": iso(moment + timedelta(seconds=3))},
        "dump": {"format": how["format"], "compression": _compression(how), "encryption": None, "jobs": 1},
        "versions": {"server": _server_version(cluster), "client": client().text, "collection": "0.1.0"},
        "snapshot": {"at": iso(moment), "lsn": "0/1", "in_recovery": False},
        "tables": [{"name": "public.notes", "rows": 4000}, {"name": "public.people", "rows": 300}, {"name": "public.empty", "rows": 0}],
        **changes,
    }
    return seal(backup, document)


def seal(backup: Path, document: dict[str, Any]) -> Path:
    """Write the list of the files that are there, and the manifest."""
    files = [
        {"path": str(path.relative_to(backup)), "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(backup.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "SHA256SUMS", "verified.json") and not path.name.startswith(".")
    ]
    (backup / "SHA256SUMS").write_text("".join(f"{file['sha256']}  {file['path']}\n" for file in files), encoding="utf-8")
    size = sum(int(file["bytes"]) for file in files)
    write_document(backup / "manifest.json", sealed({**document, "files": files, "bytes": size}))
    return backup


def resealed(backup: Path, **changes: Any) -> Path:
    """Write the manifest anew for the files as they are now, so that checksums see nothing: what only decoding can find."""
    document = json.loads((backup / "manifest.json").read_text(encoding="utf-8"))
    document.pop("sha256")
    return seal(backup, {**document, **changes})


def rewritten(backup: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a backup and seal it again, as nothing in the collection does."""
    document = json.loads((backup / "manifest.json").read_text(encoding="utf-8"))
    change(document)
    write_document(backup / "manifest.json", sealed(document))


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def copied(backup: Path, folder: Path) -> Path:
    """Return a copy of a backup, to be spoilt."""
    folder.mkdir(exist_ok=True)
    return Path(shutil.copytree(backup, folder / backup.name))


def look(backup: Path, level: str = "decode", **options: Any) -> Verification:
    """Verify a backup with the newest client."""
    keys = Keys(options.pop("identity", None), options.pop("gpg_home", None))
    given = options.pop("manifest", None) or read_manifest(backup)
    return verify(backup, given, level, options.pop("client", client()), keys=keys, **options)


def _compression(how: dict[str, Any]) -> dict[str, Any]:
    by_program = how.get("outside") or how.get("members")
    if by_program:
        return {"method": by_program, "level": None, "by": "program"}
    by_pg_dump = how.get("compress") == "gzip"
    return {"method": "gzip" if by_pg_dump else "none", "level": None, "by": "pg_dump" if by_pg_dump else None}


def _server_version(cluster: Cluster) -> str:
    with cluster.connect("postgres") as connection:
        return str(connection.execute("SHOW server_version").fetchall()[0][0]).split()[0]


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, env=environment)
