"""A faithful copy compares equal: no false alarm."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import compare, not_compared
from ansible_collections.pgops.runbook.plugins.module_utils._content.large_objects import measure_large_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured, measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, Table, tables_in
from ansible_collections.pgops.runbook.plugins.module_utils._errors import MissingObject
from tests.ground import servers
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


def rows_in(archive: Path) -> set[str]:
    """Return the tables whose rows are in a dump, as `schema.table`; names over several lines are cut there."""
    listed = subprocess.run([str(servers.find(18).program("pg_restore")), "-l", str(archive)], capture_output=True, text=True, check=True)
    return set(re.findall(r"^\d+; \d+ \d+ TABLE DATA (.*) \S+$", listed.stdout, re.MULTILINE))


def listed(table: Table) -> str:
    # The list of an archive writes names without quotes, and a line's end as a space.
    return f"{table.schema} {table.relname}".replace("\n", " ")


@pytest.mark.parametrize(
    ("scope", "arguments"),
    [
        (Scope(), []),
        (Scope("schemas", schemas=("app",)), ["-n", "app"]),
        (Scope("data_only"), ["-a"]),
        (Scope("schema_only"), ["-s"]),
    ],
    ids=["full", "schema", "data", "definitions"],
)
def test_the_measured_tables_are_those_whose_rows_are_dumped(source: Database, scope: Scope, arguments: list[str], tmp_path: Path) -> None:
    archive = hard.dump(source, tmp_path / "part.dump", *arguments)
    with hard.session(source) as opened:
        tables = tables_in(opened, scope)
    assert {listed(table) for table in tables if table.measured} == rows_in(archive)


def test_named_tables_come_with_their_partitions(source: Database, cluster: Cluster, tmp_path: Path) -> None:
    scope = Scope("tables", tables=("app.events", "app.animal", 'app."empty"'))
    with hard.session(source) as opened:
        tables = tables_in(opened, scope)
    archive = hard.dump(source, tmp_path / "part.dump", *[part for table in tables for part in ("-t", table.name)])
    assert {listed(table) for table in tables if table.measured} == rows_in(archive)
    assert "app.duck" in {table.name for table in tables}
    # Of a part, only what belongs to the tables is expected of the copy.
    expected = hard.measured(source, scope)
    assert "functions" not in expected.objects
    assert "app.empty_id_seq" in expected.objects["sequences"]


def test_named_tables_must_exist_where_they_are_taken_from(source: Database) -> None:
    scope = Scope("tables", tables=("app.nowhere",))
    with hard.session(source) as opened:
        with pytest.raises(MissingObject, match=r"app\.nowhere"):
            tables_in(opened, scope)
        assert tables_in(opened, scope.restored()) == []


def test_an_empty_database_equals_an_empty_one(database: Database, tmp_path: Path) -> None:
    expected = hard.measured(database)
    with hard.restore(hard.dump(database, tmp_path / "empty.dump"), database.cluster, f"{database.name}_copy") as after:
        assert hard.differences(expected, after) == []


def test_what_a_role_cannot_read_is_said(source: Database, copy: Database) -> None:
    expected = hard.measured(source)
    with hard.session(copy, login_user="content_reader") as opened:
        found = measure(opened, expected.scope.restored())
    assert found.unread["app.types"] == "the role may not SELECT it"
    assert found.large_objects is not None
    assert (found.large_objects.hash, found.large_objects.hidden) == (None, 2)
    told = {(one["what"], one["object"]) for one in not_compared(expected, found)}
    assert {("rows", "app.types"), ("rows", "app.tokens"), ("sequence state", "app.counter"), ("content of large objects", "")} <= told
    # Nothing is taken for missing because it could not be read.
    assert compare(expected, found) == []


def test_large_objects_have_the_same_hash_whether_pages_may_be_read_or_not(source: Database) -> None:
    expected = hard.measured(source).large_objects
    with source.connect() as connection:
        connection.execute("GRANT SELECT ON LARGE OBJECT 5001, 5002, 5003 TO content_owner")
    try:
        with hard.session(source, login_user="content_owner") as opened:
            assert measure_large_objects(opened, Scope()) == expected
    finally:
        with source.connect() as connection:
            connection.execute("REVOKE SELECT ON LARGE OBJECT 5001, 5002, 5003 FROM content_owner")


def test_a_newer_major_holds_the_same(source: Database, archive: Path, installation: servers.Installation) -> None:
    newest = servers.with_features(18)
    if installation.major == newest.major:
        pytest.skip("the newest major is the one under test")
    with Cluster(newest) as other, other.connect() as connection:
        connection.execute(hard.ROLES)
        with hard.restore(archive, other, "content_newer") as after:
            expected, found = hard.measured(source), hard.measured(after)
    assert [one.message for one in compare(expected, found, same_major=False)] == []
    assert any(one["what"] == "definitions" for one in not_compared(expected, found, same_major=False))
