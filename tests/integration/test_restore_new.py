"""A backup becomes a new database: from every format, whole or not at all, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, ProgramMissing, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._restore import engine, unpack
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import read_options
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring

ROWS = "SELECT count(*), sum(total) FROM shop.orders"
FORMS = {
    "directory, by pg_dump": {"compression": "gzip"},
    "directory, zstd": {"compression": "zstd"},
    "directory, lz4": {"compression": "lz4"},
    "custom, inside": {"format": "custom", "compression": "gzip"},
    "custom, zstd around": {"format": "custom", "compression": "zstd"},
    "plain, raw": {"format": "plain", "compression": "none"},
    "plain, zstd": {"format": "plain", "compression": "zstd"},
}


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """The small database."""
    with backing.filled(cluster, "restored_shop") as made:
        yield made


@pytest.fixture(scope="module")
def backup(shop: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it, in a folder of its own."""
    return backing.made(shop, tmp_path_factory.mktemp("backups"))


@pytest.fixture
def target(shop: Database) -> Iterator[Database]:
    """A name that no database has; one that has got it is dropped after the test, and nothing hidden is left."""
    with restoring.unused(shop.cluster) as name:
        yield name


@pytest.mark.parametrize(("form", "jobs"), [*((form, 3) for form in FORMS), ("directory, zstd", 1), ("custom, zstd around", 1)])
def test_from_every_format(shop: Database, target: Database, tmp_path: Path, form: str, jobs: int) -> None:
    path = backing.made(shop, tmp_path, **FORMS[form])
    result = restoring.restore(shop, path=str(path), target=target.name, jobs=jobs)
    assert (result["changed"], result["action"], result["rows"]) == (True, "restored", sum(backing.ROWS.values()))
    assert target.query(ROWS) == shop.query(ROWS)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(unpack.PREFIX)]
    assert set(result["seconds"]) >= {"fetch", "create", "pre_data", "data", "post_data", "settings", "analyze", "compare", "total"}


@pytest.mark.parametrize("jobs", [1, 3])
def test_statistics_are_gathered_of_every_table_and_of_partitioned_ones_as_a_whole(
    cluster: Cluster, target: Database, tmp_path: Path, jobs: int
) -> None:
    with cluster.connect() as connection:
        connection.execute("CREATE DATABASE restored_parts TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'")
    with Database(cluster, "restored_parts") as source:
        with source.connect() as connection:
            connection.execute('CREATE TABLE "Töken store" AS SELECT generate_series(1, 100) AS id')
            connection.execute("CREATE MATERIALIZED VIEW seen AS SELECT generate_series(1, 100) AS id")
            connection.execute('CREATE TABLE "Whole" (id int, at int) PARTITION BY RANGE (at)')
            connection.execute('CREATE TABLE half PARTITION OF "Whole" FOR VALUES FROM (0) TO (50) PARTITION BY RANGE (at)')
            connection.execute("CREATE TABLE quarter PARTITION OF half FOR VALUES FROM (0) TO (50)")
            connection.execute('CREATE TABLE rest PARTITION OF "Whole" FOR VALUES FROM (50) TO (1000)')
            connection.execute('INSERT INTO "Whole" SELECT n, n FROM generate_series(0, 99) n')
        path = backing.made(source, tmp_path)
    restoring.restore(Database(cluster, "postgres"), path=str(path), target=target.name, jobs=jobs)
    known = target.query("SELECT DISTINCT tablename::text, inherited FROM pg_stats WHERE schemaname = 'public' ORDER BY 1, 2")
    assert sorted(known) == [
        ("Töken store", False),
        ("Whole", True),
        ("half", True),
        ("quarter", False),
        ("rest", False),
        ("seen", False),
    ]
    assert target.query("SELECT count(*) > 50 FROM pg_stats WHERE schemaname = 'pg_catalog'") == [(True,)]


@pytest.mark.any_driver
@pytest.mark.usefixtures("_one_driver")
def test_check_mode_then_for_real_then_again(shop: Database, backup: Path, target: Database) -> None:
    before = restoring.databases(shop.cluster)
    planned = restoring.restore(shop, backup.parent, target=target.name, check_mode=True)
    assert restoring.databases(shop.cluster) == before
    result = restoring.restore(shop, backup.parent, target=target.name)
    again = restoring.restore(shop, backup.parent, target=target.name)
    looked = restoring.restore(shop, backup.parent, target=target.name, check_mode=True)
    assert [one["changed"] for one in (planned, result, again, looked)] == [True, True, False, False]
    assert [one["action"] for one in (planned, result, again, looked)] == ["restored", "restored", "present", "present"]
    for key in ("rows", "tables", "target", "backup", "left_out"):
        assert planned[key] == result[key] == again[key]


def test_by_default_it_gets_the_name_that_it_had(shop: Database, tmp_path: Path) -> None:
    with Database.create(shop.cluster, "restored_lost") as lost:
        lost.query("CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n")
        backing.made(lost, tmp_path)
        lost.drop()
        # The login names the lost database, as every task of the host does.
        result = restoring.restore(backing.login(lost), tmp_path)
        assert (result["target"], lost.query("SELECT count(*) FROM t")) == ("restored_lost", [(10,)])


