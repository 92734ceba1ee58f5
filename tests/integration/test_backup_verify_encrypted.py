"""Verification of encrypted backups: with the key down to the last row, and without it what can be said honestly."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_manifest
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration import handmade
from tests.integration.handmade import copied, look, resealed
from tests.integration.hiding import Keys, keys_of

pytestmark = pytest.mark.any_driver


@pytest.fixture(scope="module")
def keys() -> Iterator[list[Keys]]:
    """Two pairs of keys of age, with age in the PATH."""
    with keys_of("age") as one, keys_of("age") as other:
        yield [one, other]


@pytest.fixture(scope="module")
def backup(cluster: Cluster, keys: list[Keys], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An encrypted backup, dump and globals; tests use copies."""
    with Database.create(cluster, "secret-one") as database:
        handmade.fill(cluster, database.name)
        made = handmade.dumped(cluster, database.name, tmp_path_factory.mktemp("backups"), "custom, zstd outside")
        for path in (made / "database.dump.zst", made / "globals.sql"):
            subprocess.run(["age", "--encrypt", "--recipient", keys[0].encrypt["age"][0], "--output", f"{path}.age", path], check=True)
            path.unlink()
        dump = {**read_manifest(made)["dump"], "encryption": {"method": "age", "recipients": [keys[0].encrypt["age"][0]]}}
        yield resealed(made, dump=dump, globals={"file": "globals.sql.age", "role_passwords": True, "note": None})


def test_with_its_key_it_is_decoded(backup: Path, keys: list[Keys]) -> None:
    found = look(backup, identity=keys[0].reading["identity"])
    assert (found.how, found.ok, found.message) == ("decode", True, None)


def test_without_its_key_only_the_checksums_are_looked_at(backup: Path, keys: list[Keys], tmp_path: Path) -> None:
    for options, words in (
        ({}, "nobody said with which key"),
        ({"identity": keys[1].reading["identity"]}, "no identity matched"),
        ({"gpg_home": str(tmp_path)}, "identity: the file is encrypted with age"),
    ):
        found = look(backup, **options)
        assert (found.how, found.ok) == ("checksum", True), words
        assert words in str(found.message)


@pytest.mark.parametrize("member", ["database.dump.zst.age", "globals.sql.age"])
def test_what_was_spoilt_before_it_was_hashed_is_found_with_the_key(backup: Path, keys: list[Keys], member: str, tmp_path: Path) -> None:
    spoilt = copied(backup, tmp_path / "copy")
    path = spoilt / member
    content = path.read_bytes()
    chance = random.Random(member)
    cases = [content[:-1], content[: len(content) // 2]]
    for _number in range(10):
        flipped = bytearray(content)
        place = chance.randrange(8 * 300, 8 * len(content))
        flipped[place // 8] ^= 1 << place % 8
        cases.append(bytes(flipped))
    for case in cases:
        path.write_bytes(case)
        assert look(spoilt).how == "checksum"
        resealed(spoilt)
        found = look(spoilt, identity=keys[0].reading["identity"])
        assert (found.how, found.ok) == ("decode", False)
        assert member in str(found.message)
