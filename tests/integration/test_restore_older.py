"""A backup of the newest server goes into an older one only where somebody says that this is meant, whatever of it is restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring

pytestmark = pytest.mark.any_driver
ORDERS = "SELECT count(*), sum(total), max(note::text) FROM shop.orders"


@pytest.fixture(scope="module")
def backups(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Backups of a newer server than `cluster`, by their format; the server is gone."""
    if cluster.installation.major >= backing.NEWEST:
        pytest.skip(f"needs a server that is older than {backing.NEWEST}")
    folder = tmp_path_factory.mktemp("backups")
    with Cluster(servers.find(backing.NEWEST), settings={"autovacuum": "off"}) as newer, backing.filled(newer, "older_source") as source:
        return {form: backing.made(source, folder, name=form, format=form) for form in ("directory", "plain")}


@pytest.fixture
def target(cluster: Cluster) -> Iterator[Database]:
    """A name that no database has; one that has got it is dropped after the test, and nothing hidden is left."""
    with restoring.unused(cluster) as name:
        yield name


def refused(cluster: Cluster, backup: Path, **options: Any) -> str:
    """Return what is said where nobody accepts an older server; check mode and the run say the same."""
    said = set()
    for check_mode in (True, False):
        with pytest.raises(Refused) as error:
            restoring.restore(Database(cluster, "postgres"), path=str(backup), check_mode=check_mode, **options)
        assert error.value.as_result()["error"]["object"] == "accept_older_server"
        said.add(error.value.message)
    assert len(said) == 1
    return said.pop()


@pytest.mark.parametrize("form", ["directory", "plain"])
def test_a_whole_database(cluster: Cluster, backups: dict[str, Path], target: Database, form: str) -> None:
    message = refused(cluster, backups[form], target=target.name)
    assert f"of a server of PostgreSQL {backing.NEWEST}, and this one is {cluster.installation.major}" in message
    assert target.name not in restoring.databases(cluster)
    login = Database(cluster, "postgres")
    done = restoring.restore(login, path=str(backups[form]), target=target.name, accept_older_server=True)
    assert (done["action"], done["rows"]) == ("restored", sum(backing.ROWS.values()))
    assert target.query("SELECT count(*) FROM shop.orders JOIN shop.customers c ON c.id = customer") == [(1000,)]


@pytest.mark.parametrize(
    ("options", "harm"),
    [
        ({"mode": "tables", "tables": ["shop.orders"]}, "UPDATE shop.orders SET total = 0"),
        ({"mode": "tables", "tables": ["shop.orders"], "how": "missing_rows"}, "DELETE FROM shop.orders WHERE id > 500"),
        ({"mode": "schema", "schema": "shop"}, "DROP SCHEMA shop CASCADE"),
    ],
    ids=["replace", "missing_rows", "schema"],
)
def test_a_part_of_a_live_database(
    cluster: Cluster, backups: dict[str, Path], target: Database, options: dict[str, Any], harm: str
) -> None:
    cluster.create_database(target.name)
    backing.fill(target)
    right = target.query(ORDERS)
    target.query(harm)
    tables = "SELECT relname, relnamespace::regnamespace::text FROM pg_class WHERE relkind = 'r' AND oid > 16384 ORDER BY 1, 2"
    before = target.query(tables)
    message = refused(cluster, backups["directory"], target=target.name, **options)
    assert f"of a server of PostgreSQL {backing.NEWEST}" in message
    assert target.query(tables) == before
    login = Database(cluster, "postgres")
    done = restoring.restore(login, path=str(backups["directory"]), target=target.name, accept_older_server=True, **options)
    assert done["changed"] is True
    assert target.query(ORDERS) == right
