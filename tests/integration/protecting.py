"""A small system with backups and a drill, and hosts whose playbooks make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.ground.databases import Database
from tests.ground.runner import PlaybookResult
from tests.integration.backing import bin_dir

# What `backing.SMALL` holds. Events of last year go daily.
SYSTEM: dict[str, Any] = {
    "name": "shop",
    "schemas": ["shop", "public"],
    "retention": {
        schedule: [
            {"table": "shop.events", "column": "at", "older_than": "30 days", "where": [{"column": "what", "operator": "=", "value": name}]}
        ]
        for schedule, name in (("daily", "event 1"), ("weekly", "event 2"))
    },
    "backup": {
        "full": {"keep": "30 days", "generations": {"weekly": 4}},
        "orders": {"kind": "tables", "tables": ["shop.orders"], "format": "custom"},
        "snapshot": {"schedule": "weekly", "location": "external"},
        "asked": {"kind": "schema_only", "format": "plain", "schedule": "on_demand"},
        "wal": {"schedule": "continuous"},
    },
    "recovery": {"production": {"rto": "10 min", "rpo": "1 h", "drill": "weekly"}, "staging": {"rto": "1 s", "rpo": "1 s"}},
}


def host_of(database: Database, folder: Path | str = "", **variables: Any) -> dict[str, Any]:
    """Return the variables of a host whose backups stand in `folder`."""
    programs = {
        "backup_bin_dir": bin_dir(),
        "recovery_drill_server_bin_dir": str(database.cluster.installation.bin_dir),
    }
    # Whatever is wrong with the made-up rows is no matter here.
    quiet = {"pgops_fail_on": "never", "health_checks": ["avail", "backup"]}
    known = {"pgops_system": SYSTEM, "pgops_connection": database.login(), "backup_min_free": "1 MB", **programs, **quiet}
    return {**known, **({"backup_folder": str(folder)} if folder else {}), **variables}


def printed(done: PlaybookResult, name: str, run: int = 0) -> list[str]:
    """Return the lines that a playbook of its own printed."""
    found = [task.result[name] for task in done.find(action="debug") if name in task.result]
    lines: list[str] = found[run]
    return lines


def made(folder: Path) -> list[str]:
    """Return the policies of the backups that stand in a folder."""
    return sorted(path.parent.name.split(".")[1] for path in folder.glob("*/manifest.json"))
