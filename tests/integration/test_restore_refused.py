"""What is refused before anything is made, and that a backup which is not what was backed up is never used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import write_document
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Busy, InvalidValue, ProgramFailed, Refused, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import lock_key
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import locale_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore.plain import knows_restrict
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, restoring
from tests.integration.handmade import copied, flip, rewritten

FORMS = {
    "directory": {"compression": "gzip"},
    "directory zstd": {"compression": "zstd"},
    "custom": {"format": "custom", "compression": "none"},
    "plain": {"format": "plain", "compression": "none"},
    "plain zstd": {"format": "plain", "compression": "zstd"},
}


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """The small database."""
    with backing.filled(cluster, "refused_shop") as made:
        yield made


@pytest.fixture(scope="module")
def originals(shop: Database, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A backup of each form."""
    folder = tmp_path_factory.mktemp("backups")
    return {form: backing.made(shop, folder, name=form.replace(" ", "-"), **options) for form, options in FORMS.items()}


@pytest.fixture
def target(shop: Database) -> Iterator[str]:
    """A name that no database has, and none gets."""
    with restoring.unused(shop.cluster) as made:
        yield made.name
        assert made.name not in restoring.databases(shop.cluster)


def members(backup: Path) -> list[Path]:
    """Return the files of the dump, the largest first."""
    found = [path for path in backup.rglob("*") if path.is_file() and path.relative_to(backup).parts[0].startswith("database")]
    return sorted(found, key=lambda path: -path.stat().st_size)


