"""Programs that die, servers and disks that go away, two runs at once, and any file that is changed: what a backup makes of each."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup import engine
from ansible_collections.pgops.runbook.plugins.module_utils._backup.catalogue import Question, look_through
from ansible_collections.pgops.runbook.plugins.module_utils._backup.engine import Unfinished
from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, Refused, RunbookError
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, handmade, restoring
from tests.integration.backing import back_up, left_over, made
from tests.integration.children import until
from tests.integration.small_disks import make_read_only, small_disk
from tests.integration.test_backup_killed import expect_no_programs, started

pytestmark = pytest.mark.any_driver

FORMS = ["directory", "custom", "plain"]
# What a compressor may do instead of its work. The last one has written everything, and says in the end that it failed.
DEATHS = {
    "at once": "exit 1",
    "while it works": "head -c 100 > /dev/null; kill -9 $$",
    "after its work": '{real} "$@" || exit 9; exit 3',
}
# Its last row is the only one that stands beside the table, where a lock keeps pg_dump from it when it has written all others.
LONG = """
CREATE TABLE long (id int, x text);
INSERT INTO long SELECT n, md5(n::text) FROM generate_series(1, 100000) n;
ALTER TABLE long ALTER x SET STORAGE EXTERNAL;
INSERT INTO long VALUES (0, repeat('long', 10000));
"""
COPYING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY public.long%' AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def tim(cluster: Cluster) -> Iterator[Database]:
    """A filled database that no test changes."""
    with backing.filled(cluster, "backup_matrix") as database:
        database.query("CREATE TABLE bulky AS SELECT n, md5(n::text) || md5((-n)::text) AS x FROM generate_series(1, 3000) n")
        yield database


def failed(database: Database, folder: Path, **options: Any) -> str:
    """Return the message of a run that leaves what was there and nothing else."""
    before = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    with pytest.raises(Unfinished) as caught:
        back_up(database, folder, fresh_for="0 s", **options)
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == before
    expect_no_programs(folder)
    assert caught.value.as_result()["purged"] == []
    return caught.value.message


# --- programs that die ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("form", FORMS)
def test_a_compressor_that_dies(tim: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, death: str) -> None:
    good = made(tim, tmp_path / "backups", name="good")
    own = tmp_path / "bin"
    own.mkdir()
    program = own / "lz4"
    program.write_text("#!/bin/sh\n" + DEATHS[death].replace("{real}", str(shutil.which("lz4"))) + "\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    message = failed(tim, tmp_path / "backups", format=form, compression="lz4", keep={"count": 1})
    assert "lz4" in message
    assert handmade.look(good).ok


@pytest.mark.parametrize("program", ["pg_dump", "pg_dumpall"])
def test_a_dump_that_fails_after_it_has_written_everything(tim: Database, tmp_path: Path, program: str) -> None:
    own = backing.recording_bin_dir(tmp_path)
    text = (own / program).read_text(encoding="utf-8").replace("exec ", "")
    (own / program).write_text(f'{text}code=$?\n[ "$1" = --version ] && exit $code\nexit 3\n', encoding="utf-8")
    (tmp_path / "backups").mkdir()
    assert program in failed(tim, tmp_path / "backups", bin_dir=str(own))


def test_roles_that_pg_dumpall_did_not_write_though_it_says_so(tim: Database, tmp_path: Path) -> None:
    """pg_dumpall does not look whether what it wrote has arrived."""
    own = backing.recording_bin_dir(tmp_path)
    text = (own / "pg_dumpall").read_text(encoding="utf-8")
    (own / "pg_dumpall").write_text(text.replace("exec ", "").rstrip() + " | head -c 300\nexit 0\n", encoding="utf-8")
    (tmp_path / "backups").mkdir()
    assert "pg_dumpall" in failed(tim, tmp_path / "backups", bin_dir=str(own))


# --- servers that go away ---------------------------------------------------------------------------------------------


@contextmanager
def in_mid_dump(database: Database, folder: Path, act: Callable[[int], object]) -> Iterator[str]:
    """Do something while the session of pg_dump, whose number it gets, reads the long table; yield the folder of the programs."""
    database.query(LONG)
    programs = backing.recording_bin_dir(folder, backing.waiting_for(folder / "go"))
    acted: list[int] = []

    def wait() -> None:
        try:
            until(lambda: backing.calls(programs))
            with closing(database.connect()) as holder:
                ((toast,),) = holder.execute("SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'long'::regclass").fetchall()
                holder.execute(f"BEGIN; REINDEX TABLE {toast}")
                (folder / "go").touch()
                ((pid,),) = until(lambda: database.query(COPYING))
                act(pid)
                acted.append(pid)
        finally:
            (folder / "go").touch()

    helper = threading.Thread(target=wait)
    helper.start()
    try:
        yield str(programs)
    finally:
        helper.join()
    assert acted


@pytest.mark.parametrize("form", FORMS)
def test_a_connection_that_is_lost_in_mid_dump(database: Database, tmp_path: Path, form: str) -> None:
    def lose(pid: int) -> None:
        database.query("SELECT pg_terminate_backend(%s)", [pid])

    (tmp_path / "backups").mkdir()
    with in_mid_dump(database, tmp_path, lose) as programs:
        message = failed(database, tmp_path / "backups", format=form, compression="none", contents=False, bin_dir=programs)
    assert "pg_dump" in message
    assert "terminat" in message


def test_the_session_that_counts_is_lost_in_mid_dump(database: Database, tmp_path: Path) -> None:
    """pg_dump has its snapshot already and would end well."""

    def lose(pid: int) -> None:
        beside = "datname = current_database() AND application_name <> 'ground' AND backend_type = 'client backend' AND pid <> %s"
        assert database.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {beside}", [pid])

    (tmp_path / "backups").mkdir()
    with in_mid_dump(database, tmp_path, lose) as programs:
        message = failed(database, tmp_path / "backups", format="custom", compression="none", contents=False, bin_dir=programs)
    assert "pg_dump" not in message
    assert "terminat" in message or "closed" in message


@pytest.mark.parametrize("form", FORMS[:2])
def test_a_server_that_is_back_at_once_after_a_crash(installation: servers.Installation, tmp_path: Path, form: str) -> None:
    """It starts again by itself; what is dumped after that would be of another moment."""
    (tmp_path / "backups").mkdir()
    with Cluster(installation) as server, Database.create(server, "crashing") as database:
        with in_mid_dump(database, tmp_path, server.kill_session) as programs:
            failed(database, tmp_path / "backups", format=form, compression="none", contents=False, bin_dir=programs)
        assert back_up(database, tmp_path / "backups", contents=False)["backups"][0]["action"] == "made"


# --- disks that cannot be written to ----------------------------------------------------------------------------------


def test_a_disk_that_is_mounted_read_only(tim: Database, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        good = made(tim, disk, min_free="0")
        make_read_only(disk)
        for check_mode in (True, False):
            with pytest.raises(InvalidValue, match="mounted read-only"):
                back_up(tim, disk, fresh_for="0 s", min_free="0", check_mode=check_mode)
        assert left_over(disk) == []
        assert handmade.look(good).ok


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_a_folder_of_somebody_else(tim: Database) -> None:
    with handmade_place() as place:
        # What is imported only when it is needed, the other account could not read.
        back_up(tim, place, check_mode=True)
        login = backing.login(tim)
        options = read_options({"folder": str(place), "bin_dir": backing.bin_dir()})
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                try:
                    engine.back_up(login, options)
                except RunbookError as error:
                    code = 0 if "cannot be written to" in error.message else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(place.iterdir()) == []


@contextmanager
def handmade_place() -> Iterator[Path]:
    """A folder that everybody may look into, and only root may write to."""
    place = Path(tempfile.mkdtemp(prefix="pgops-ground.matrix.", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


# --- two runs at once -------------------------------------------------------------------------------------------------


def test_of_several_processes_at_once_one_makes_it(tim: Database, tmp_path: Path) -> None:
    programs = backing.recording_bin_dir(tmp_path, " sleep 0.3")
    folder = tmp_path / "backups"
    runs = [started(tim, folder, bin_dir=str(programs)) for _number in range(3)]
    codes = sorted(run.wait(60) for run in runs)
    # Who came when the first was done has found its backup.
    assert codes[0] == 0
    assert len([call for call in backing.calls(programs) if call.startswith("pg_dump ") and "--file=" in call]) == 1
    assert left_over(folder) == []
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert [handmade.look(path).ok for path in names] == [True]


# --- files that were changed ------------------------------------------------------------------------------------------

WAYS = {
    "directory, lz4": {"format": "directory", "compression": "lz4"},
    "directory, zstd": {"format": "directory", "compression": "zstd"},
    "directory, none": {"format": "directory", "compression": "none"},
    "custom, gzip": {"format": "custom", "compression": "gzip"},
    "custom, lz4": {"format": "custom", "compression": "lz4"},
    "plain, none": {"format": "plain", "compression": "none"},
    "plain, lz4": {"format": "plain", "compression": "lz4"},
}


def flipped(content: bytes) -> bytes:
    """Return other bytes of the same length."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


