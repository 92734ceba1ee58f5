"""Dumps that pg_dump itself compresses by zstd and lz4: made, decoded, restored and drilled, and what is wrong with them found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client, find_client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused, RunbookError
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.integration import backing, handmade, restoring
from tests.integration.drilling import rehearse
from tests.tools import compressing_client

pytestmark = pytest.mark.any_driver
# Large enough for several blocks of each compressor.
ROWS = "INSERT INTO shop.customers (name, born) SELECT md5(n::text), date '1970-01-01' + n FROM generate_series(1, 20000) n"
Kind = tuple[str, str]
KINDS = [(form, method) for form in ("directory", "custom") for method in ("zstd", "lz4")]
# Where the one of a form and the other of the other say all.
CROSSED = [("directory", "zstd"), ("custom", "lz4")]
SUFFIXES = {"zstd": ".zst", "lz4": ".lz4"}
MAGIC = {"zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}


@pytest.fixture(scope="module")
def programs() -> Path:
    """Client programs that can."""
    try:
        return compressing_client.bin_dir()
    except ProgramMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def client(programs: Path) -> Client:
    """The same as the engine sees them."""
    return find_client(120000, str(programs))


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """The small database, with a large table."""
    with backing.filled(cluster, "inside_shop") as made:
        made.query(ROWS)
        yield made


@pytest.fixture(scope="module")
def backups(shop: Database, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """A backup of each kind, in a folder of its own; tests that spoil one use copies."""
    made = {}
    for form, method in KINDS:
        folder = tmp_path_factory.mktemp(f"{form}-{method}")
        made[form, method] = backing.made(shop, folder, format=form, compression=method, compression_level=3, bin_dir=str(programs))
    return made


@pytest.fixture
def target(shop: Database) -> Iterator[Database]:
    """A name that no database has; one that has got it is dropped after the test, and nothing hidden is left."""
    with restoring.unused(shop.cluster) as name:
        yield name


def member_of(backup: Path) -> Path:
    """Return the file of a backup that has the most rows."""
    found = [path for path in backup.rglob("*") if path.is_file() and path.relative_to(backup).parts[0].startswith("database")]
    return max(found, key=lambda path: path.stat().st_size)


def flipped(content: bytes, place: int) -> bytes:
    """Return other bytes of the same length."""
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


@pytest.mark.parametrize(("form", "method"), KINDS)
def test_pg_dump_compresses_and_what_it_wrote_comes_back(
    shop: Database, backups: dict[Kind, Path], target: Database, programs: Path, client: Client, form: str, method: str
) -> None:
    backup = backups[form, method]
    document = backing.manifest(backup)
    assert document["dump"]["compression"] == {"method": method, "level": 3, "by": "pg_dump"}
    assert document["verified"]["how"] == "decode"
    if form == "directory":
        member = member_of(backup)
        assert (member.suffixes, member.read_bytes()[:4]) == ([".dat", SUFFIXES[method]], MAGIC[method])
        # Small ones too, which a program would have left as they are.
        assert [path.name for path in member.parent.glob("*.dat") if path.name != "toc.dat"] == []
    else:
        assert MAGIC[method] in (backup / "database.dump").read_bytes()
    assert (handmade.look(backup, client=client).how, handmade.look(backup, client=client).ok) == ("decode", True)
    result = restoring.restore(shop, path=str(backup), target=target.name, bin_dir=str(programs), jobs=3)
    assert (result["action"], result["rows"]) == ("restored", sum(backing.ROWS.values()) + 20000)
    everything = "SELECT count(*), md5(string_agg(c::text, ',' ORDER BY id)) FROM shop.customers c"
    assert target.query(everything) == shop.query(everything)


@pytest.mark.parametrize(("form", "method"), CROSSED)
def test_a_drill_passes(cluster: Cluster, backups: dict[Kind, Path], programs: Path, tmp_path: Path, form: str, method: str) -> None:
    backup = handmade.copied(backups[form, method], tmp_path / "backups")
    result = rehearse(cluster, backup.parent, bin_dir=str(programs))
    assert result["passed"], result["reasons"]


def test_auto_is_zstd_by_pg_dump_and_asked_for_once(shop: Database, programs: Path, tmp_path: Path) -> None:
    own = backing.recording_bin_dir(tmp_path, real=programs)
    backup = backing.made(shop, tmp_path / "backups", bin_dir=str(own))
    assert backing.manifest(backup)["dump"]["compression"] == {"method": "zstd", "level": None, "by": "pg_dump"}
    assert [call for call in backing.calls(own) if call.startswith("pg_dump ") and "--snapshot=" in call and "--compress=zstd " in call]
    assert len([call for call in backing.calls(own) if "/dev/null/nowhere" in call]) == 1
    backing.made(shop, tmp_path / "level", bin_dir=str(own), format="custom", compression="lz4", compression_level=9)
    assert [call for call in backing.calls(own) if "--snapshot=" in call and "--compress=lz4:9 " in call]
    # What psql reads is compressed by a program all the same: pg_dump would write it, and nothing here read it.
    plain = backing.made(shop, tmp_path / "plain", bin_dir=str(own), format="plain", compression="zstd")
    assert backing.manifest(plain)["dump"]["compression"]["by"] == "program"


@pytest.mark.parametrize(("form", "method"), KINDS)
def test_what_is_wrong_with_one_is_found(
    shop: Database,
    backups: dict[Kind, Path],
    target: Database,
    programs: Path,
    client: Client,
    tmp_path: Path,
    form: str,
    method: str,
) -> None:
    backup = handmade.copied(backups[form, method], tmp_path)
    member = member_of(backup)
    content = member.read_bytes()
    harms = [content[:-1], content[: len(content) // 2], *(flipped(content, len(content) * part // 8) for part in range(1, 8))]
    for harm in harms:
        member.write_bytes(harm)
        assert (handmade.look(backup, client=client).how, handmade.look(backup, client=client).ok) == ("checksum", False)
    # Where the hashes were made of what is wrong already.
    for harm in harms[:2]:
        member.write_bytes(harm)
        found = handmade.look(handmade.resealed(backup), client=client)
        assert (found.how, found.ok) == ("decode", False)
    # pg_dump puts no check sums into what it compresses: a flipped bit may decode, and to other rows. A restore finds those.
    member.write_bytes(harms[5])
    handmade.resealed(backup)
    with pytest.raises(RunbookError):
        restoring.restore(shop, path=str(backup), target=target.name, bin_dir=str(programs))
    assert target.name not in restoring.databases(shop.cluster)


@pytest.mark.parametrize(("form", "method"), CROSSED)
def test_programs_that_cannot_say_so_and_blame_no_backup(
    shop: Database, backups: dict[Kind, Path], target: Database, tmp_path: Path, form: str, method: str
) -> None:
    """The programs that the other tests have were built without: what is in a single file only pg_restore can decode."""
    backup = backups[form, method]
    found = handmade.look(backup)
    assert (found.how, found.ok) == ("checksum" if form == "custom" else "decode", True)
    assert (form == "custom") == ("does not support compression" in str(found.message))
    for check_mode in (True, False):
        with pytest.raises(Refused, match=f"has compressed the backup by {method}, for which pg_restore in .* was not built"):
            restoring.restore(shop, path=str(backup), target=target.name, check_mode=check_mode)
    copy = handmade.copied(backup, tmp_path / "backups")
    result = rehearse(shop.cluster, copy.parent)
    assert (result["passed"], "was not built" in result["msg"]) == (False, True)
    assert not (copy / "verified.json").exists()
