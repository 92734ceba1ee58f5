"""Whose backups count as whose: nobody else's folder goes, no other database's backup stands for this one, and nothing goes too early."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import catalogue, manifest
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.servers import Installation
from tests.integration.backing import back_up, left_over, made
from tests.integration.hiding import keys_of

pytestmark = pytest.mark.any_driver
QUICK: dict[str, Any] = {"format": "custom", "compression": "gzip", "globals": False, "fresh_for": "0 s"}
FRESH: dict[str, Any] = {**QUICK, "fresh_for": "1 h"}


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[Cluster]:
    """A server that has no other databases: several tests back up all of them."""
    with Cluster(installation, settings={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """A small database that is backed up again and again."""
    with Database.create(cluster, "series") as database:
        database.query("CREATE SCHEMA shop CREATE TABLE notes (n integer)")
        yield database


def ids(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if (path / "manifest.json").is_file())


def actions(result: dict[str, Any]) -> list[str]:
    return [one["action"] for one in result["backups"]]


def test_hidden_folders_that_no_run_has_made_stay(shop: Database, tmp_path: Path) -> None:
    folder, place = tmp_path / "backups", tmp_path / "second"
    hidden = {
        folder: (".partial-transfers", ".partial-0123456789abcdef", ".deleted-mail", ".deleted-a.b"),
        place: (".copy-of-something", ".deleted-mail"),
    }
    for above, names in hidden.items():
        for name in names:
            (above / name).mkdir(parents=True)
            (above / name / "precious").write_text("mine", encoding="utf-8")
    (place / ".copy-note").write_text("mine", encoding="utf-8")
    result = back_up(shop, folder, **QUICK, copies=[{"path": str(place)}])
    assert result["backups"][0]["copies"][0]["action"] == "copied"
    assert left_over(folder) == sorted(hidden[folder])
    assert left_over(place) == sorted([*hidden[place], ".copy-note"])
    told = catalogue.look_through(catalogue.Question(str(folder)))
    assert (told["unfinished"], told["foreign"]) == ([], sorted(hidden[folder]))


@pytest.mark.parametrize(
    "scope", [{"kind": "schemas", "schemas": ["shop"]}, {"kind": "tables", "tables": ["shop.notes"]}, {"kind": "schema_only"}]
)
def test_check_mode_counts_in_the_scope_that_is_asked_for(shop: Database, tmp_path: Path, scope: dict[str, Any]) -> None:
    first, second = (made(shop, tmp_path, **QUICK, **scope).name for _number in range(2))
    options = {**QUICK, **scope, "keep": {"count": 1}}
    foreseen = back_up(shop, tmp_path, check_mode=True, **options)
    assert (foreseen["purged"], foreseen["kept"]) == ([first, second], [])
    assert back_up(shop, tmp_path, **options)["purged"] == foreseen["purged"]


def test_a_backup_in_clear_does_not_stand_for_an_encrypted_one(shop: Database, tmp_path: Path) -> None:
    made(shop, tmp_path, **FRESH)
    place = tmp_path.parent / f"{tmp_path.name} second"
    place.mkdir()
    secret = {**FRESH, "encrypt": {"gpg": ["somebody@example.com"]}, "copies": [{"path": str(place)}]}
    foreseen = back_up(shop, tmp_path, check_mode=True, **secret)
    assert actions(foreseen) == ["made"]
    assert any("is not encrypted" in notice for notice in foreseen["warnings"])


def test_places_lose_nothing_in_a_run_that_failed(shop: Database, tmp_path: Path) -> None:
    folder, place = tmp_path / "backups", tmp_path / "second"
    place.mkdir()
    for _number in range(2):
        back_up(shop, folder, **QUICK, copies=[{"path": str(place)}])
    before = ids(place)
    options = {**QUICK, "copies": [{"path": str(place), "keep": {"count": 1}}]}
    failing = [
        {**options, "databases": [shop.name, "template0"]},
        {**options, "copies": [*options["copies"], {"path": str(tmp_path / "not mounted")}]},
    ]
    for more in failing:
        with pytest.raises(RunbookError):
            back_up(shop, folder, **more)
        assert set(before) < set(ids(place))
    before = ids(place)
    foreseen = back_up(shop, folder, check_mode=True, **options)
    assert ids(place) == before
    assert foreseen["backups"][0]["copies"][0]["purged"] == before
    done = back_up(shop, folder, **options)
    assert done["backups"][0]["copies"][0]["purged"] == before
    assert ids(place) == [done["backups"][0]["id"]]


def test_a_backup_without_its_files_takes_no_place(shop: Database, tmp_path: Path) -> None:
    whole, harmed = (made(shop, tmp_path, **QUICK) for _number in range(2))
    (harmed / "database.dump").unlink()
    result = back_up(shop, tmp_path, **QUICK, keep={"count": 2})
    assert result["purged"] == []
    assert {whole.name, harmed.name} < set(ids(tmp_path))


def test_a_database_that_was_made_again_has_no_backup_yet(cluster: Cluster, tmp_path: Path) -> None:
    for _number in range(2):
        with Database.create(cluster, "again") as database:
            assert actions(back_up(database, tmp_path, **FRESH)) == ["made"]
            assert actions(back_up(database, tmp_path, **FRESH)) == ["present"]


def test_a_clone_does_not_take_the_backup_of_its_origin_for_its_own(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    clone = cluster.standby()
    try:
        cluster.wait_for(clone)
        here, there = (tmp_path / name for name in ("origin", "standby"))
        made(shop, here, **FRESH)
        assert actions(back_up(Database(clone, shop.name), here, **FRESH)) == ["present"], "a standby is the same server"
        Database(clone, shop.name).query("SELECT pg_promote(true)")
        assert actions(back_up(Database(clone, shop.name), here, **FRESH)) == ["made"]
        assert actions(back_up(Database(clone, shop.name), here, **FRESH)) == ["present"]
        assert actions(back_up(shop, here, **FRESH)) == ["present"]
        shutil.rmtree(here)
        made(Database(clone, shop.name), there, **FRESH)
        assert actions(back_up(shop, there, **FRESH)) == ["made"]
    finally:
        clone.remove()


def test_a_backup_of_all_databases_says_of_none_that_another_is_left_out(cluster: Cluster, shop: Database, tmp_path: Path) -> None:
    told = back_up(shop, tmp_path, **{**QUICK, "contents": False}, databases=["*"])["backups"]
    assert shop.name in {one["database"] for one in told}
    assert [one for entry in told for one in entry["left_out"] if one["what"] == "database"] == []
    (alone,) = back_up(shop, tmp_path, **QUICK)["backups"]
    assert {"postgres"} <= {one["object"] for one in alone["left_out"] if one["what"] == "database"}


def test_a_manifest_that_nobody_could_read_again_gets_no_name(shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "LARGEST", 1000)
    with pytest.raises(RunbookError, match="more files than a manifest can hold"):
        back_up(shop, tmp_path, **QUICK)
    assert (ids(tmp_path), left_over(tmp_path)) == ([], [])


def test_settings_that_an_encrypted_backup_shows_are_told_by_their_names(shop: Database, tmp_path: Path) -> None:
    with keys_of("gpg") as keys:
        shop.query(f"ALTER DATABASE {shop.name} SET app.jwt_secret = 'sesame'")
        try:
            result = back_up(shop, tmp_path / "backups", **QUICK, encrypt=keys.encrypt)
        finally:
            shop.query(f"ALTER DATABASE {shop.name} RESET ALL")
    (notice,) = (one for one in result["warnings"] if "app.jwt_secret" in one)
    assert "is not encrypted" in notice
    assert "sesame" not in str(result)


def test_a_folder_that_everybody_may_write_to_is_told(shop: Database, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for check in (True, False):
        told = back_up(shop, tmp_path, check_mode=check, **QUICK)["warnings"]
        assert any(f"{tmp_path} can be written to by every account" in notice for notice in told)
    tmp_path.chmod(0o770)
    assert not any("every account" in notice for notice in back_up(shop, tmp_path, **QUICK)["warnings"])
