"""What compressors and encryptors wrote can be read again, by the commands that the names of the files say."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import (
    Compression,
    Encryption,
    choose_compression,
    decoders,
    encoders,
    member_compressors,
)
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import hash_files, read_stream, run_all, write_stream
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client, find_client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.integration.hiding import Keys, keys_of
from tests.tools.debian_programs import program

pytestmark = pytest.mark.any_driver

LINES = ["seq", "100000"]
METHODS = ["zstd", "lz4", "gzip"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "lines"
    write_stream([LINES], path)
    return path


@pytest.fixture
def client(cluster: Cluster) -> Client:
    pg_dump = cluster.installation.program("pg_dump")
    return find_client(cluster.installation.major * 10000, str(pg_dump.parent))


def installed(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def copied(path: Path, *commands: list[str]) -> bytes:
    parts: list[bytes] = []
    read_stream(path, commands, lambda data: bool(parts.append(data)))
    return b"".join(parts)


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_compressed_comes_back(plain: Path, tmp_path: Path, method: str, level: int | None) -> None:
    installed(method)
    compression = Compression(method, level, "program")
    path = tmp_path / f"lines{compression.suffix}"
    write_stream([["cat", str(plain)], *encoders(compression, threads=2)], path)
    assert path.stat().st_size < plain.stat().st_size
    assert copied(path, *decoders(str(path))) == plain.read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_every_flipped_bit_is_noticed(plain: Path, tmp_path: Path, method: str) -> None:
    installed(method)
    compression = Compression(method, None, "program")
    path = tmp_path / f"lines{compression.suffix}"
    write_stream([["cat", str(plain)], *encoders(compression)], path)
    whole = path.read_bytes()
    for place in range(len(whole) // 16, len(whole), len(whole) // 8):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ProgramFailed):
            copied(path, *decoders(str(path)))
    path.write_bytes(whole[:-1])
    with pytest.raises(ProgramFailed):
        copied(path, *decoders(str(path)))


@pytest.mark.parametrize("method", METHODS)
def test_members_are_compressed_in_place(plain: Path, tmp_path: Path, method: str) -> None:
    installed(method)
    for number in range(5):
        shutil.copyfile(plain, tmp_path / f"{number}.dat")
    compression = Compression(method, 1, "program")
    members = sorted(map(str, tmp_path.iterdir()))
    run_all(member_compressors(compression, members, 2), parallel=2)
    assert sorted(os.listdir(tmp_path)) == [f"{number}.dat{compression.suffix}" for number in range(5)]
    for path in tmp_path.iterdir():
        assert copied(path, *decoders(str(path))) == plain.read_bytes()


@pytest.mark.parametrize("method", ["auto", "zstd", "lz4", "gzip", "none"])
@pytest.mark.parametrize("form", ["custom", "plain"])
def test_a_dump_is_compressed_by_whoever_can(database: Database, client: Client, tmp_path: Path, method: str, form: str) -> None:
    installed("zstd", "lz4")
    database.query("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g")
    compression = choose_compression(method, form, client)
    target = database.cluster.conninfo(database.name)
    command = [client.program("pg_dump"), f"--format={form}", *compression.dump_arguments(client), "-d", target]
    path = tmp_path / f"dump{compression.suffix}"
    write_stream([command, *encoders(compression)], path)
    if form == "plain":
        assert b"PostgreSQL database dump complete" in copied(path, *decoders(str(path)))
    else:
        restored = copied(path, *decoders(str(path)), [client.program("pg_restore"), "-f", "-"])
        assert b"CREATE TABLE public.t" in restored
        assert restored.count(b"\n1000\n") == 1


# --- encryption -------------------------------------------------------------------------------------------------------


@pytest.fixture
def age() -> Iterator[Keys]:
    """A pair of keys for age, which is on the path."""
    with keys_of("age") as keys:
        yield keys


def test_only_the_identity_opens_what_age_closed(plain: Path, tmp_path: Path, age: Keys) -> None:
    encryption = Encryption.from_option(age.encrypt)
    assert encryption is not None
    path = tmp_path / f"lines.gz{encryption.suffix}"
    commands = encoders(Compression("gzip", None, "program"), encryption)
    assert write_stream([["cat", str(plain)], *commands], path) == hash_files([path])[str(path)]
    assert b"age-encryption.org" in path.read_bytes()[:100]
    assert copied(path, *decoders(str(path), age.reading["identity"])) == plain.read_bytes()
    with keys_of("age") as other, pytest.raises(ProgramFailed, match="age"):
        copied(path, *decoders(str(path), other.reading["identity"]))


def test_a_recipient_that_age_does_not_take_is_an_error(plain: Path, tmp_path: Path, age: Keys) -> None:
    encryption = Encryption("age", (age.encrypt["age"][0][:-1],))
    with pytest.raises(ProgramFailed, match="recipient") as failed:
        write_stream([["cat", str(plain)], *encoders(Compression("none"), encryption)], tmp_path / "out")
    assert failed.value.program == "age"


def test_gpg_closes_for_its_recipients_alone(plain: Path, tmp_path: Path) -> None:
    with keys_of("gpg") as keys:
        encryption = Encryption.from_option(keys.encrypt)
        assert encryption is not None
        path = tmp_path / f"lines{encryption.suffix}"
        write_stream([["cat", str(plain)], *encoders(Compression("none"), encryption)], path)
        assert plain.read_bytes()[:100] not in path.read_bytes()
        assert copied(path, *decoders(str(path), **keys.reading)) == plain.read_bytes()
        unknown = Encryption("gpg", ("nobody@example.org",), keys.reading["gpg_home"])
        with pytest.raises(ProgramFailed, match=r"nobody@example\.org"):
            write_stream([["cat", str(plain)], *encoders(Compression("none"), unknown)], tmp_path / "out")


@pytest.mark.parametrize("name", ["age", "rsync", "rclone"])
def test_the_programs_of_debian_run(name: str) -> None:
    try:
        path = program(name)
    except ProgramMissing as reason:
        pytest.skip(str(reason))
    option = "version" if name == "rclone" else "--version"
    assert subprocess.run([path, option], capture_output=True, check=False).returncode == 0
