"""What verification finds in backups of real dumps: everything by checksums, and by decoding what can be seen so."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import find_client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import handmade
from tests.integration.handmade import LAYOUTS, copied, look, resealed

pytestmark = pytest.mark.any_driver

# What says itself that it was changed: the check sums of gzip and zstd, where a bit lies in them.
SEALED_INSIDE = ("custom, gzip", "custom, zstd outside", "directory, gzip", "directory, zstd members", "plain, zstd", "plain, gzip")


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[str]:
    """A filled database."""
    with Database.create(cluster, "verify-me") as made:
        handmade.fill(cluster, made.name)
        yield made.name


@pytest.fixture(scope="module")
def backups(cluster: Cluster, source: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the backup of a layout, made when first asked for. Tests leave it as it is, or spoil a copy."""
    made: dict[str, Path] = {}

    def backup(layout: str) -> Path:
        if layout not in made:
            made[layout] = handmade.dumped(cluster, source, tmp_path_factory.mktemp("backups"), layout)
        return made[layout]

    return backup


@pytest.fixture(scope="module")
def others(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The same for a database of another name and content."""
    made: dict[str, Path] = {}
    with Database.create(cluster, "another-one") as database:
        database.query("CREATE TABLE other AS SELECT n, md5(n::text) FROM generate_series(1, 3000) n")

        def backup(layout: str) -> Path:
            if layout not in made:
                made[layout] = handmade.dumped(cluster, database.name, tmp_path_factory.mktemp("others"), layout)
            return made[layout]

        yield backup


def largest(backup: Path) -> Path:
    """Return the largest member."""
    return max((path for path in backup.rglob("database*/*") if path.is_file()), default=None, key=_size) or max(
        backup.glob("database.*"), key=_size
    )


def _size(path: Path) -> int:
    return path.stat().st_size


@contextmanager
def spoilt(path: Path, content: bytes) -> Iterator[None]:
    """Give a file another content for a while."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_backup_is_whole(backups: Callable[[str], Path], layout: str) -> None:
    ticks: list[int] = []
    found = look(backups(layout), tick=lambda: ticks.append(1))
    assert (found.how, found.ok, found.message) == ("decode", True, None)
    assert look(backups(layout), "checksum").how == "checksum"
    assert ticks


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_truncation_is_found(backups: Callable[[str], Path], layout: str, tmp_path: Path) -> None:
    backup = copied(backups(layout), tmp_path / "copy")
    for member in (largest(backup), backup / "globals.sql"):
        content = member.read_bytes()
        for length in (len(content) - 1, len(content) * 99 // 100, len(content) // 2, len(content) // 20, 0):
            with spoilt(member, content[:length]):
                found = look(backup)
                name = str(member.relative_to(backup))
                assert (found.how, found.ok) == ("checksum", False)
                assert f"{name} has {length} bytes instead of {len(content)}" in str(found.message)
                # And where the checksums were made of what was cut off already.
                manifest = json.loads((backup / "manifest.json").read_text(encoding="utf-8"))
                resealed(backup)
                decoded = look(backup)
                assert (decoded.how, decoded.ok) == ("decode", False), (name, length)
                handmade.write_document(backup / "manifest.json", manifest)
    resealed(backup)
    assert look(backup).ok


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_bit_is_found(backups: Callable[[str], Path], layout: str, tmp_path: Path) -> None:
    backup = copied(backups(layout), tmp_path / "copy")
    chance = random.Random(layout)
    members = [largest(backup), backup / "globals.sql"]
    for number in range(60):
        member = members[number % 10 == 9]
        content = bytearray(member.read_bytes())
        place = chance.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        with spoilt(member, bytes(content)):
            found = look(backup)
        assert (found.how, found.ok) == ("checksum", False), f"bit {place} of {member.name}"
        assert f"{member.relative_to(backup)} has another content" in str(found.message)


@pytest.mark.parametrize("layout", SEALED_INSIDE)
def test_decoding_finds_flipped_bits_in_what_carries_its_own_check_sum(backups: Callable[[str], Path], layout: str, tmp_path: Path) -> None:
    backup = copied(backups(layout), tmp_path / "copy")
    chance = random.Random(layout)
    member = largest(backup)
    missed = 0
    for _number in range(12):
        content = bytearray(member.read_bytes())
        # Beyond the heads, in which gzip keeps a time and an operating system that nobody looks at.
        place = chance.randrange(8 * 4096, 8 * len(content))
        content[place // 8] ^= 1 << place % 8
        with spoilt(member, bytes(content)):
            resealed(backup)
            missed += look(backup).ok
    assert missed == 0


def _missing(backup: Path, other: Path) -> str:
    largest(backup).unlink()
    return "is missing"


def _added(backup: Path, other: Path) -> str:
    place = backup / "database" if (backup / "database").is_dir() else backup
    (place / "database.extra.dat").write_bytes(b"rows")
    return "database.extra.dat is not in the manifest"


def _swapped(backup: Path, other: Path) -> str:
    theirs = other / largest(backup).relative_to(backup)
    shutil.copy(theirs if theirs.exists() else largest(other), largest(backup))
    return "instead of"


def _linked(backup: Path, other: Path) -> str:
    member = largest(backup)
    moved = backup.parent / "elsewhere"
    member.rename(moved)
    member.symlink_to(moved)
    return "is no plain file"


def _edited(backup: Path, other: Path) -> str:
    manifest = backup / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"rows": 300', '"rows": 301'), encoding="utf-8")
    return "has been changed"


def _manifest_of_another(backup: Path, other: Path) -> str:
    shutil.copy(other / "manifest.json", backup / "manifest.json")
    return "the manifest on disk is another one"


def _sums_edited(backup: Path, other: Path) -> str:
    sums = backup / "SHA256SUMS"
    sums.write_text(sums.read_text(encoding="utf-8").replace("a", "b"), encoding="utf-8")
    return "SHA256SUMS says otherwise"


HARM = [_missing, _added, _swapped, _linked, _edited, _manifest_of_another, _sums_edited]


def test_the_time_of_a_run_is_looked_at_while_a_large_member_is_decoded(
    backups: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ticks, decoded = zlib.decompressobj, [], []

    class Slow:
        """What decodes as the real one does, in some seconds."""

        def __init__(self, **how: int) -> None:
            self.engine = real(**how)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def decompress(self, data: bytes) -> bytes:
            began = time.monotonic()
            time.sleep(3)
            decoded.append((began, time.monotonic()))
            return bytes(self.engine.decompress(data))

    monkeypatch.setattr(zlib, "decompressobj", Slow)
    assert look(backups("directory, gzip"), tick=lambda: ticks.append(time.monotonic())).ok
    first_end = min(end for _began, end in decoded)
    assert [tick for tick in ticks if decoded[0][0] < tick < first_end]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("layout", ["custom, gzip", "directory, gzip", "plain, zstd"])
def test_what_is_not_as_it_was_written_is_found(
    backups: Callable[[str], Path], others: Callable[[str], Path], layout: str, harm: Any, tmp_path: Path
) -> None:
    backup = copied(backups(layout), tmp_path / "copy")
    manifest = read_manifest(backup)
    words = harm(backup, others(layout))
    found = look(backup, manifest=manifest)
    assert (found.how, found.ok) == ("checksum", False)
    assert words in str(found.message)


@pytest.mark.parametrize("layout", ["custom, gzip", "custom, zstd outside", "directory, gzip", "directory, zstd members"])
def test_an_archive_says_that_it_is_of_another_database(
    backups: Callable[[str], Path], others: Callable[[str], Path], layout: str, tmp_path: Path
) -> None:
    """Whoever swaps a whole dump may swap its hashes too; the archive itself still names its database."""
    other = others(layout)
    backup = copied(backups(layout), tmp_path / "copy")
    for path in backup.glob("database*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in other.glob("database*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, backup / path.name)
    assert not look(backup).ok
    resealed(backup)
    found = look(backup)
    assert (found.how, found.ok) == ("decode", False)
    assert "says another database than the manifest, another-one instead of verify-me" in str(found.message)


def test_notes_beside_a_backup_do_no_harm(backups: Callable[[str], Path], tmp_path: Path) -> None:
    backup = copied(backups("custom, gzip"), tmp_path / "copy")
    (backup / "NOTES.txt").write_text("before the migration", encoding="utf-8")
    (backup / ".nfs0001").write_text("", encoding="utf-8")
    assert look(backup).ok


def test_a_tool_that_is_too_old_or_missing_is_no_fault_of_the_backup(
    backups: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = {**read_manifest(backups("custom, gzip"))}
    manifest["versions"] = {**manifest["versions"], "client": "99.1"}
    for found, words in (
        (look(backups("custom, gzip"), manifest={**manifest}), "was made by pg_dump 99.1"),
        (look(backups("custom, gzip"), client=None), "no client programs"),
    ):
        assert (found.how, found.ok) == ("checksum", True)
        assert words in str(found.message)
    zstd = backups("plain, zstd")
    monkeypatch.setenv("PATH", str(zstd))
    found = look(zstd)
    assert (found.how, found.ok) == ("checksum", True)
    assert "zstd" in str(found.message)


@pytest.mark.parametrize("closed", ["database.dump", "manifest.json", ""])
def test_who_may_not_read_says_nothing_about_the_backup(backups: Callable[[str], Path], closed: str) -> None:
    manifest = read_manifest(backups("custom, gzip"))
    # Not below the folder of the tests, which nobody else may enter.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        backup = copied(backups("custom, gzip"), Path(place))
        for path in (backup, *backup.iterdir()):
            path.chmod(0o755)
        (backup / closed).chmod(0o000)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setuid(65534)
                look(backup, "checksum", manifest=manifest)
            except InvalidValue as error:
                code = 0 if "Permission denied" in error.message else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        backup.chmod(0o755)


def test_a_look_ends_when_the_run_does(backups: Callable[[str], Path]) -> None:
    class Over(Exception):
        pass

    def over() -> None:
        raise Over

    with pytest.raises(Over):
        look(backups("custom, gzip"), tick=over)


def test_an_older_client_reads_an_older_archive(backups: Callable[[str], Path]) -> None:
    """The newest client's archive has a version that no older one knows; it says so, and that is no fault of the backup."""
    older = find_client(120000, "/usr/lib/postgresql/15/bin") if Path("/usr/lib/postgresql/15/bin/pg_restore").exists() else None
    if older is None:
        pytest.skip("no older client is installed")
    found = look(backups("custom, gzip"), client=older)
    assert (found.how, found.ok) == ("checksum", True)
