"""A server with filled databases for a Molecule scenario, held by a process of its own until it is told to stop.

usage: python -m tests.tools.throwaway start FOLDER SYSTEM... | stop FOLDER

`start` returns when FOLDER/ready.json holds, by system, how to connect, how many rows each table has left after `daily`, and where the
programs are.
The server ends at the latest after half an hour, or with the process whose id is in PGOPS_KEEPER.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROWS = 3000
LIFETIME_SECONDS = 1800.0
START_SECONDS = 120.0


def start(folder: Path, systems: Sequence[str]) -> int:
    """Start the holder and wait for its server; what it says on failure is passed on."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "holder.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.tools.throwaway", "hold", str(folder), *systems]
        holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    end = time.monotonic() + START_SECONDS
    while not (folder / "ready.json").exists():
        if holder.poll() is not None or time.monotonic() > end:
            holder.kill()
            print((folder / "holder.log").read_text(encoding="utf-8"), file=sys.stderr)
            return 1
        time.sleep(0.1)
    return 0


def hold(folder: Path, systems: Sequence[str]) -> None:
    """Run the server until FOLDER/stop appears, the keeper is gone, or time is up."""
    from tests.ground.runner import collections_path

    sys.path.insert(0, str(collections_path()))  # what fills the databases reads descriptions with the collection's own code
    from tests.ground import load, schema, servers
    from tests.ground import systems as descriptions
    from tests.ground.cluster import Cluster

    keeper = int(os.environ.get("PGOPS_KEEPER") or 0)
    with Cluster(servers.find(None)) as cluster:
        ready: dict[str, Any] = {}
        installation = cluster.installation
        programs = {"client": str(installation.program("pg_dump").parent), "server": str(installation.bin_dir)}
        for system in systems:
            description = descriptions.description_of(system)
            cluster.create_database(system)
            with cluster.connect(system) as connection:
                schema.create_system(connection, description)
                expected = load.fill(connection, description, ROWS)
            tables = {rule["name"]: rule["table"] for rule in description["retention"]["daily"]}
            left = dict(expected.rows)
            for rule, removed in expected.removed["daily"].items():
                left[tables[rule]] -= removed
            ready[system] = {"login": cluster.login(system), "rows_left": left, "programs": programs}
        draft = folder / "ready.new"
        draft.write_text(json.dumps(ready), encoding="utf-8")
        draft.replace(folder / "ready.json")
        end = time.monotonic() + LIFETIME_SECONDS
        while folder.is_dir() and not (folder / "stop").exists() and time.monotonic() < end and (not keeper or _alive(keeper)):
            time.sleep(0.2)
    (folder / "ready.json").unlink(missing_ok=True)


def _alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def stop(folder: Path) -> int:
    """Tell the holder to stop, wait for it, and remove the folder."""
    (folder / "stop").touch()
    end = time.monotonic() + 30
    while (folder / "ready.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    stopped = not (folder / "ready.json").exists()
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if stopped else 1


def main(arguments: Sequence[str]) -> int:
    """Do what the first word says."""
    if len(arguments) < 2 or arguments[0] not in ("start", "hold", "stop"):
        print(__doc__, file=sys.stderr)
        return 2
    word, folder = arguments[0], Path(arguments[1])
    if word == "hold":
        hold(folder, arguments[2:])
        return 0
    return start(folder, arguments[2:]) if word == "start" else stop(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
