"""What a drill makes of a backup: broken only where the backup is to blame, and proven only where it was compared."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._drill import rehearsal
from ansible_collections.pgops.runbook.plugins.module_utils._drill.verdict import blames_backup
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramFailed
from tests.ground import servers
from tests.ground.account import server_account
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing
from tests.integration.drilling import fresh_backup, in_cluster, rehearse
from tests.integration.handmade import rewritten
from tests.integration.hiding import keys_of

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """The small database, which nobody changes."""
    with backing.filled(cluster, "drill_verdict") as made:
        yield made


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_the_key_of_somebody_else_does_not_make_a_backup_broken(cluster: Cluster, shop: Database, tmp_path: Path, form: str) -> None:
    with keys_of("age") as keys, keys_of("age") as other:
        backup = backing.made(shop, tmp_path / "backups", format=form, encrypt=keys.encrypt)
        wrong = rehearse(cluster, tmp_path / "backups", **other.reading)
        assert "no identity matched" in wrong["msg"]
        assert backing.verifications(backup) == []
        right = rehearse(cluster, tmp_path / "backups", **keys.reading)
    assert right["passed"], right["reasons"]


def test_what_a_newer_server_has_no_more_does_not_make_a_backup_broken(
    cluster: Cluster, installation: servers.Installation, place: Path, tmp_path: Path
) -> None:
    if installation.major >= 17:
        pytest.skip("needs a server that is older than 17")
    with Database.create(cluster, "drill_older") as database:
        with database.connect() as connection:
            connection.execute("CREATE VIEW checkpoints AS SELECT checkpoints_timed FROM pg_stat_bgwriter")
        backup = backing.made(database, tmp_path)
        newer = rehearse(None, tmp_path, **in_cluster(servers.find(18), place))
        assert "checkpoints_timed does not exist" in newer["msg"]
        assert backing.verifications(backup) == []
        same = rehearse(cluster, tmp_path)
    assert same["passed"], same["reasons"]


@pytest.mark.parametrize(
    ("program", "said", "blamed"),
    [
        ("pg_restore", "ERROR:  function app.gone() does not exist", True),
        ("pg_restore", "could not read from input file: end of file", True),
        ("psql", 'ERROR:  invalid input syntax for type integer: "x"', True),
        ("age", "age: error: no identity matched any of the recipients", False),
        ("zstd", "decoding error", False),
        ("vacuumdb", "vacuumdb: error", False),
        ("pg_restore", "ERROR:  pg_cron can only be loaded via shared_preload_libraries", False),
        ("pg_restore", 'ERROR:  could not access file "$libdir/postgis-3": No such file or directory', False),
        ("pg_restore", "cannot restore from compressed archive (this build does not support compression with zstd)", False),
        ("pg_restore", "ERROR:  permission denied to create extension", False),
        ("psql", "ERROR:  must be superuser to create subscriptions", False),
        ("pg_restore", "ERROR:  canceling statement due to statement timeout", False),
        ("psql", "ERROR:  out of shared memory", False),
        ("pg_restore", 'ERROR:  could not extend file "base/1/2": No space left on device', False),
    ],
)
def test_only_what_a_dump_holds_makes_it_broken(program: str, said: str, blamed: bool) -> None:
    error = ProgramFailed("x", program=program, code=1, said=said)
    assert blames_backup(error, "full", same_major=True) is blamed
    assert not blames_backup(error, "full", same_major=False)


def test_a_backup_that_does_not_say_what_its_rows_were_proves_nothing(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    backup = backing.made(shop, tmp_path, contents=False)
    result = rehearse(cluster, tmp_path)
    assert result["passed"] is False
    assert result["reasons"] == ["the backup does not say which rows there were, so that nothing shows that they came back"]
    assert (result["tables"], result["rows"], result["differences_total"]) == (None, None, 0)
    assert backing.verifications(backup) == []


def test_definitions_alone_are_counted_as_no_tables(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    backup = backing.made(shop, tmp_path, name="shape", kind="schema_only")
    result: dict[str, Any] = rehearse(cluster, tmp_path, name="shape")
    assert result["passed"], result["reasons"]
    assert (result["tables"], result["rows"]) == (None, None)
    assert backing.verifications(backup) == [("restore", True)]


def test_a_snapshot_of_tomorrow_has_no_age_and_meets_no_target(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    backup = backing.made(shop, tmp_path)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    rewritten(backup, lambda document: document["snapshot"].update(at=tomorrow))
    result = rehearse(cluster, tmp_path, rpo="1 h")
    assert (result["rpo"]["seconds"], result["rpo"]["met"], result["passed"]) == (None, False, False)
    assert result["reasons"] == result["warnings"]
    assert "ahead of this host, so that one of the clocks is wrong" in result["reasons"][0]


def test_what_was_found_is_told_where_the_evidence_cannot_be_written(
    cluster: Cluster, shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(*_arguments: Any) -> None:
        raise full

    backup = backing.made(shop, tmp_path)
    monkeypatch.setattr("ansible_collections.pgops.runbook.plugins.module_utils._drill.evidence.write_document", fails)
    result = rehearse(cluster, tmp_path)
    assert (result["passed"], result["evidence"], result["tables"]) == (False, None, len(backing.ROWS))
    assert result["reasons"] == [f"evidence: {tmp_path / 'drills'} cannot be written to: No space left on device"]
    assert backing.verifications(backup) == [("restore", True)]


def test_a_folder_that_is_not_there_is_not_made(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"folder: .*mistyped is not there"):
        rehearse(cluster, tmp_path / "mistyped")
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_may_connect_to_the_database_of_a_drill(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    backing.made(shop, tmp_path)
    with cluster.connect() as connection:
        connection.execute("CREATE ROLE drill_guest LOGIN")
    seen: list[tuple[bool]] = []

    def look(*_arguments: Any) -> list[Any]:
        with cluster.connect() as connection:
            words = "SELECT has_database_privilege('drill_guest', oid, 'CONNECT') FROM pg_database WHERE datname ~ '^pgops_restore_'"
            seen.extend(connection.execute(words).fetchall())
        return []

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rehearsal, "run_checks", look)
            result = rehearse(cluster, tmp_path, checks=["index.invalid"])
    finally:
        with cluster.connect() as connection:
            connection.execute("DROP ROLE drill_guest")
    assert result["passed"], result["reasons"]
    assert seen == [(False,)]


def test_a_server_that_shares_the_account_is_said(cluster: Cluster, shop: Database, place: Path, tmp_path: Path) -> None:
    backing.made(shop, tmp_path)
    # An ordinary user's servers are all his own.
    shared = {"run_as": server_account().name} if os.geteuid() == 0 else {}
    result = rehearse(None, tmp_path, **in_cluster(cluster.installation, place, **shared))
    assert result["passed"], result["reasons"]
    assert any("runs another server on this host" in warning for warning in result["warnings"])


def test_backups_of_the_same_database_of_another_server_are_said(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    older = backing.made(shop, tmp_path)
    rewritten(older, lambda document: document.update(system_identifier="7000000000000000001"))
    newer = fresh_backup(shop, tmp_path)
    result = rehearse(cluster, tmp_path)
    assert result["passed"], result["reasons"]
    assert f"{tmp_path} holds backups of {shop.name} of several servers; the newest, {newer.name}, was taken" in result["warnings"]