@pytest.mark.parametrize("way", WAYS)
def test_every_file_of_a_backup_is_missed_and_every_change_of_one_is_found(tim: Database, tmp_path: Path, way: str) -> None:
    backup = made(tim, tmp_path, **WAYS[way])
    manifest = read_manifest(backup)
    files = sorted(path for path in backup.rglob("*") if path.is_file())
    assert len(files) >= 5
    for path in files:
        name, content = str(path.relative_to(backup)), path.read_bytes()
        for harm in (flipped(content) if content else None, content[:-2] if content else None, content + b"x", None):
            if harm is None:
                path.unlink()
            else:
                path.write_bytes(harm)
            found = handmade.look(backup, "checksum", manifest=manifest)
            # Nothing hangs on the list for people; and where there is no manifest, there is no backup.
            assert not found.ok or (harm is None and name in ("SHA256SUMS", "manifest.json")), (name, harm and len(harm))
            if (harm is None or len(harm) != len(content) or name == "manifest.json") and name != "SHA256SUMS":
                assert look_through(Question(str(tmp_path)))["newest_verified"] == {}, name
            path.write_bytes(content)
            path.chmod(0o600)
    for one, other in zip(files, files[1:], strict=False):
        first, second = one.read_bytes(), other.read_bytes()
        if first == second:
            continue
        one.write_bytes(second)
        other.write_bytes(first)
        assert not handmade.look(backup, "checksum", manifest=manifest).ok, (one.name, other.name)
        one.write_bytes(first)
        other.write_bytes(second)
    assert handmade.look(backup, "checksum", manifest=manifest).ok


