"""Recovery drills on real servers: what passes, what fails and why, and what is left behind."""

from __future__ import annotations

import json
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground import servers
from tests.ground.account import server_account
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.drilling import (
    fresh_backup,
    hidden_databases,
    in_cluster,
    phases,
    rehearse,
    with_a_manifest,
    with_the_manifest_of,
)
from tests.integration.handmade import flip
from tests.integration.hiding import keys_of

pytestmark = pytest.mark.any_driver

ROLES = ("drill_owner", "drill_reader")
MORE = """
GRANT SELECT, UPDATE (note) ON shop.orders TO drill_reader;
GRANT USAGE ON SCHEMA shop TO drill_owner;
ALTER TABLE shop.customers OWNER TO drill_owner;
ALTER DATABASE {name} SET work_mem TO '7MB';
ALTER ROLE drill_reader IN DATABASE {name} SET statement_timeout TO '3s';
"""


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[Database]:
    """The small database with roles of its own, which nobody changes."""
    with Database.create(cluster, "drill_source") as made:
        with made.connect() as connection:
            for role in ROLES:
                connection.execute(f"CREATE ROLE {role}")
        backing.fill(made)
        with made.connect() as connection:
            connection.execute(MORE.format(name=made.name))
        yield made
        made.drop()
        with cluster.connect() as connection:
            for role in ROLES:
                connection.execute(f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def backups(source: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one backup of it, which nobody changes."""
    folder = tmp_path_factory.mktemp("backups")
    backing.made(source, folder)
    return folder


@pytest.fixture
def copy(cluster: Cluster, source: Database) -> Iterator[Database]:
    """A copy of the small database that may be changed."""
    cluster.create_database("drill_copy", source.name)
    with Database(cluster, "drill_copy") as made:
        yield made


def test_a_backup_comes_back_whole_in_a_scratch_server(
    backups: Path, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    wanted = in_cluster(installation, place, evidence=str(tmp_path / "evidence"), rto="1 h", rpo="1 h", checks=["index", "schema"])
    result = rehearse(None, backups, **wanted)
    assert result["passed"], result["reasons"]
    assert (result["tables"], result["rows"], result["differences_total"]) == (len(backing.ROWS), sum(backing.ROWS.values()), 0)
    assert phases(result)[:3] == ["fetch", "start", "globals"]
    assert set(phases(result)) >= {"create", "pre_data", "data", "post_data", "settings", "analyze", "compare", "checks", "cleanup"}
    spent = {phase["name"]: phase for phase in result["phases"]}
    # Three numbers in milliseconds, of which the first two may each be rounded up by half of one, and the third down.
    assert spent["analyze"]["began"] + spent["analyze"]["seconds"] <= result["rto"]["seconds"] + 0.0015
    assert result["rto"]["seconds"] <= spent["checks"]["began"]
    assert [result["rto"]["met"], result["rpo"]["met"]] == [True, True]
    assert result["settings"]["fsync"] == "off"
    assert {check["id"]: check["status"] for check in result["checks"]}["index.invalid"] == "ok"
    assert list(place.iterdir()) == []
    evidence = Path(result["evidence"])
    assert (stat.S_IMODE(evidence.stat().st_mode), stat.S_IMODE(evidence.parent.stat().st_mode)) == (0o600, 0o700)
    told = json.loads(evidence.read_text(encoding="utf-8"))
    assert told["passed"] is True
    assert told["backup"]["id"] == result["backup"]["id"]
    assert told["who"]["host"]
    assert backing.verifications(Path(result["backup"]["path"]))[-1] == ("restore", True)


def test_check_mode_says_what_would_be_restored_and_makes_nothing(
    backups: Path, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    wanted = in_cluster(installation, place, evidence=str(tmp_path / "evidence"), rpo="1 h")
    result = rehearse(None, backups, check_mode=True, **wanted)
    assert (result["passed"], result["rto"]["met"], result["rpo"]["met"]) == (None, None, True)
    assert result["backup"]["database"] == "drill_source"
    assert result["room"]["enough"] is True
    assert result["room"]["needed_bytes"] > result["backup"]["bytes"]
    assert list(place.iterdir()) == []
    assert not (tmp_path / "evidence").exists()


def test_it_restores_into_a_database_of_the_server_and_drops_it(cluster: Cluster, backups: Path, tmp_path: Path) -> None:
    result = rehearse(cluster, backups, evidence=str(tmp_path), checks=["index.invalid"])
    assert result["passed"], result["reasons"]
    assert (result["in"], result["settings"], result["tables"]) == ("database", {}, len(backing.ROWS))
    assert hidden_databases(cluster) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM shop.orders WHERE id = 500", "shop.orders: 1 row missing (999 instead of 1000)"),
        ("UPDATE shop.orders SET total = total + 0.01 WHERE id = 500", "shop.orders: 1000 rows as expected, but what is in them differs"),
        ("DROP INDEX shop.orders_by_customer", "shop.orders: index orders_by_customer is missing"),
        ("DROP TRIGGER touched ON shop.orders", "shop.orders: trigger touched is missing"),
        ("REVOKE SELECT ON shop.orders FROM drill_reader", "shop.orders: grant SELECT to drill_reader is missing"),
        ("ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_fkey", "shop.orders: constraint orders_customer_fkey is missing"),
        ("DROP POLICY everyone ON shop.customers", "shop.customers: policy everyone is missing"),
        ("DROP TABLE public.empty", "public.empty: the table is missing"),
        ("SELECT setval('shop.orders_id_seq', 5)", "sequence shop.orders_id_seq is behind"),
    ],
)
def test_what_is_missing_fails_the_drill_and_is_named(
    cluster: Cluster, backups: Path, copy: Database, tmp_path: Path, change: str, message: str
) -> None:
    with copy.connect() as connection:
        connection.execute(change)
    backup = backing.made(copy, tmp_path)
    with_the_manifest_of(next(path for path in backups.iterdir() if path.name.startswith("drill_source")), backup)
    result = rehearse(cluster, tmp_path)
    assert result["passed"] is False
    assert [one["message"].startswith(message) for one in result["differences"]] == [True], result["differences"]
    assert result["differences_total"] == 1
    assert message in result["msg"]
    again = rehearse(cluster, tmp_path)
    assert "holds no verified backup" in again["msg"]
    assert again["backup"] is None
    assert hidden_databases(cluster) == []


def test_changed_files_fail_the_drill_before_anything_is_restored(
    copy: Database, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    backup = backing.made(copy, tmp_path, format="custom", compression="gzip")
    flip(backup / "database.dump")
    result = rehearse(None, tmp_path, **in_cluster(installation, place))
    assert result["passed"] is False
    assert "database.dump has another content" in result["msg"]
    assert phases(result) == ["fetch", "start"]
    assert result["rto"]["seconds"] is None
    assert json.loads(Path(result["evidence"]).read_text(encoding="utf-8"))["reasons"] == result["reasons"]
    assert list(place.iterdir()) == []
    named = rehearse(None, tmp_path, backup=backup.name, **in_cluster(installation, place))
    assert named["passed"] is False
    assert "was found broken before" in named["warnings"][0]


def test_a_missed_target_fails_the_drill_and_not_the_backup(cluster: Cluster, copy: Database, tmp_path: Path) -> None:
    backup = backing.made(copy, tmp_path)
    result = rehearse(cluster, tmp_path, rto="1 ms", rpo="1 ms")
    assert result["passed"] is False
    assert [reason.partition(" is ")[0] for reason in result["reasons"]] == [
        "the recovery time",
        "the age of the newest backup that could be used",
    ]
    assert [result["rto"]["met"], result["rpo"]["met"]] == [False, False]
    entry = json.loads((backup / "verified.json").read_text(encoding="utf-8"))["entries"][-1]
    assert (entry["how"], entry["ok"], entry["drill"]["passed"]) == ("restore", True, False)


def test_a_critical_check_fails_the_drill(cluster: Cluster, copy: Database, tmp_path: Path) -> None:
    with copy.connect() as connection:
        connection.execute("CREATE TABLE public.nearly (id smallserial)")
        connection.execute("SELECT setval('public.nearly_id_seq', 32760)")
    backing.made(copy, tmp_path)
    result = rehearse(cluster, tmp_path, checks=["seq.exhaustion", "integrity.amcheck"])
    assert result["passed"] is False
    assert result["reasons"][0].startswith("check seq.exhaustion: public.nearly_id_seq")
    assert result["differences_total"] == 0


def test_it_passes_ten_times_of_ten_while_others_write(
    cluster: Cluster, copy: Database, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    writers = [threading.Thread(target=_write, args=(copy, stop, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        found = []
        for number in range(10):
            fresh_backup(copy, tmp_path, name=f"backup-{number}")
            given = in_cluster(installation, place) if number % 5 == 0 else {}
            found.append(rehearse(cluster, tmp_path, name=f"backup-{number}", **given))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [result["reasons"] for result in found] == [[]] * 10
    rows = [result["rows"] for result in found]
    assert len(set(rows)) > 5, "nothing was written meanwhile"


def test_sequences_that_move_while_rows_are_hashed_are_not_behind(cluster: Cluster, copy: Database, tmp_path: Path) -> None:
    with copy.connect() as connection:
        connection.execute("CREATE TABLE public.long AS SELECT n AS id, repeat(md5(n::text), 20) AS said FROM generate_series(1, 200000) n")
    stop = threading.Event()
    counter = threading.Thread(target=_count, args=(copy, stop))
    counter.start()
    try:
        backing.made(copy, tmp_path)
    finally:
        stop.set()
        counter.join()
    assert rehearse(cluster, tmp_path)["reasons"] == []


def test_the_server_that_was_backed_up_is_not_needed(installation: servers.Installation, place: Path, tmp_path: Path) -> None:
    with Cluster(installation) as server:
        database = Database.create(server, "gone")
        with database.connect() as connection:
            connection.execute("CREATE ROLE \"odd 'name\" SUPERUSER PASSWORD 'secret; --'")
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 10) AS n")
            connection.execute('ALTER TABLE kept OWNER TO "odd \'name"')
            connection.execute("ALTER DATABASE gone SET default_transaction_read_only TO on")
            connection.execute("ALTER ROLE postgres SET default_transaction_read_only TO on")
        backing.made(database, tmp_path)
        server.stop()
        result = rehearse(None, tmp_path, **in_cluster(installation, place, checks=["schema"]))
    assert result["passed"], result["reasons"]
    assert result["rows"] == 10


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_every_format_comes_back(copy: Database, installation: servers.Installation, place: Path, tmp_path: Path, form: str) -> None:
    backing.made(copy, tmp_path, format=form)
    result = rehearse(None, tmp_path, **in_cluster(installation, place))
    assert result["passed"], result["reasons"]


@pytest.mark.parametrize(
    "scope",
    [
        {"kind": "schemas", "schemas": ["shop"]},
        {"kind": "schemas", "schemas": ["public"]},
        {"kind": "schemas", "schemas": ["public", "shop"]},
        {"kind": "tables", "tables": ["shop.events"]},
        {"kind": "schema_only"},
    ],
)
def test_a_part_of_a_database_comes_back_as_a_part(cluster: Cluster, copy: Database, tmp_path: Path, scope: dict[str, Any]) -> None:
    backing.made(copy, tmp_path, name="part", **scope)
    result = rehearse(cluster, tmp_path, name="part")
    assert result["passed"], result["reasons"]
    assert result["backup"]["kind"] == scope["kind"]


def test_a_part_that_cannot_stand_alone_fails_the_drill_and_is_not_broken(cluster: Cluster, copy: Database, tmp_path: Path) -> None:
    backup = backing.made(copy, tmp_path, name="part", kind="tables", tables=["shop.orders"])
    result = rehearse(cluster, tmp_path, name="part")
    # Of the several things that are missing the workers of pg_restore name one first: which, is a matter of time.
    assert re.search(r"(function|relation) \S+ does not exist", result["msg"]), result["msg"]
    assert phases(result)[-1] == "load"
    assert not (backup / "verified.json").exists()


def test_an_encrypted_backup_needs_its_key(copy: Database, installation: servers.Installation, place: Path, tmp_path: Path) -> None:
    with keys_of("age") as keys:
        backup = backing.made(copy, tmp_path / "backups", format="custom", encrypt=keys.encrypt)
        refused = rehearse(None, tmp_path / "backups", **in_cluster(installation, place))
        result = rehearse(None, tmp_path / "backups", **keys.reading, **in_cluster(installation, place))
    assert refused["msg"].startswith("the drill has not passed: identity: the file is encrypted with age")
    assert result["passed"], result["reasons"]
    assert backing.verifications(backup) == [("restore", True)]


def test_a_backup_without_roles_has_them_made_up(copy: Database, installation: servers.Installation, place: Path, tmp_path: Path) -> None:
    backing.made(copy, tmp_path, globals=False)
    result = rehearse(None, tmp_path, **in_cluster(installation, place))
    assert result["passed"], result["reasons"]
    assert "the backup holds no roles; those that it names were made up: drill_owner, drill_reader" in result["warnings"]


def test_a_setting_that_the_server_does_not_know_is_told(
    cluster: Cluster, copy: Database, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    backup = backing.made(copy, tmp_path)
    settings = backing.manifest(backup)["settings"]
    with_a_manifest(backup, settings={**settings, "config": [*(settings["config"] or ()), "setting_of_old=1"]})
    for given in ({}, in_cluster(installation, place)):
        result = rehearse(cluster, tmp_path, **given)
        assert result["passed"], result["reasons"]
        assert [one for one in result["warnings"] if "setting_of_old" in one] == [
            "this server does not know the setting setting_of_old, which the database had: it is left out"
        ]


def test_a_server_that_is_older_than_the_backup_is_refused(cluster: Cluster, copy: Database, tmp_path: Path) -> None:
    backup = backing.made(copy, tmp_path)
    with_a_manifest(backup, versions={**backing.manifest(backup)["versions"], "server_version_num": 990000})
    result = rehearse(cluster, tmp_path)
    assert "the backup is of a server of PostgreSQL 99, and this one is" in result["msg"]
    assert result["error"]["hint"] == "Drill on a newer server, or with in=cluster."
    assert result["differences_total"] is None
    assert hidden_databases(cluster) == []


def test_a_tablespace_of_the_source_is_left_alone(installation: servers.Installation, place: Path, tmp_path: Path) -> None:
    # A server of its own: a standby of the one that others use would make the same tablespace at the same place.
    with Cluster(installation) as server:
        folder = server.folder / "drill_space"
        folder.mkdir()
        server_account().own(folder)
        source = Database.create(server, "spaced")
        source.query(f"CREATE TABLESPACE drill_space LOCATION '{folder}'")
        source.query("CREATE TABLE public.elsewhere (id integer PRIMARY KEY USING INDEX TABLESPACE drill_space) TABLESPACE drill_space")
        backing.made(source, tmp_path)
        before = sorted(folder.rglob("*"))
        result = rehearse(None, tmp_path, **in_cluster(installation, place))
        assert sorted(folder.rglob("*")) == before
    assert result["passed"], result["reasons"]
    assert any("tablespaces" in warning for warning in result["warnings"])


def test_without_evidence_there_is_no_drill(backups: Path, installation: servers.Installation, place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(InvalidValue, match=r"evidence: .* cannot be written to"):
        rehearse(None, backups, **in_cluster(installation, place, evidence=str(tmp_path / "file" / "below")))
    assert list(place.iterdir()) == []


def test_max_runtime_ends_a_drill_and_says_nothing_of_the_backup(cluster: Cluster, copy: Database, tmp_path: Path) -> None:
    backup = backing.made(copy, tmp_path)
    result = rehearse(cluster, tmp_path, max_runtime="1 ms")
    assert result["passed"] is False
    assert "max_runtime (1 ms) is over" in result["msg"]
    assert not (backup / "verified.json").exists()
    assert hidden_databases(cluster) == []


def _write(database: Database, stop: threading.Event, number: int) -> None:
    """Insert, change and delete rows until told to stop."""
    with database.connect() as connection:
        turn = 0
        while not stop.is_set():
            turn += 1
            statements: list[tuple[Any, Any]] = [
                (
                    "INSERT INTO shop.orders (customer, at, total) SELECT %s, now(), n FROM generate_series(1, %s) n",
                    (1 + turn % 200, 1 + turn % 7),
                ),
                ("UPDATE shop.orders SET total = total + 1 WHERE id %% 20 = %s", (turn % 20,)),
                ("DELETE FROM shop.orders WHERE id IN (SELECT id FROM shop.orders WHERE id %% 2 = %s ORDER BY id LIMIT 3)", (number,)),
                ("UPDATE shop.customers SET name = name || '.' WHERE id = %s", (1 + turn % 200,)),
            ]
            for statement, parameters in statements:
                try:
                    connection.execute(statement, parameters)
                except psycopg.errors.DeadlockDetected:
                    continue


def _count(database: Database, stop: threading.Event) -> None:
    """Take numbers from a sequence until told to stop."""
    with database.connect() as connection:
        while not stop.is_set():
            connection.execute("SELECT nextval('shop.orders_id_seq') FROM generate_series(1, 100)")
