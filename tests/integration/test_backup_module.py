"""pg_backup through Ansible: what it returns, what it hides, and that its documentation says what it does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.modules import pg_backup
from tests.ground.cluster import PASSWORD, PASSWORD_ROLE, Cluster
from tests.ground.databases import Database
from tests.integration import backing

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_module") as database:
        yield database


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Return the options of a backup with the newest client."""
    return {"folder": str(folder), "bin_dir": backing.bin_dir(), "min_free": "1 MB", **more}


def documented(entry: dict[str, Any]) -> set[str]:
    """Return the keys that a part of RETURN documents."""
    return set(entry["contains"])


def test_it_makes_one_and_then_finds_it(tim: Database, run_module: RunModule, tmp_path: Path) -> None:
    given = options(tmp_path / "backups", keep={"count": 1}, copies=[])
    foreseen = run_module("pg_backup", given, connection=tim.login(), check=True)
    assert (foreseen["failed"], foreseen["changed"], foreseen["backups"][0]["action"]) == (False, True, "made")
    assert not (tmp_path / "backups").exists()
    first = run_module("pg_backup", given, connection=tim.login())
    assert (first["failed"], first["changed"], first["backups"][0]["rows"]) == (False, True, 2700)
    second = run_module("pg_backup", given, connection=tim.login())
    assert (second["failed"], second["changed"], second["backups"][0]["action"]) == (False, False, "present")
    described = yaml.safe_load(pg_backup.RETURN)
    assert set(first["backups"][0]) == documented(described["backups"])
    assert {"backups", "purged", "kept", "notices"} <= set(first)
    # A password that happens to be part of a path is starred in the one and not in the other.
    notices, warnings = ([text.replace(PASSWORD, "********") for text in first[key]] for key in ("notices", "warnings"))
    assert notices == warnings
    seconds = described["backups"]["contains"]["seconds"]["description"][0]
    assert [phase for phase in first["backups"][0]["seconds"] if f"C({phase})" not in seconds] == []


@pytest.mark.any_driver
def test_a_failure_says_what_and_keeps_the_rest_of_the_result(tim: Database, run_module: RunModule, tmp_path: Path) -> None:
    failed = run_module("pg_backup", options(tmp_path, kind="schemas", schemas="nothing"), connection=tim.login())
    assert failed["failed"]
    assert "schema 'nothing' does not exist" in failed["msg"]
    assert failed["error"]["type"] == "Unfinished"
    assert failed["backups"][0]["action"] == "failed"
    assert failed["purged"] == []
    wrong = run_module("pg_backup", options(tmp_path, max_runtime="never"), connection=tim.login())
    assert wrong["error"] == {"type": "InvalidValue", "object": "max_runtime", "sqlstate": None, "hint": None}


@pytest.mark.any_driver
def test_programs_with_a_known_hole_are_named(tim: Database, run_module: RunModule, tmp_path: Path) -> None:
    own = backing.recording_bin_dir(tmp_path)
    script = f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 18.4" && exit\nexec {backing.bin_dir()}/pg_dump "$@"\n'
    (own / "pg_dump").write_text(script, encoding="utf-8")
    foreseen = run_module("pg_backup", options(tmp_path / "backups", bin_dir=str(own)), connection=tim.login(), check=True)
    told = [notice for notice in foreseen["notices"] if "is open to CVE-2026-18408" in notice]
    assert len(told) == 1
    assert "use 18.6 or newer" in told[0]


@pytest.mark.any_driver
def test_no_password_is_shown_or_written(tim: Database, run_module: RunModule, tmp_path: Path) -> None:
    secret = "a-password-of-nobody-else"
    tim.query(f"CREATE ROLE {PASSWORD_ROLE}")
    try:
        tim.query(f"CREATE ROLE backup_secret LOGIN SUPERUSER PASSWORD '{secret}' IN ROLE {PASSWORD_ROLE}")
        connection = {**tim.login(), "login_user": "backup_secret", "login_password": secret}
        seen = tmp_path / "seen"
        seen.mkdir()
        programs = backing.recording_bin_dir(tmp_path, every=backing.noting(seen))
        done = run_module("pg_backup", options(tmp_path / "backups", bin_dir=str(programs)), connection=connection)
        assert not done["failed"], done
        failed = run_module("pg_backup", options(tmp_path / "backups", kind="schemas", schemas=["x"]), connection=connection)
        assert failed["failed"]
    finally:
        tim.query(f"DROP ROLE IF EXISTS backup_secret, {PASSWORD_ROLE}")
    assert secret not in json.dumps([done, failed])
    noted = [(path.name.partition(".")[0], path.read_text(encoding="utf-8")) for path in seen.iterdir()]
    assert {name for name, _text in noted} == {"pg_dump", "pg_dumpall", "pg_restore"}
    assert {name for name, text in noted if "backup_secret" in text and "PATH=" in text} == {"pg_dump", "pg_dumpall"}
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert secret.encode() not in path.read_bytes(), path
    assert PASSWORD not in json.dumps(done["backups"])
