"""What is hard to restore comes back as it was, whatever the format, and what does not is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.settings import read_settings
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring

_numbers = itertools.count()


@pytest.fixture(scope="module")
def hard(cluster: Cluster) -> Iterator[Database]:
    """A database with everything that is hard, and the roles that it needs."""
    number = next(_numbers)
    with Database.create(cluster, f"hard_{number}") as made:
        restoring.fill_hard(made, number)
        yield made
        for name in restoring.databases(cluster) - {made.name}:
            if name.startswith("hard_again"):
                cluster.drop_database(name)
    restoring.drop_hard_roles(cluster, number)


def described(database: Database) -> dict[str, Any]:
    """Return all that the engine can measure of a database, and what the catalogue says of it as a whole."""
    with connect(backing.login(database), application_name="test", read_only=True) as session:
        found = measure(session, Scope())
        said = found.as_manifest()
        # Which other databases there are is no property of this one.
        said["coverage"]["left_out"] = [one for one in said["coverage"]["left_out"] if one["what"] != "database"]
        return {"settings": read_settings(session), "objects": found.objects, **said}


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_everything_comes_back(hard: Database, tmp_path: Path, form: str) -> None:
    backing.made(hard, tmp_path, format=form)
    result = restoring.restore(hard, tmp_path, target="hard_again")
    before = described(hard)
    with Database(hard.cluster, "hard_again") as again:
        assert described(again) == before
        assert result["rows"] == sum(table["rows"] for table in before["tables"])
        # Planner statistics are there, which no dump brings along.
        assert again.query("SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'hard'") == [(True,)]
    assert (result["changed"], result["action"]) == (True, "restored")
