"""What is encrypted is restored without ever standing on a disk of this host as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._restore import unpack
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import backing, hiding, restoring

pytestmark = pytest.mark.any_driver
ROWS = "SELECT count(*), sum(total) FROM shop.orders"
SECRET = hiding.marker()


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Database]:
    """The small database with `SECRET` in a row."""
    with backing.filled(cluster, "encrypted_shop") as made:
        made.query(f"UPDATE shop.customers SET name = '{SECRET}' WHERE id = 17")
        yield made


@pytest.fixture(scope="module")
def keys(request: pytest.FixtureRequest) -> Iterator[hiding.Keys]:
    """A pair of keys."""
    with hiding.keys_of(request.param) as made:
        yield made


@pytest.fixture
def target(shop: Database) -> Iterator[Database]:
    """A name that no database has; one that has got it is dropped after the test, and nothing hidden is left."""
    with restoring.unused(shop.cluster) as name:
        yield name


def places(patch: pytest.MonkeyPatch, folder: Path) -> tuple[Path, Path, Path]:
    """Return where backups stand, where files may be unpacked, and where temporary ones go."""
    scratch = folder / "scratch"
    scratch.mkdir()
    return folder / "backups", scratch, hiding.somewhere_temporary(patch, folder / "temporary")


@pytest.mark.parametrize(("keys", "form", "compression"), hiding.WAYS, indirect=["keys"])
def test_an_encrypted_backup_never_stands_on_the_disk(
    shop: Database, target: Database, tmp_path: Path, keys: hiding.Keys, monkeypatch: pytest.MonkeyPatch, form: str, compression: str
) -> None:
    folder, scratch, temporary = places(monkeypatch, tmp_path)
    monkeypatch.setattr(unpack, "unpack", lambda *_files: pytest.fail("it is unpacked"))
    backing.made(shop, folder, format=form, compression=compression, encrypt=keys.encrypt)
    # What is decrypted to a file for it stands there at least as long as the program runs.
    programs = backing.recording_bin_dir(tmp_path, after=hiding.till_looked_at(tmp_path / "waiting"))
    with hiding.Look([folder, scratch, temporary], [SECRET, "customer 18"], tmp_path / "waiting") as look:
        result = restoring.restore(
            shop, folder, target=target.name, jobs=4, bin_dir=str(programs), scratch_folder=str(scratch), **keys.reading
        )
    assert look.found == set()
    assert {Path(path).relative_to(tmp_path).parts[0] for path in look.seen} == {folder.name}
    assert (result["action"], target.query(ROWS)) == ("restored", shop.query(ROWS))
    assert target.query("SELECT name FROM shop.customers WHERE id = 17") == [(SECRET,)]


def test_that_look_sees_what_is_unpacked(shop: Database, target: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scratch, _temporary = places(monkeypatch, tmp_path)
    backing.made(shop, folder, format="custom", compression="zstd")
    programs = backing.recording_bin_dir(tmp_path, after=hiding.till_looked_at(tmp_path / "waiting"))
    with hiding.Look([scratch], [SECRET], tmp_path / "waiting") as look:
        restoring.restore(shop, folder, target=target.name, jobs=4, bin_dir=str(programs), scratch_folder=str(scratch))
    assert {Path(path).parent.name[: len(unpack.PREFIX)] for path in look.found} == {unpack.PREFIX}


def test_without_the_key_nothing_is_restored(shop: Database, target: Database, tmp_path: Path) -> None:
    with hiding.keys_of("gpg") as keys:
        backing.made(shop, tmp_path, format="custom", encrypt=keys.encrypt)
        home = Path(keys.reading["gpg_home"])
        (home / "private-keys-v1.d").rename(tmp_path / "keys taken away")
        with pytest.raises(ProgramFailed, match="gpg"):
            restoring.restore(shop, tmp_path, target=target.name, **keys.reading)
    assert target.name not in restoring.databases(shop.cluster)
