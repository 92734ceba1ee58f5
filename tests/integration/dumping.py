"""Backups made by hand, with pg_dump itself, for what restores parts of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import measure_rows
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import Archive
from tests.ground.databases import Database
from tests.integration.handmade import client

SUFFIXES = {"": [], ".zst": ["zstd", "-q", "-c"], ".lz4": ["lz4", "-q", "-c", "-"], ".gz": ["gzip", "-c"]}


def dump(database: Database, folder: Path, form: str = "directory", outside: str = "", *arguments: str) -> dict[str, Any]:
    """Dump `database` into `folder`, in the format `form` and with a program around it, and return the manifest without contents."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"directory": "database", "custom": "database.dump", "plain": "database.sql"}
    place = folder / names[form]
    level = ["--compress=0"] if outside or form == "plain" else []
    command = [
        client().program("pg_dump"),
        f"--format={form}",
        *level,
        *arguments,
        "-f",
        str(place),
        "-d",
        database.cluster.conninfo(database.name),
    ]
    subprocess.run(command, check=True, capture_output=True)
    if outside:
        for member in [place] if place.is_file() else [path for path in place.iterdir() if path.name != "toc.dat"]:
            data = subprocess.run(SUFFIXES[outside], input=member.read_bytes(), check=True, capture_output=True).stdout
            member.with_name(member.name + outside).write_bytes(data)
            member.unlink()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "id": folder.name,
        "database": database.name,
        "dump": {"format": form, "compression": {"method": "gzip", "level": None, "by": "program" if outside else "pg_dump"}},
        "files": [{"path": str(path.relative_to(folder))} for path in files],
    }


def archive(folder: Path, manifest: dict[str, Any]) -> Archive:
    """Return the part of a backup that holds the database."""
    return Archive.of(folder, manifest, client())


def backup(database: Database, folder: Path, form: str = "directory", outside: str = "", *arguments: str) -> dict[str, Any]:
    """Dump `database` into `folder` and return the manifest with what the tables hold, which nobody writes to meanwhile."""
    manifest = dump(database, folder, form, outside, *arguments)
    with connect(ConnectionOptions.from_params(database.login(tcp=False)), application_name="backup", read_only=True) as session:
        return {**manifest, **measure_rows(session, Scope()).as_manifest()}
