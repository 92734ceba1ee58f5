"""No password stands in the arguments or the environment of a program that a restore or a drill starts, where others could read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground import servers
from tests.ground.cluster import PASSWORD_ROLE, Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring
from tests.integration.drilling import in_cluster, rehearse

pytestmark = pytest.mark.any_driver
SECRET = "a-password-of-nobody-else"
ROLE = "programs_secret"


@pytest.fixture(scope="module")
def backups(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Backups of a database without partitions, which vacuumdb leaves to others; `ROLE`, a superuser, has to log in with a password."""
    folder = tmp_path_factory.mktemp("backups")
    with Database.create(cluster, "programs_source") as source:
        source.query("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 100) AS n")
        made = {form: backing.made(source, folder / form, name=form, format=form) for form in ("directory", "plain")}
        source.query(f"CREATE ROLE {PASSWORD_ROLE}")
        source.query(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{SECRET}' IN ROLE {PASSWORD_ROLE}")
        yield made
        source.query(f"DROP ROLE {ROLE}, {PASSWORD_ROLE}")


@pytest.fixture(params=["login_password", "PGPASSWORD"])
def login(cluster: Cluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How `ROLE` logs in, with its password in an option, or in the environment of the module."""
    if request.param == "PGPASSWORD":
        monkeypatch.setenv("PGPASSWORD", SECRET)
        return {"login_user": ROLE, "login_password": None}
    return {"login_user": ROLE, "login_password": SECRET}


@pytest.fixture
def seen(place: Path) -> Path:
    """Where programs leave what others may see of them, also those that another account runs."""
    made = place / "seen"
    made.mkdir()
    made.chmod(0o777)
    return made


def noted(seen: Path) -> dict[str, list[str]]:
    """Return what was seen of each program."""
    texts: dict[str, list[str]] = {}
    for path in seen.iterdir():
        texts.setdefault(path.name.rpartition(".")[0], []).append(path.read_text(encoding="utf-8"))
    return texts


def telling(texts: dict[str, list[str]]) -> set[str]:
    """Return the programs that show the password."""
    return {name for name, every in texts.items() if any(SECRET in text for text in every)}


@pytest.mark.parametrize(("form", "programs"), [("directory", {"pg_restore", "vacuumdb"}), ("plain", {"psql", "vacuumdb"})])
def test_of_a_restore(
    cluster: Cluster, backups: dict[str, Path], login: dict[str, Any], seen: Path, tmp_path: Path, form: str, programs: set[str]
) -> None:
    own = backing.recording_bin_dir(tmp_path, every=backing.noting(seen))
    where = backing.login(Database(cluster, "postgres"), **login)
    with restoring.unused(cluster) as target:
        done = restoring.restore(where, path=str(backups[form]), target=target.name, bin_dir=str(own), jobs=2)
    texts = noted(seen)
    assert (done["action"], set(texts)) == ("restored", programs)
    # They logged in as that role, and so with the password.
    assert all(ROLE in text for every in texts.values() for text in every)
    assert telling(texts) == set()
    assert SECRET not in json.dumps(done)


def test_of_a_drill(
    backups: dict[str, Path], installation: servers.Installation, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    own = backing.recording_bin_dir(tmp_path, every=backing.noting(seen))
    server = seen.parent / "server"
    server.mkdir()
    for name in ("initdb", "postgres"):
        script = f'#!/bin/sh\n{backing.noting(seen)}\nexec {installation.bin_dir}/{name} "$@"\n'
        (server / name).write_text(script, encoding="utf-8")
        (server / name).chmod(0o755)
    wanted = {**in_cluster(installation, seen.parent), "server_bin_dir": str(server)}
    result = rehearse(None, backups["directory"].parent, **{**wanted, "bin_dir": str(own)})
    assert result["passed"], result["reasons"]
    texts = noted(seen)
    assert set(texts) == {"initdb", "postgres", "pg_restore", "vacuumdb"}
    assert telling(texts) == set()
    assert SECRET not in json.dumps(result, default=str)
