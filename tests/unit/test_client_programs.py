"""Which client programs are chosen, what is known of their flaws, and the commands that compress and encrypt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import (
    Compression,
    Encryption,
    choose_compression,
    decoders,
    encoders,
    member_compressors,
)
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import client_login
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client, find_client
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, ProgramMissing


def programs(folder: Path, says: str, name: str = "pg_dump") -> Path:
    """Put a program that tells a version into `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder


# --- which programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("pg_dump (PostgreSQL) 17.2", (17, 2)),
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("pg_dump (PostgreSQL) 19beta1", (19, 0)),
        ("pg_dump (PostgreSQL) 20devel", (20, 0)),
    ],
)
def test_the_programs_of_a_folder_tell_their_version(tmp_path: Path, says: str, version: tuple[int, int]) -> None:
    assert find_client(120001, str(programs(tmp_path / "bin", says))) == Client(str(tmp_path / "bin"), version)


def test_older_programs_than_the_server_are_refused_with_both_versions(tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin", "pg_dump (PostgreSQL) 15.18")
    with pytest.raises(InvalidValue) as refused:
        find_client(160003, str(folder))
    assert "16.3" in str(refused.value)
    assert "15.18" in str(refused.value)
    assert str(folder) in str(refused.value)
    assert refused.value.object_name == "bin_dir"


def test_an_older_minor_of_the_same_major_is_good_enough(tmp_path: Path) -> None:
    assert find_client(150018, str(programs(tmp_path / "bin", "pg_dump (PostgreSQL) 15.1"))).version == (15, 1)


def test_the_newest_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [programs(tmp_path / name, f"pg_dump (PostgreSQL) {name}.1") for name in ("97", "99", "98")]
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, folders), os.environ["PATH"]]))
    assert find_client(150018) == Client(str(tmp_path / "99"), (99, 1))


def test_the_wrapper_of_debian_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = programs(tmp_path / "bin", "pg_dump (PostgreSQL) 99.1", "pg_wrapper")
    (folder / "pg_dump").symlink_to("pg_wrapper")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises((InvalidValue, ProgramMissing)) as refused:
        find_client(990001)
    assert "99.1:" not in str(refused.value)
    with pytest.raises(InvalidValue, match="pg_wrapper"):
        find_client(150018, str(folder))


@pytest.mark.parametrize("says", [None, "not PostgreSQL"])
def test_a_folder_without_the_programs_is_refused(tmp_path: Path, says: str | None) -> None:
    if says:
        programs(tmp_path, says)
    with pytest.raises(InvalidValue, match="bin_dir"):
        find_client(150018, str(tmp_path))


def test_a_program_that_the_folder_lacks_is_named(tmp_path: Path) -> None:
    client = find_client(150018, str(programs(tmp_path / "bin", "pg_dump (PostgreSQL) 17.2")))
    assert client.program("pg_dump") == str(tmp_path / "bin" / "pg_dump")
    with pytest.raises(ProgramMissing, match="pg_restore"):
        client.program("pg_restore")


# --- known flaws ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "named", "right"),
    [
        ((17, 5), ["CVE-2025-8714", "CVE-2025-8715", "CVE-2026-6477", "CVE-2026-18408"], "17.11"),
        ((17, 6), ["CVE-2026-6477", "CVE-2026-18408"], "17.11"),
        ((15, 18), ["CVE-2026-18408"], "15.19"),
        ((18, 3), ["CVE-2026-6477", "CVE-2026-18408"], "18.6"),
    ],
)
def test_a_client_below_its_floor_is_named_with_what_it_is_open_to(version: tuple[int, int], named: list[str], right: str) -> None:
    sentence = Client("/somewhere", version).below_floor() or ""
    assert [word for word in ("CVE-2025-8714", "CVE-2025-8715", "CVE-2026-6477", "CVE-2026-18408") if word in sentence] == named
    assert f"use {right} or newer" in sentence
    assert "/somewhere" in sentence


@pytest.mark.parametrize("version", [(14, 24), (15, 19), (16, 15), (17, 11), (18, 6), (18, 9), (19, 0)])
def test_a_client_at_its_floor_is_not_named(version: tuple[int, int]) -> None:
    assert Client("/somewhere", version).below_floor() is None


@pytest.mark.parametrize("version", [(12, 22), (13, 21), (13, 23)])
def test_a_major_that_got_no_correction_is_below_by_definition(version: tuple[int, int]) -> None:
    sentence = Client("/somewhere", version).below_floor() or ""
    assert "CVE-2026-18408" in sentence
    assert "gets no correction any more" in sentence


# --- compression and encryption ---------------------------------------------------------------------------------------


@pytest.fixture
def _with_compressors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("age", "gpg", "zstd", "lz4", "gzip"):
        programs(tmp_path / "compressors", "", name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'compressors'}{os.pathsep}{os.environ['PATH']}")


OLD, NEW = Client("/none", (15, 18)), Client("/none", (18, 6))


@pytest.mark.usefixtures("_with_compressors")
def test_gzip_is_done_by_pg_dump_itself_but_for_plain_text() -> None:
    assert choose_compression("gzip", "directory", OLD, 5) == Compression("gzip", 5, "pg_dump")
    assert choose_compression("gzip", "custom", OLD).dump_arguments(OLD) == []
    assert choose_compression("gzip", "custom", OLD, 5).dump_arguments(OLD) == ["--compress=5"]
    assert choose_compression("gzip", "custom", NEW, 5).dump_arguments(NEW) == ["--compress=gzip:5"]
    plain = choose_compression("gzip", "plain", NEW, 5)
    assert (plain.by, plain.suffix, plain.dump_arguments(NEW)) == ("program", ".gz", ["--compress=0"])


@pytest.mark.usefixtures("_with_compressors")
def test_an_old_client_has_a_program_beside_it() -> None:
    chosen = choose_compression("zstd", "directory", OLD, 3)
    assert chosen == Compression("zstd", 3, "program")
    assert chosen.suffix == ".zst"
    assert choose_compression("auto", "directory", OLD).method == "zstd"


def test_auto_falls_back_to_gzip_without_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_compression("auto", "custom", OLD) == Compression("gzip", None, "pg_dump")
    with pytest.raises(ProgramMissing, match="zstd") as refused:
        choose_compression("zstd", "custom", OLD)
    assert "Install the package zstd" in (refused.value.hint or "")
    with pytest.raises(ProgramMissing, match="gzip"):
        choose_compression("auto", "plain", OLD)


def test_no_compression_is_nobodys_work() -> None:
    chosen = choose_compression("none", "plain", NEW)
    assert (chosen.by, chosen.suffix, chosen.dump_arguments(NEW), encoders(chosen)) == (None, "", ["--compress=0"], [])


@pytest.mark.parametrize(("method", "level"), [("zstd", 20), ("zstd", 23), ("lz4", 13), ("gzip", 10), ("gzip", 0)])
def test_a_level_that_does_not_exist_is_refused(method: str, level: int) -> None:
    with pytest.raises(InvalidValue, match="compression_level"):
        read_options({"folder": "/backups", "compression": method, "compression_level": level})


@pytest.mark.usefixtures("_with_compressors")
def test_members_are_shared_out() -> None:
    members = [f"/b/{number}.dat" for number in range(7)]
    commands = member_compressors(Compression("zstd", 3, "program"), members, 3)
    assert sorted(word for command in commands for word in command if word.endswith(".dat")) == members
    assert len(commands) == 3
    many = member_compressors(Compression("zstd", 3, "program"), [str(number) for number in range(2001)], 2)
    assert max(map(len, many)) < 600


@pytest.mark.usefixtures("_with_compressors")
def test_suffixes_say_how_to_decode() -> None:
    assert [Path(command[0]).name for command in decoders("/x.gz/shop.v2.dump.zst.age", "/key")] == ["age", "zstd"]
    assert [Path(command[0]).name for command in decoders("globals.sql.gz.gpg", gpg_home="/home")] == ["gpg", "gzip"]
    assert decoders("3456.dat") == []
    with pytest.raises(InvalidValue, match="identity"):
        decoders("x.age")


def test_recipients_are_of_one_kind_and_public() -> None:
    assert Encryption.from_option({"age": [], "gpg": None}) is None
    assert Encryption.from_option({"gpg": ["me@example.org"], "gpg_home": "/g"}) == Encryption("gpg", ("me@example.org",), "/g")
    with pytest.raises(InvalidValue, match="of one kind"):
        Encryption.from_option({"age": ["age1x"], "gpg": ["x"]})
    with pytest.raises(InvalidValue, match="recipient 2") as refused:
        Encryption.from_option({"age": ["age1x", "AGE-SECRET-KEY-1ABC"]})
    assert "1ABC" not in str(refused.value.as_result())


# --- what cannot be handed on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sslpassword", "scram_client_key", "oauth_client_secret", "pasword"])
def test_a_secret_that_everybody_would_see_is_refused(name: str) -> None:
    options = ConnectionOptions(connect_params={name: "hush-hush"})
    with pytest.raises(InvalidValue, match=name) as refused, client_login(options, "shop", "test"):
        pass
    assert "hush-hush" not in str(refused.value.as_result())


def test_a_password_with_a_line_end_is_refused() -> None:
    with (
        pytest.raises(InvalidValue, match="line end") as refused,
        client_login(ConnectionOptions(login_password="hush\nhush"), "shop", "test"),
    ):
        pass
    assert "hush" not in str(refused.value.as_result())
