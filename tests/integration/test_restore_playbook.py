"""The playbook `restore`: preview, act, how to take it back, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import sql

from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.runner import PlaybookResult
from tests.ground.servers import CHECKOUT
from tests.integration import backing
from tests.integration.protecting import host_of, printed
from tests.integration.scheduling import DEAD

pytestmark = [pytest.mark.any_driver, pytest.mark.xdist_group("restore_playbook")]

Playbook = Callable[..., PlaybookResult]
LOST = "DELETE FROM shop.orders WHERE id <= 10"
COUNT = "SELECT count(*) FROM shop.orders"


@dataclass
class Shop:
    """A database with a backup of all that it held, and the name of another one that tests may restore to."""

    database: Database
    folder: Path
    other: str = "restored_beside"

    @property
    def host(self) -> dict[str, Any]:
        """The variables of its host."""
        return host_of(self.database, self.folder)

    def names(self) -> set[str]:
        """Return the databases that there are of it."""
        return {name for (name,) in self.database.query("SELECT datname FROM pg_database WHERE datname ~ '^restored_'")}


@pytest.fixture(scope="module")
def shop(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop, which loses some orders after its backup."""
    database = Database.create(cluster, "restored_from")
    backing.fill(database)
    folder = tmp_path_factory.mktemp("restored") / "backups"
    backing.made(database, folder)
    database.query(LOST)
    found = Shop(database, folder)
    yield found
    with cluster.connect() as connection:
        for name in found.names():
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_nobody_said_which_hosts(shop: Shop, run_playbook: Playbook) -> None:
    done = run_playbook("restore", {"shop": shop.host}, extra_vars={"confirm": True})
    assert done.rc != 0
    assert "nobody said which hosts" in done.stdout
    assert not done.find(action="pg_restore")


def test_preview_act_and_again(shop: Shop, run_playbook: Playbook) -> None:
    answers = {"target": "shop", "database": shop.other}
    before = shop.names()
    preview = run_playbook("restore", {"shop": shop.host}, extra_vars=answers)
    assert (preview.rc, preview.changed) == (0, 0), preview.stdout
    assert shop.names() == before
    lines = printed(preview, "restore_lines")
    assert lines[0].endswith("1 host: preview, nothing was changed")
    assert f"PREVIEW  shop (shop): database {shop.other} would be restored, 5 tables with 2,700 rows" in lines
    assert any(re.match(r" +from: restored_from\.full\.\w+, taken .* UTC, .* [kM]B, verified \(decode\)$", line) for line in lines)
    # A backup that is made between the preview and the confirmation is not meant.
    (newest,) = (path.parent.name for path in shop.folder.glob("*/manifest.json"))
    assert lines[-1] == f"to act: the same command with -e confirm=true -e backup={newest}"

    done = run_playbook("restore", {"shop": shop.host}, extra_vars={**answers, "confirm": "yes"})
    assert (done.rc, done.changed) == (0, 1), done.stdout
    assert [task.result["invocation"]["module_args"]["backup"] for task in done.find(action="pg_restore")] == ["newest", newest]
    assert printed(done, "restore_lines")[-1] == "confirmed: acting now"
    report = printed(done, "restore_lines", 1)
    assert f"OK      shop (shop): database {shop.other} restored, 5 tables with 2,700 rows" in report
    assert f'        undo: DROP DATABASE "{shop.other}";' in report
    assert shop.names() == {*before, shop.other}

    again = run_playbook("restore", {"shop": shop.host}, extra_vars={**answers, "confirm": True})
    assert (again.rc, again.changed) == (0, 0), again.stdout
    assert "OK      shop (shop): nothing to do" in printed(again, "restore_lines", 1)


def test_rows_that_were_lost_come_back(shop: Shop, run_playbook: Playbook) -> None:
    answers = {"target": "shop", "mode": "tables", "tables": "shop.orders", "how": "missing_rows", "confirm": True}
    assert shop.database.query(COUNT) == [(990,)]
    done = run_playbook("restore", {"shop": shop.host}, extra_vars=answers)
    assert done.rc == 0, done.stdout
    assert "         table: shop.orders: 10 rows to copy back by id; 990 rows there" in printed(done, "restore_lines")
    report = printed(done, "restore_lines", 1)
    assert "        table: shop.orders: 10 rows copied back by id; 990 rows there" in report
    assert any(line.startswith("        undo: none, 10 rows came back to shop.orders") for line in report)
    assert shop.database.query(COUNT) == [(1000,)]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"databse": "x"}, "databse is no answer that this runbook knows, did you mean database?"),
        ({"mode": "swap", "database": "restored_from"}, "replace"),
        ({"mode": "tables"}, "tables: is missing"),
        ({"backup": "nosuch", "database": "restored_never"}, "holds no nosuch"),
    ],
)
def test_wrong_answers_are_refused_before_anything_is_changed(
    shop: Shop, run_playbook: Playbook, answers: dict[str, Any], said: str
) -> None:
    before = shop.names()
    # Where nothing is lost, there is nothing to refuse.
    shop.database.query(LOST)
    done = run_playbook("restore", {"shop": shop.host}, extra_vars={"target": "shop", "confirm": True, **answers})
    assert done.rc != 0
    assert said in done.stdout
    assert shop.names() == before


def test_a_host_without_preview_keeps_all_others_from_acting(shop: Shop, run_playbook: Playbook) -> None:
    hosts = {"shop": shop.host, "dead": {**shop.host, "pgops_connection": DEAD["pgops_connection"]}}
    done = run_playbook("restore", hosts, extra_vars={"target": "databases", "database": "restored_never", "confirm": True})
    assert done.rc != 0
    assert "nothing was changed: dead could not be previewed" in done.stdout
    lines = printed(done, "restore_lines")
    assert any(line.startswith("FAILED   dead (shop): ") for line in lines)
    assert "restored_never" not in shop.names()


def test_the_playbook_knows_every_answer_that_it_reads() -> None:
    preflight, play = yaml.safe_load((CHECKOUT / "playbooks/restore.yml").read_text(encoding="utf-8"))
    known = set(preflight["vars"]["emergency_answers"])
    read = set(re.findall(r"\b(\w+) \| default", str(play["vars"])))
    assert {name for name in known if not name.startswith("restore_")} == read
    options = yaml.safe_load((CHECKOUT / "roles/restore/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert known - read <= set(options["argument_specs"]["main"]["options"])
