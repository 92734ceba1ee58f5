"""What pg_backup deletes: exactly what its check mode lists, counted over what is verified, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import engine
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import Verification, record
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import handmade
from tests.integration.backing import back_up

pytestmark = pytest.mark.any_driver
QUICK: dict[str, Any] = {"format": "custom", "compression": "gzip", "contents": False, "globals": False, "fresh_for": "0 s"}


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """A database that is backed up again and again."""
    with Database.create(cluster, "retained") as made:
        made.query("CREATE TABLE notes AS SELECT n FROM generate_series(1, 10) AS n")
        yield made


class History:
    """A folder of backups that were taken over time."""

    def __init__(self, shop: Database, folder: Path) -> None:
        self.shop = shop
        self.folder = folder
        self.identifier = str(shop.query("SELECT system_identifier FROM pg_control_system()")[0][0])
        folder.mkdir(mode=0o700)

    def add(self, hours: float, **more: Any) -> str:
        """Add the backup of so many hours ago and return its name."""
        known = {"system_identifier": self.identifier, "globals_too": False, "taken_at": datetime.now(UTC) - timedelta(hours=hours), **more}
        return handmade.dumped(self.shop.cluster, self.shop.name, self.folder, **known).name

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.name != ".lock"}

    def back_up(self, keep: dict[str, Any], **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = back_up(self.shop, self.folder, **{**QUICK, "keep": keep, **options})
        return result


@pytest.fixture
def history(shop: Database, tmp_path: Path) -> History:
    return History(shop, tmp_path / "backups")


def test_check_mode_lists_what_goes_and_nobody_else_loses_anything(history: History) -> None:
    newest, second, third = (history.add(hours) for hours in (2, 50, 100))
    others = {
        history.add(90, name="hourly"),
        history.add(91, system_identifier="1"),
        history.add(92, scope={"kind": "tables", "schemas": [], "tables": ["public.notes"]}),
    }
    (history.folder / "somebody's").mkdir()
    (history.folder / "notes.txt").write_text("", encoding="utf-8")
    before = history.names()
    foreseen = history.back_up({"count": 2}, check_mode=True)
    assert (history.names(), foreseen["purged"]) == (before, [third, second])
    done = history.back_up({"count": 2})
    assert done["purged"] == foreseen["purged"]
    made = done["backups"][0]["id"]
    assert history.names() == {made, newest, *others, "somebody's", "notes.txt"}
    again = history.back_up({"count": 2}, fresh_for="1 h")
    assert (again["changed"], again["purged"]) == (False, [])


def test_rules_come_true_without_a_new_backup(history: History) -> None:
    newest, old = history.add(1), history.add(60)
    done = history.back_up({"age": "2 days"}, fresh_for="10 h")
    assert (done["changed"], done["purged"], history.names()) == (True, [old], {newest})
    assert [one["action"] for one in done["backups"]] == ["present"]


def test_what_was_found_broken_takes_no_place_and_goes_by_age(history: History) -> None:
    broken, whole, old = history.add(30), history.add(40), history.add(50)
    for name in (broken, old):
        path = history.folder / name
        record(path, read_manifest(path), Verification("decode", datetime.now(UTC), False, "it is cut off"))
    kept = history.back_up({"count": 2})
    made = kept["backups"][0]["id"]
    assert (kept["purged"], history.names()) == ([], {made, broken, whole, old})
    by_age = history.back_up({"count": 2, "age": "45 h"}, fresh_for="1 h")
    assert (by_age["purged"], history.names()) == ([old], {made, broken, whole})


@pytest.mark.parametrize("number", [0, 1])
def test_what_was_found_broken_while_the_run_went_on_takes_no_place(history: History, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A drill, or somebody who verifies, takes no lock of the folder."""
    names = [history.add(hours) for hours in (1, 30, 60)]
    spoilt = history.folder / names[number]
    real = engine.purge_copies

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        record(spoilt, read_manifest(spoilt), Verification("restore", datetime.now(UTC), False, "it is cut off"))
        return real(*arguments, **more)

    monkeypatch.setattr(engine, "purge_copies", meanwhile)
    done = history.back_up({"count": number + 1}, fresh_for="10 h")
    assert (done["purged"], history.names()) == ([names[2]] if number == 0 else [], set(names[:2] if number == 0 else names))
    assert any("it is cut off" in notice for notice in done["warnings"]) is (number == 0)


def test_nothing_goes_after_a_run_that_failed(history: History) -> None:
    names = {history.add(hours) for hours in (30, 40, 50)}
    with pytest.raises(RunbookError):
        history.back_up({"count": 1}, databases=[history.shop.name, "nowhere"])
    assert names <= history.names()


def test_nothing_goes_while_a_copy_is_missing(history: History, tmp_path: Path) -> None:
    names = {history.add(hours) for hours in (30, 40)}
    with pytest.raises(RunbookError, match="a copy of it is not"):
        history.back_up({"count": 1}, copies=[{"path": str(tmp_path / "not mounted")}])
    assert names < history.names()