# --- where whoever changed them has changed the hashes too ------------------------------------------------------------

TWINS = """
CREATE TABLE one AS SELECT n, md5(n::text) AS x FROM generate_series(1, 500) n;
CREATE TABLE two AS SELECT n, md5((-n)::text) AS x FROM generate_series(1, 500) n;
"""


def exchanged(backup: Path) -> None:
    """Exchange the files of the largest two members."""
    one, other = sorted((backup / "database").glob("[0-9]*.dat*"), key=lambda path: -path.stat().st_size)[:2]
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def of_another(backup: Path, other: Path) -> None:
    """Put another dump in the place of this one."""
    for path in backup.glob("database*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in other.glob("database*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, backup / path.name)


@pytest.mark.parametrize("form", [*FORMS, "exchanged"])
def test_what_is_not_its_own_is_never_restored(tim: Database, database: Database, tmp_path: Path, form: str) -> None:
    database.query(TWINS)
    given = {"format": "directory" if form == "exchanged" else form, "compression": "none"}
    backup = made(database, tmp_path, **given)
    if form == "exchanged":
        exchanged(backup)
    else:
        of_another(backup, made(tim, tmp_path / "other", **given))
    handmade.resealed(backup)
    before = restoring.databases(tim.cluster)
    with pytest.raises(Refused):
        restoring.restore(tim, path=str(backup), target="matrix_again")
    assert restoring.databases(tim.cluster) == before


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4"])
def test_a_member_that_was_never_there_or_never_whole_is_missed(database: Database, tmp_path: Path, compression: str) -> None:
    """Decoding sees it although the hashes were made of what was there. Small members are not compressed by programs."""
    database.query(TWINS)
    database.query("CREATE TABLE small AS SELECT 1 AS n")
    database.query("CREATE TABLE nothing (n int)")
    database.query("SELECT lo_from_bytea(0, 'a large object')")
    backup = made(database, tmp_path, compression=compression)
    assert handmade.look(backup).ok
    for path in sorted((backup / "database").iterdir()):
        content = path.read_bytes()
        path.unlink()
        found = handmade.look(handmade.resealed(backup))
        assert (found.how, found.ok) == ("decode", False), (path.name, "missing")
        # Nothing in a large object that is not compressed says where it ends.
        if not (path.name.startswith("blob") and path.suffix in (".dat", ".toc")):
            path.write_bytes(content[:-1])
            found = handmade.look(handmade.resealed(backup))
            assert (found.how, found.ok) == ("decode", False), (path.name, "cut off")
        path.write_bytes(content)
        handmade.resealed(backup)
    assert handmade.look(backup).ok
