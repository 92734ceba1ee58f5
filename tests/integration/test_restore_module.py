"""pg_restore as an operator runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring

pytestmark = pytest.mark.any_driver  # what is special about each, test_connection_copy.py has

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """The small database."""
    with backing.filled(cluster, "module_shop") as made:
        yield made


@pytest.fixture(scope="module")
def backup(shop: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it."""
    return backing.made(shop, tmp_path_factory.mktemp("backups"))


@pytest.fixture
def target(shop: Database) -> Iterator[Database]:
    """What is restored, and what it becomes."""
    with restoring.passing(shop.cluster):
        yield Database(shop.cluster, "module_restored")


def test_new_then_again_then_in_its_place(run_module: Run, shop: Database, backup: Path, target: Database) -> None:
    arguments = {"folder": str(backup.parent), "target": target.name, "bin_dir": backing.bin_dir()}
    planned = run_module("pg_restore", arguments, connection=shop.login(), check=True)
    assert restoring.databases(shop.cluster) & {target.name} == set()
    result = run_module("pg_restore", arguments, connection=shop.login())
    again = run_module("pg_restore", arguments, connection=target.login())
    assert [one["failed"] for one in (planned, result, again)] == [False] * 3
    assert [one["changed"] for one in (planned, result, again)] == [True, True, False]
    assert (planned["rows"], planned["tables"]) == (result["rows"], result["tables"]) == (sum(backing.ROWS.values()), len(backing.ROWS))
    assert result["notices"] == []

    target.query("DELETE FROM shop.orders WHERE id > 500")
    swap = {**arguments, "mode": "swap"}
    refused = run_module("pg_restore", swap, connection=target.login())
    assert (refused["failed"], refused["error"]["type"], refused["error"]["object"]) == (True, "Refused", "replace")
    swapped = run_module("pg_restore", {**swap, "replace": target.name}, connection=target.login())
    assert (swapped["failed"], swapped["changed"], swapped["action"]) == (False, True, "swapped")
    assert target.query("SELECT count(*) FROM shop.orders") == [(1000,)]
    assert Database(shop.cluster, swapped["kept"]).query("SELECT count(*) FROM shop.orders") == [(500,)]


@pytest.mark.any_driver
def test_what_is_wrong_is_said(run_module: Run, shop: Database, backup: Path) -> None:
    both = run_module("pg_restore", {"folder": "/a", "path": "/b"}, connection=shop.login())
    assert (both["failed"], both["error"]["type"], both["error"]["object"]) == (True, "InvalidValue", "folder")
    nothing = run_module("pg_restore", {"folder": str(backup.parent), "source_database": "nobody"}, connection=shop.login())
    assert (nothing["failed"], nothing["error"]["type"]) == (True, "MissingObject")
    there = run_module(
        "pg_restore", {"folder": str(backup.parent), "target": "postgres", "bin_dir": backing.bin_dir()}, connection=shop.login()
    )
    assert (there["failed"], there["error"]["type"]) == (True, "Refused")
    assert there["msg"].startswith("database postgres exists and holds something else than the backup")
