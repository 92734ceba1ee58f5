"""A faithful copy compares equal: no false alarm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import hard_content as hard

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[Database]:
    with Database.create(cluster, "content_source") as made:
        hard.fill(made)
        yield made


@pytest.fixture(scope="module")
def archive(source: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hard.dump(source, tmp_path_factory.mktemp("content") / "hard.dump")


@pytest.fixture(scope="module")
def copy(source: Database, archive: Path) -> Iterator[Database]:
    with hard.restore(archive, source.cluster, "content_copy") as made:
        yield made


def test_a_restored_database_with_hard_content_is_the_same(source: Database, copy: Database) -> None:
    expected = hard.measured(source)
    assert [one.message for one in hard.differences(expected, copy)] == []
    kept = Measured.from_manifest(json.loads(json.dumps(expected.as_manifest())), json.loads(json.dumps(expected.objects)))
    assert kept == expected