HARMS: dict[str, Callable[[Path, Path], object]] = {
    "a flipped bit": lambda backup, _other: flip(members(backup)[0]),
    "a byte less": lambda backup, _other: members(backup)[0].write_bytes(members(backup)[0].read_bytes()[:-1]),
    "an empty file": lambda backup, _other: members(backup)[0].write_bytes(b""),
    "a missing file": lambda backup, _other: members(backup)[0].unlink(),
    "a file of another backup": lambda backup, other: shutil.copy(members(other)[0], members(backup)[0]),
    "a changed manifest": lambda backup, _other: (backup / "manifest.json").write_text(
        (backup / "manifest.json").read_text(encoding="utf-8").replace('"rows": 1000', '"rows": 1001'), encoding="utf-8"
    ),
    "a changed structure": lambda backup, _other: flip(backup / "objects.json"),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("form", FORMS)
def test_no_file_that_was_harmed_is_restored(
    shop: Database, originals: dict[str, Path], target: str, tmp_path: Path, form: str, harm: str
) -> None:
    backup = copied(originals[form], tmp_path)
    HARMS[harm](backup, originals["directory" if form != "directory" else "directory zstd"])
    for check_mode in (True, False):
        with pytest.raises((Refused, InvalidValue)) as refused:
            restoring.restore(shop, path=str(backup), target=target, check_mode=check_mode)
        assert "broken" in refused.value.message or "cannot be trusted" in refused.value.message


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_what_is_restored_but_not_what_was_backed_up(
    shop: Database, originals: dict[str, Path], target: str, tmp_path: Path, form: str
) -> None:
    def lies(document: dict[str, Any]) -> None:
        next(table for table in document["tables"] if table["name"] == "shop.orders")["hash"] = "1"

    backup = copied(originals[form], tmp_path)
    rewritten(backup, lies)
    with pytest.raises(Refused, match=r"shop\.orders: 1000 rows as expected, but what is in them differs") as failed:
        restoring.restore(shop, path=str(backup), target=target)
    assert [(one["kind"], one["table"]) for one in failed.value.as_result()["differences"]] == [("rows", "shop.orders")]


@pytest.mark.parametrize("form", ["directory", "custom", "plain", "plain zstd"])
def test_a_dump_that_breaks_off_although_its_hash_is_right(
    shop: Database, originals: dict[str, Path], target: str, tmp_path: Path, form: str
) -> None:
    """As one that was cut before it was hashed: psql would report success, and commit what it has."""
    backup = copied(originals[form], tmp_path)
    rows = max((path for path in members(backup) if path.name != "toc.dat"), key=lambda path: path.stat().st_size)
    data = rows.read_bytes()
    if form == "plain":
        # In the middle of the rows of a table, behind a whole line.
        place = data.index(b"customer 100\t")
        data = data[: data.rindex(b"\n", 0, place) + 1]
    rows.write_bytes(data if form == "plain" else data[: len(data) // 2])

    def hashed(document: dict[str, Any]) -> None:
        entry = next(file for file in document["files"] if backup / file["path"] == rows)
        entry.update(bytes=rows.stat().st_size, sha256=hashlib.sha256(rows.read_bytes()).hexdigest())

    (backup / "SHA256SUMS").unlink()
    rewritten(backup, hashed)
    with pytest.raises((Refused, ProgramFailed, RunbookError)) as failed:
        restoring.restore(shop, path=str(backup), target=target)
    if form == "plain":
        assert "breaks off before its end" in failed.value.message


def test_values_of_rows_stand_in_no_error(shop: Database, target: str, tmp_path: Path) -> None:
    with Database.create(shop.cluster, "refused_secret") as secret:
        secret.query("CREATE TABLE tokens (token text)")
        secret.query("INSERT INTO tokens VALUES ('very-secret-token'), ('very-secret-token')")
        for form in ("custom", "plain"):
            path = backing.made(secret, tmp_path, format=form, compression="none", name=form)
            dump = members(path)[0]
            # Of the same length, because an archive says how long each row is.
            broken = dump.read_bytes().replace(b"very-secret-token\n", b"very-secret\ttoken\n", 1)
            dump.write_bytes(broken)

            def hashed(document: dict[str, Any], dump: Path = dump) -> None:
                entry = next(file for file in document["files"] if file["path"] == dump.name)
                entry["sha256"] = hashlib.sha256(dump.read_bytes()).hexdigest()
                entry["bytes"] = dump.stat().st_size

            (path / "SHA256SUMS").unlink()
            rewritten(path, hashed)
            with pytest.raises(ProgramFailed) as failed:
                restoring.restore(shop, path=str(path), target=target)
            assert "very-secret" not in json.dumps(failed.value.as_result())
            assert "extra data after last expected column" in failed.value.message


def test_a_backup_that_was_found_broken_is_not_restored(shop: Database, originals: dict[str, Path], target: str, tmp_path: Path) -> None:
    backup = copied(originals["directory"], tmp_path)
    entry = {"how": "decode", "at": "2026-11-22T03:00:00+00:00", "ok": False, "message": "it was dropped"}
    write_document(backup / "verified.json", {"format": "pgops.verified/1", "of": backing.manifest(backup)["sha256"], "entries": [entry]})
    with pytest.raises(Refused, match=r"is broken: .* it was dropped"):
        restoring.restore(shop, path=str(backup), target=target)
    with pytest.raises(RunbookError, match="holds no verified backup"):
        restoring.restore(shop, tmp_path, name="directory", target=target)


def test_a_target_that_is_there(shop: Database, originals: dict[str, Path], target: str) -> None:
    with Database.create(shop.cluster, "refused_there") as there:
        for check_mode in (True, False):
            with pytest.raises(Refused, match="database refused_there exists and holds something else"):
                restoring.restore(shop, path=str(originals["directory"]), target=there.name, check_mode=check_mode)
        backing.fill(there)
        there.query("UPDATE shop.orders SET total = total + 1 WHERE id = 7")
        with pytest.raises(Refused, match=r"shop\.orders: 1000 rows as expected, but what is in them differs"):
            restoring.restore(shop, path=str(originals["directory"]), target=there.name)
        there.query("CREATE ROLE refused_blind LOGIN CREATEDB")
        try:
            blind = backing.login(shop, login_user="refused_blind")
            with pytest.raises(Refused, match="exists and"):
                restoring.restore(blind, path=str(originals["directory"]), target=there.name, owners=False, privileges=False)
        finally:
            there.query("DROP ROLE refused_blind")


def test_an_older_server(shop: Database, originals: dict[str, Path], target: str, tmp_path: Path) -> None:
    backup = copied(originals["directory"], tmp_path)
    rewritten(backup, lambda document: document["versions"].update(server_version_num=990001, server="99.1"))
    with pytest.raises(Refused, match="the backup is of a server of PostgreSQL 99, and this one is"):
        restoring.restore(shop, path=str(backup), target=target)
    result = restoring.restore(shop, path=str(backup), target=target, accept_older_server=True, check_mode=True)
    assert result["action"] == "restored"


def test_older_programs(shop: Database, originals: dict[str, Path], target: str, tmp_path: Path) -> None:
    backup = copied(originals["directory"], tmp_path)
    rewritten(backup, lambda document: document["versions"].update(client="99.1"))
    with pytest.raises(Refused, match=r"written by pg_dump 99\.1; pg_restore in .* does not read it"):
        restoring.restore(shop, path=str(backup), target=target)


def test_what_the_server_lacks_is_named(shop: Database, originals: dict[str, Path], target: str, tmp_path: Path) -> None:
    backup = copied(originals["directory"], tmp_path)
    objects = json.loads((backup / "objects.json").read_text(encoding="utf-8"))
    objects["extensions"]["refused_extension"] = ""
    objects["owners"]["shop.orders"] = '"an owner"'
    objects["grants"]["shop.orders SELECT to refused_grantee"] = ""
    objects["policies"]["shop.customers everyone"] = "ALL, permissive, to refused_reader, PUBLIC #0"
    (backup / "objects.json").write_text(json.dumps(objects), encoding="utf-8")

    def changed(document: dict[str, Any]) -> None:
        entry = next(file for file in document["files"] if file["path"] == "objects.json")
        entry.update(
            bytes=(backup / "objects.json").stat().st_size, sha256=hashlib.sha256((backup / "objects.json").read_bytes()).hexdigest()
        )
        document["settings"]["tablespaces"] = ["refused_space"]
        document["settings"]["acl"] = ["=Tc/postgres", '"an acl"=c*T/postgres']

    (backup / "SHA256SUMS").unlink()
    rewritten(backup, changed)
    for check_mode in (True, False):
        with pytest.raises(Refused) as refused:
            restoring.restore(shop, path=str(backup), target=target, check_mode=check_mode)
        said = refused.value.message
        assert "roles: an acl, an owner, refused_grantee, refused_reader" in said
        assert "extensions: refused_extension" in said
        assert "tablespaces: refused_space" in said
    with pytest.raises(Refused) as refused:
        restoring.restore(shop, path=str(backup), target=target, owners=False, privileges=False)
    assert "roles: refused_reader;" in refused.value.message


def test_a_plain_dump_cannot_leave_owners_out(shop: Database, originals: dict[str, Path], target: str) -> None:
    with pytest.raises(InvalidValue, match="a plain dump, of which nothing can be left out"):
        restoring.restore(shop, path=str(originals["plain"]), target=target, owners=False)


def test_a_second_run_for_the_same_target(shop: Database, originals: dict[str, Path], target: str) -> None:
    with shop.connect(dbname="postgres", application_name="the first") as first:
        first.execute("SELECT pg_advisory_lock(%s)", [lock_key(f"pg_restore of {target}")])
        login = backing.login(shop, login_db="postgres")
        with pytest.raises(Busy, match="the first"):
            restoring.restore(login, path=str(originals["directory"]), target=target)
        # The server keeps advisory locks apart by database, and the second run may log in to another one.
        elsewhere = backing.login(shop, login_db=shop.name)
        with pytest.raises(Busy, match=r"at work: postgres \(pid \d+, the first, on database postgres\)"):
            restoring.restore(elsewhere, path=str(originals["directory"]), target=target)


def test_the_time_is_over(shop: Database, originals: dict[str, Path], target: str) -> None:
    with pytest.raises(RunbookError, match="max_runtime"):
        restoring.restore(shop, path=str(originals["directory"]), target=target, max_runtime="1 ms")


def test_owners_and_privileges_left_out(shop: Database, originals: dict[str, Path]) -> None:
    with shop.connect() as connection:
        connection.execute("CREATE ROLE refused_maker LOGIN CREATEDB")
    maker = backing.login(shop, login_user="refused_maker", login_db="postgres")
    try:
        result = restoring.restore(maker, path=str(originals["custom"]), target="refused_mine", owners=False, privileges=False)
        mine = Database(shop.cluster, "refused_mine")
        owners = mine.query("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'shop'")
        assert owners == [("refused_maker",)]
        assert {one["what"] for one in result["not_compared"]} >= {"owners", "grants"}
        with psycopg.connect(**{**shop.cluster.address("refused_mine"), "user": "refused_maker"}) as session:
            assert session.execute("SELECT count(*) FROM shop.orders").fetchone() == (1000,)
    finally:
        shop.cluster.drop_database("refused_mine")
        with shop.connect() as connection:
            connection.execute("DROP ROLE refused_maker")


@pytest.mark.parametrize(("version", "known"), [((18, 0), True), ((17, 6), True), ((17, 5), False), ((15, 13), False), ((12, 99), False)])
def test_which_psql_knows_how_to_restrict_a_dump(version: tuple[int, int], known: bool) -> None:
    assert knows_restrict(Client("/nowhere", version)) is known


def test_locales_that_a_server_does_not_have() -> None:
    icu = {"locale_provider": "icu", "encoding": "UTF8", "collate": "C", "ctype": "C", "icu_locale": "et"}
    with pytest.raises(InvalidValue, match="locale provider icu"):
        locale_words(icu, {"datname"})
    words, _values = locale_words(icu, {"datlocprovider", "daticulocale"})
    assert words == ["LOCALE_PROVIDER icu", "ENCODING %s", "LC_COLLATE %s", "LC_CTYPE %s", "ICU_LOCALE %s"]
    with pytest.raises(InvalidValue, match="locale provider builtin"):
        locale_words({**icu, "locale_provider": "builtin"}, {"datlocprovider", "daticulocale"})
