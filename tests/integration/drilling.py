"""Drills in this process, and backups whose dump is not what their manifest says."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._drill.engine import DrillFailed, drill
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import read_options
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, handmade, restoring


def options(folder: Path, **given: Any) -> dict[str, Any]:
    """Return the options of a drill of the newest backup in `folder`, in a database unless something else is said."""
    return {"folder": str(folder), "bin_dir": backing.bin_dir(), "in": "database", "checks": [], "jobs": 2, **given}


def in_cluster(installation: servers.Installation, place: Path, **given: Any) -> dict[str, Any]:
    """Return the options of a drill in a scratch server below `place`."""
    return {"in": "cluster", "server_bin_dir": str(installation.bin_dir), "scratch_folder": str(place), **given}


def rehearse(cluster: Cluster | None, folder: Path, *, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Drill and return the result, also where the drill does not pass; without `cluster` there is no server to connect to."""
    login = ConnectionOptions(login_host="/nonexistent") if cluster is None else ConnectionOptions.from_params(cluster.login())
    wanted = read_options(options(folder, **given), "test_drill")
    try:
        return drill(login, wanted, check_mode=check_mode)
    except DrillFailed as failure:
        return failure.as_result()


def phases(result: dict[str, Any]) -> list[str]:
    """Return the names of the phases of a drill."""
    return [phase["name"] for phase in result["phases"]]


def hidden_databases(cluster: Cluster) -> list[str]:
    """Return the databases that a restore has left."""
    return sorted(restoring.hidden(cluster))


def with_the_manifest_of(other: Path, backup: Path) -> None:
    """Let the backup in the folder `backup` say that it holds what `other` held, with a seal that fits."""
    document, theirs = backing.manifest(backup), backing.manifest(other)
    for key in ("tables", "sequences", "large_objects"):
        document[key] = theirs[key]
    shutil.copyfile(other / "objects.json", backup / "objects.json")
    data = (backup / "objects.json").read_bytes()
    for file in document["files"]:
        if file["path"] == "objects.json":
            file.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    sums = "".join(f"{file['sha256']}  {file['path']}\n" for file in document["files"])
    (backup / "SHA256SUMS").write_text(sums, encoding="ascii")
    with_a_manifest(backup, **document)


def with_a_manifest(backup: Path, **parts: Any) -> None:
    """Put other `parts` into the manifest of the backup in the folder `backup`, with a seal that fits."""
    handmade.rewritten(backup, lambda document: document.update(parts))


def fresh_backup(database: Database, folder: Path, **given: Any) -> Path:
    """Make another backup, however young the last one is."""
    return backing.made(database, folder, fresh_for="0 s", **given)