def test_a_part_of_a_database(shop: Database, target: Database, tmp_path: Path) -> None:
    for name, options in {
        "tables": {"kind": "tables", "tables": ["shop.events", "shop.customers"]},
        "schemas": {"kind": "schemas", "schemas": ["shop", "public"]},
        "schema_only": {"kind": "schema_only"},
    }.items():
        backing.made(shop, tmp_path, name=name, **options)
        result = restoring.restore(shop, tmp_path, name=name, target=target.name)
        found = target.query("SELECT count(*) FROM shop.events")[0][0]
        assert (result["action"], found) == ("restored", 0 if name == "schema_only" else 1500), name
        shop.cluster.drop_database(target.name)
    backing.made(shop, tmp_path, name="rows", kind="data_only")
    with pytest.raises(Refused, match="rows without their tables"):
        restoring.restore(shop, tmp_path, name="rows", target=target.name)


def test_what_template0_has_and_the_database_had_not(shop: Database, target: Database, tmp_path: Path) -> None:
    with Database.create(shop.cluster, "restored_bare") as bare:
        bare.query("DROP SCHEMA public; DROP EXTENSION plpgsql")
        backing.made(bare, tmp_path)
        restoring.restore(shop, tmp_path, target=target.name)
        assert target.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'") == [(0,)]
        assert target.query("SELECT count(*) FROM pg_extension") == [(0,)]


def test_a_decoder_that_is_missing_is_named_before_the_start(
    shop: Database, target: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = backing.made(shop, tmp_path, format="custom", compression="zstd")
    programs = backing.bin_dir()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramMissing, match="zstd"):
        engine.restore(backing.login(shop), read_options({"path": str(path), "target": target.name, "bin_dir": programs}), check_mode=False)


def test_no_room_to_unpack(shop: Database, target: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = backing.made(shop, tmp_path, compression="zstd")
    monkeypatch.setattr(unpack, "_RESERVE", 1 << 60)
    with pytest.raises(Refused, match="unpacking the backup takes about"):
        restoring.restore(shop, path=str(path), target=target.name)
    assert restoring.databases(shop.cluster) & {target.name} == set()


def test_what_a_dead_run_unpacked_is_removed(shop: Database, backup: Path, target: Database, tmp_path: Path) -> None:
    left = tmp_path / f"{unpack.PREFIX}dead"
    left.mkdir()
    (left / "1.dat").write_text("rows of somebody", encoding="utf-8")
    with unpack.scratch_folder(tmp_path, backup) as alive:
        assert not left.exists()
        with unpack.scratch_folder(tmp_path, backup):
            assert alive.exists()
        assert (alive.stat().st_mode & 0o777) == 0o700
    assert os.listdir(tmp_path) == []


def test_which_backup_is_meant(shop: Database, backup: Path, target: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    shutil.copytree(backup.parent, folder)
    with Database.create(shop.cluster, "restored_other") as other:
        backing.made(other, folder)
    with pytest.raises(InvalidValue, match=r"source_database: .* restored_other, restored_shop"):
        restoring.restore(shop, folder, target=target.name)
    with pytest.raises(MissingObject, match="no verified backup of database nobody"):
        restoring.restore(shop, folder, source_database="nobody", target=target.name)
    with pytest.raises(MissingObject, match="holds no nothing"):
        restoring.restore(shop, folder, backup="nothing", target=target.name)
    result = restoring.restore(shop, folder, source_database="restored_shop", target=target.name, check_mode=True)
    assert result["backup"]["id"] == backup.name
    result = restoring.restore(shop, folder, backup=backup.name, target=target.name, check_mode=True)
    assert result["backup"]["path"] == str(folder / backup.name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "folder: name the folder"),
        ({"folder": "/a", "path": "/a/b"}, "one of the two"),
        ({"folder": "a"}, "no absolute path"),
        ({"folder": "/a", "backup": "../x"}, "is not the id of a backup"),
        ({"path": "/a", "source_database": "x"}, "source_database: it chooses among"),
        ({"folder": "/a", "replace": "x"}, "replaces nothing"),
        ({"folder": "/a", "tables": ["t"]}, "tables: it means nothing with mode=new"),
        ({"folder": "/a", "mode": "tables"}, "tables: is missing"),
        ({"folder": "/a", "mode": "schema"}, "schema: is missing"),
        ({"folder": "/a", "disconnect": True}, "disconnect: it means nothing"),
        ({"folder": "/a", "mode": "everything"}, "is not one of new, swap, tables, schema"),
        ({"folder": "/a", "jobs": 0}, "jobs: 0 is not a number"),
        ({"folder": "/a", "max_runtime": "0 s"}, "max_runtime: 0 leaves no time"),
        ({"folder": "/a", "max_runtime": "soon"}, "max_runtime: 'soon'"),
        ({"folder": "/a", "target": "x" * 64}, "at most 63 bytes"),
    ],
)
def test_wrong_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        read_options(options)
