"""state=verified: backups that are there are looked at again, and what was found counts from then on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pgops.runbook.plugins.module_utils._backup import rehearse, state_verified
from ansible_collections.pgops.runbook.plugins.module_utils._backup.catalogue import Question, look_through
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.modules import pg_backup
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, handmade, hiding, restoring
from tests.integration.backing import verifications
from tests.integration.handmade import flip
from tests.integration.small_disks import make_read_only, small_disk

pytestmark = pytest.mark.any_driver
RunModule = Callable[..., dict[str, Any]]
NOWHERE = ConnectionOptions(login_host="/nonexistent")
KEYS = ("level", "result", "verified", "changed")


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A small database that no test changes."""
    with Database.create(cluster, "again_tim") as database:
        database.query("CREATE TABLE numbers AS SELECT n, md5(n::text) AS text FROM generate_series(1, 3000) AS n")
        yield database


@pytest.fixture(scope="module")
def originals(tim: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three backups of it, the oldest first: verified by its checksums, decoded, and one of another name and scope."""
    folder = tmp_path_factory.mktemp("originals")
    backing.made(tim, folder, verify="checksum")
    backing.made(tim, folder, fresh_for="0 s", format="custom", compression="none")
    backing.made(tim, folder, name="part", kind="tables", tables=["numbers"])
    return folder


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Path:
    """Copies of them, for a test to spoil."""
    return Path(shutil.copytree(originals, tmp_path / "backups"))


def again(folder: Path, login: ConnectionOptions = NOWHERE, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    """Verify what is there, of every database unless said."""
    given = {"folder": str(folder), "bin_dir": backing.bin_dir(), "databases": ["*"], "state": "verified", **options}
    assert state_verified.asked_for(given)
    return state_verified.verify_those_there(login, state_verified.read_wanted(given), check_mode=check_mode)


def failing(folder: Path, login: ConnectionOptions = NOWHERE, **options: Any) -> dict[str, Any]:
    """Verify what is there where something is wrong, and return the result."""
    with pytest.raises(Unfinished) as failed:
        again(folder, login, **options)
    return failed.value.as_result()


def told(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what was found of each backup."""
    return [tuple(one[key] for key in KEYS) for one in result["verifications"]]


def named(folder: Path, name: str = "full") -> list[Path]:
    """Return the backups of a name, the newest first."""
    return sorted((path for path in folder.iterdir() if f".{name}." in path.name), reverse=True)


def test_all_of_a_name_are_read_again_without_a_server_and_what_is_known_is_no_change(folder: Path) -> None:
    newest, oldest = named(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    foreseen = again(folder, check_mode=True)
    assert told(foreseen) == [("decode", "planned", "decode", False), ("decode", "planned", "checksum", True)]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    first = again(folder)
    assert [one["id"] for one in first["verifications"]] == [newest.name, oldest.name]
    assert told(first) == [("decode", "whole", "decode", False), ("decode", "whole", "decode", True)]
    assert (first["changed"], foreseen["changed"]) == (True, True)
    assert verifications(newest) == verifications(oldest) == [("decode", True)]
    second = again(folder)
    assert told(second) == [("decode", "whole", "decode", False)] * 2
    # The time of the look is another one, and the file no longer.
    assert (second["changed"], verifications(oldest), again(folder, check_mode=True)["changed"]) == (False, [("decode", True)], False)
    lower = again(folder, verify="checksum")
    assert told(lower) == [("checksum", "whole", "decode", False)] * 2
    assert verifications(oldest) == [("decode", True), ("checksum", True)]


def test_a_broken_one_counts_for_nothing_and_is_named_after_all_were_looked_at(tim: Database, folder: Path) -> None:
    newest, oldest = named(folder)
    flip(newest / "database.dump")
    result = failing(folder)
    assert result["msg"].startswith(f"the backup {newest.name} is broken: database.dump has another content")
    assert told(result) == [("checksum", "broken", None, True), ("decode", "whole", "decode", True)]
    assert result["error"]["object"] == newest.name
    assert told(failing(folder))[0] == ("checksum", "broken", None, False)
    known = look_through(Question(str(folder)))
    assert [one["id"] for one in known["broken"]] == [newest.name]
    with pytest.raises(Refused, match="is broken"):
        restoring.restore(tim, folder, backup=newest.name, target="again_never")
    assert backing.back_up(tim, folder, verify="decode", format="custom", compression="none")["backups"][0]["id"] == oldest.name
    # What was put right is found right.
    flip(newest / "database.dump")
    assert told(again(folder))[0] == ("decode", "whole", "decode", True)


def test_what_a_deeper_look_found_stays(folder: Path) -> None:
    newest = named(folder)[0]
    drill = {"how": "restore", "at": "2026-11-22T03:00:00+00:00", "ok": False, "message": "public.numbers: 1 row missing", "drill": {}}
    document = {"format": "pgops.verified/1", "of": backing.manifest(newest)["sha256"], "entries": [drill]}
    (newest / "verified.json").write_text(json.dumps(document), encoding="utf-8")
    result = failing(folder, backup="latest")
    assert told(result) == [("decode", "broken", None, False)]
    assert "1 row missing" in result["msg"]
    document["entries"] = [{**drill, "ok": True, "message": None}]
    (newest / "verified.json").write_text(json.dumps(document), encoding="utf-8")
    for _day in range(3):
        assert told(again(folder, backup="latest")) == [("decode", "whole", "restore", False)]
    assert verifications(newest) == [("restore", True), ("decode", True)]


def test_a_restore_is_the_deepest(tim: Database, folder: Path) -> None:
    newest, oldest = named(folder)
    tim.query("CREATE ROLE again_nobody LOGIN")
    try:
        result = failing(folder, backing.login(tim, login_user="again_nobody"), verify="restore", backup=oldest.name)
    finally:
        tim.query("DROP ROLE again_nobody")
    # What was found on the way counts.
    assert told(result) == [("decode", "unknown", "decode", True)]
    assert "could not be verified: it could not be restored here: role again_nobody may not make databases" in result["msg"]
    result = again(folder, backing.login(tim), verify="restore", backup=oldest.name)
    assert told(result) == [("restore", "whole", "restore", True)]
    assert verifications(oldest) == [("decode", True), ("restore", True)]
    # The rows are those of the dump, and the manifest speaks of others.
    handmade.rewritten(newest, lambda document: document["tables"][0].update(hash="1"))
    (newest / "SHA256SUMS").unlink()
    assert told(again(folder, backup="latest")) == [("decode", "whole", "decode", False)]
    result = failing(folder, backing.login(tim), verify="restore", backup="latest")
    assert told(result) == [("restore", "broken", None, True)]
    assert "public.numbers: 3000 rows as expected, but what is in them differs" in result["msg"]
    assert restoring.hidden(tim.cluster) == set()


def test_which_are_meant(tim: Database, folder: Path) -> None:
    part = named(folder, "part")[0].name
    every = [one["id"] for one in again(folder, name="*", check_mode=True)["verifications"]]
    assert every == [part, *(path.name for path in named(folder))]
    scope = {"name": "part", "kind": "tables", "tables": ["public.numbers"]}
    assert [one["id"] for one in again(folder, check_mode=True, **scope)["verifications"]] == [part]
    assert len(again(folder, databases=[tim.name], check_mode=True)["verifications"]) == 2
    assert len(again(folder, backing.login(tim), databases=[], check_mode=True)["verifications"]) == 2
    for options in (
        {"name": "part"},
        {"databases": ["another"]},
        {"backup": "again_tim.full.20200101T000000Z"},
        {"name": "no", "backup": "latest"},
    ):
        with pytest.raises(MissingObject, match="holds no"):
            again(folder, **options)
    for options, words in (({"backup": "../x"}, "not the id of a backup"), ({"verify": "deep"}, "is not one of")):
        with pytest.raises(InvalidValue, match=words):
            again(folder, **options)
    for option in ("backup", "identity", "gpg_home"):
        with pytest.raises(InvalidValue, match=f"{option}: it means nothing with state=present"):
            state_verified.asked_for({option: "x"})


def test_one_that_nobody_can_trust_is_broken(folder: Path) -> None:
    newest, oldest = named(folder)
    manifest = newest / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"rows": 3000', '"rows": 3001'), encoding="utf-8")
    result = failing(folder)
    assert [(one["id"], one["result"]) for one in result["verifications"]] == [(newest.name, "broken"), (oldest.name, "whole")]
    assert "cannot be trusted" in result["msg"]
    assert [one["result"] for one in failing(folder, backup=newest.name)["verifications"]] == ["broken"]
    # The newest that is one, and a word about the other.
    latest = again(folder, backup="latest")
    assert ([one["id"] for one in latest["verifications"]], len(latest["warnings"])) == ([oldest.name], 1)


@pytest.mark.parametrize("method", hiding.METHODS)
def test_an_encrypted_one_is_read_with_its_key_and_without_it_hashed(tim: Database, tmp_path: Path, method: str) -> None:
    with hiding.keys_of(method) as keys:
        made = backing.made(tim, tmp_path, format="custom", encrypt=keys.encrypt, verify="checksum")
        for check_mode in (True, False):
            without = again(tmp_path, check_mode=check_mode)
            assert told(without) == [("checksum", "planned" if check_mode else "whole", "checksum", False)]
        assert "only the checksums were looked at" in without["warnings"][0]
        assert made.name in without["warnings"][0]
        assert told(again(tmp_path, **keys.reading)) == [("decode", "whole", "decode", True)]
        assert told(again(tmp_path, backing.login(tim), verify="restore", **keys.reading)) == [("restore", "whole", "restore", True)]
        assert told(again(tmp_path)) == [("checksum", "whole", "restore", False)]
        flip(made / next(path.name for path in made.iterdir() if path.name.startswith("database")))
        assert told(failing(tmp_path)) == [("checksum", "broken", None, True)]


def test_time_that_is_over_leaves_the_rest_and_what_is_deleted_meanwhile_is_not_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, oldest = named(folder)
    over = again(folder, max_runtime="0.001 ms", verify="checksum")
    assert [(one["result"], one["level"]) for one in over["verifications"]] == [("left", None)] * 2
    assert (over["changed"], "2 of 2 backups were not looked at" in over["warnings"][0]) == (False, True)
    real = state_verified.verify

    def purged(backup: Path, *arguments: Any) -> Any:
        if backup == oldest:
            backup.rename(folder / f".deleted-{backup.name}")
        return real(backup, *arguments)

    monkeypatch.setattr(state_verified, "verify", purged)
    result = again(folder)
    assert [(one["result"], one["msg"]) for one in result["verifications"]] == [("whole", None), ("left", "it was deleted meanwhile")]
    assert (newest / "verified.json").exists()


@pytest.mark.parametrize("moment", ["verify", "record", "read_head"])
def test_what_is_deleted_at_any_moment_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    newest = named(folder)[0]
    real = getattr(state_verified, moment)

    def purged(backup: Path, *arguments: Any, **more: Any) -> Any:
        if backup == newest:
            backup.rename(folder / f".deleted-{backup.name}")
            if moment == "verify":
                raise FileNotFoundError(2, "No such file or directory", str(backup / "database.dump"))
        return real(backup, *arguments, **more)

    monkeypatch.setattr(state_verified, moment, purged)
    result = again(folder, **({"backup": newest.name} if moment == "read_head" else {}))
    first = result["verifications"][0]
    assert [first[key] for key in (*KEYS, "msg")] == [None, "left", None, False, "it was deleted meanwhile"]
    assert [one["result"] for one in result["verifications"][1:]] == ([] if moment == "read_head" else ["whole"])
    assert not any("cannot be written" in notice for notice in result["warnings"])


def test_a_disk_that_fails_loses_no_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = named(folder)[0]
    real = state_verified.verify

    def failing_disk(backup: Path, *arguments: Any) -> Any:
        if backup == newest:
            raise OSError(5, "Input/output error", str(backup / "database.dump"))
        return real(backup, *arguments)

    monkeypatch.setattr(state_verified, "verify", failing_disk)
    result = failing(folder)
    assert told(result) == [(None, "unknown", "decode", False), ("decode", "whole", "decode", True)]
    assert f"{newest / 'database.dump'} cannot be read: Input/output error" in result["msg"]
    assert verifications(newest) == []


def test_one_that_is_named_is_judged_as_all_are(folder: Path) -> None:
    newest, oldest = named(folder)
    shutil.copytree(newest, folder / "old-copy")
    copy = failing(folder, backup="old-copy")
    assert (told(copy), "moved or copied here" in copy["msg"]) == ([(None, "broken", None, False)], True)
    handmade.rewritten(oldest, lambda document: document.update(bytes="many"))
    odd = failing(folder, backup=oldest.name)
    assert (told(odd), "cannot be read" in odd["msg"]) == ([(None, "broken", None, False)], True)


def test_a_server_that_is_older_than_the_dump_says_nothing_of_it(tim: Database, folder: Path) -> None:
    newest = named(folder)[0]
    handmade.rewritten(newest, lambda document: document["versions"].update(server_version_num=990000))
    (newest / "SHA256SUMS").unlink()
    result = failing(folder, backing.login(tim), verify="restore", backup="latest")
    assert told(result) == [("decode", "unknown", "decode", False)]
    assert "it could not be restored here: the backup is of a server of PostgreSQL 99" in result["msg"]
    assert "accept_older_server" not in result["msg"]
    assert verifications(newest) == [("decode", True)]


def test_a_definition_that_another_major_lacks_is_recorded_for_the_same_major_alone(tim: Database, folder: Path) -> None:
    newest = named(folder)[0]
    objects = json.loads((newest / "objects.json").read_text(encoding="utf-8"))
    objects.setdefault("views", {})["public.gone"] = "0"
    (newest / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
    (newest / "SHA256SUMS").unlink()
    versions = backing.manifest(newest)["versions"]
    handmade.resealed(newest, versions={**versions, "server_version_num": 110000})
    result = failing(folder, backing.login(tim), verify="restore", backup="latest")
    assert told(result) == [("decode", "unknown", "decode", False)]
    assert "public.gone" in result["msg"]
    assert verifications(newest) == [("decode", True)]
    handmade.resealed(newest, versions=versions)
    (newest / "verified.json").unlink()
    assert told(failing(folder, backing.login(tim), verify="restore", backup="latest")) == [("restore", "broken", None, True)]


def test_what_a_restore_did_not_show_is_not_proven(tim: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a backup that does not say what its rows were, nor where some could not be seen."""
    untold = backing.made(tim, tmp_path / "untold", contents=False)
    for check_mode in (True, False):
        result = again(untold.parent, backing.login(tim), verify="restore", check_mode=check_mode)
        assert told(result) == [("decode", "planned" if check_mode else "whole", "decode", False)]
    assert "does not say which rows there were" in result["warnings"][0]
    assert verifications(untold) == [("decode", True)]
    seen = backing.made(tim, tmp_path / "seen")
    real = rehearse.compare
    unseen = [{"what": "rows", "object": "public.numbers", "why": "nobody may read them"}]
    monkeypatch.setattr(rehearse, "compare", lambda *given: dataclasses.replace(real(*given), unseen=unseen))
    result = again(seen.parent, backing.login(tim), verify="restore")
    assert told(result) == [("decode", "whole", "decode", False)]
    assert "nobody may read them" in result["warnings"][0]
    made = backing.back_up(tim, tmp_path / "made", verify="restore")
    assert ([one["verified"] for one in made["backups"]], "nobody may read them" in str(made["warnings"])) == (["decode"], True)
    # The one that is there is looked at again, and does not come up to it either.
    deeper = backing.back_up(tim, seen.parent, verify="restore")
    assert [(one["action"], one["verified"]) for one in deeper["backups"]] == [("made", "decode")]
    assert verifications(seen) == [("decode", True)] * 2


def test_rows_alone_are_decoded_where_a_restore_is_asked_for(tim: Database, tmp_path: Path) -> None:
    rows = backing.made(tim, tmp_path, name="rows", kind="data_only")
    result = again(tmp_path, backing.login(tim), name="rows", kind="data_only", verify="restore")
    assert told(result) == [("decode", "whole", "decode", False)]
    assert (verifications(rows), "rows alone" in result["warnings"][0]) == ([("decode", True)], True)


def test_a_place_that_is_only_read_is_looked_at_and_nothing_is_written_down(folder: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        copies = Path(shutil.copytree(folder, disk / "copies"))
        newest = named(copies)[0]
        flip(newest / "database.dump")
        make_read_only(disk)
        result = failing(copies)
    assert told(result) == [("checksum", "broken", "decode", False), ("decode", "whole", "checksum", False)]
    assert [notice for notice in result["warnings"] if "Read-only file system" in notice and newest.name in notice]


def test_the_examples_do_what_they_say(tim: Database, run_module: RunModule, folder: Path) -> None:
    tasks = [task["pgops.runbook.pg_backup"] for task in yaml.safe_load(pg_backup.EXAMPLES)]
    weekly, newest = (task for task in tasks if task.get("state") == "verified")
    documented = yaml.safe_load(pg_backup.RETURN)["verifications"]["contains"]
    own = {"folder": str(folder), "bin_dir": backing.bin_dir()}
    found = run_module("pg_backup", {**weekly, **own}, connection=tim.login())
    assert (found["failed"], found["changed"], len(found["verifications"])) == (False, True, 3)
    assert [set(one) for one in found["verifications"]] == [set(documented)] * 3
    deep = run_module("pg_backup", {**newest, **own, "login_db": tim.name}, connection=tim.login())
    assert (deep["failed"], [one["level"] for one in deep["verifications"]]) == (False, ["restore"])
    flip(named(folder)[0] / "database.dump")
    failed = run_module("pg_backup", {**weekly, **own}, connection=tim.login())
    assert (failed["failed"], failed["error"]["type"], failed["error"]["object"]) == (True, "Unfinished", named(folder)[0].name)
    assert [one["result"] for one in failed["verifications"]].count("whole") == 2
