"""Databases that are not in UTF-8: names and rows of every encoding, also text that no other encoding has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import compare
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import measure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.integration.backing import back_up, login, made, manifest, row_counts

pytestmark = pytest.mark.any_driver


@contextmanager
def encoded(cluster: Cluster, name: str, encoding: str) -> Iterator[Database]:
    with cluster.connect() as superuser:
        superuser.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    with Database(cluster, name) as database:
        yield database


@pytest.mark.parametrize(("encoding", "odd"), [("SQL_ASCII", b"M\xfcller"), ("WIN1252", b"a\x81b")])
def test_text_that_cannot_be_converted_is_backed_up_and_compared(cluster: Cluster, tmp_path: Path, encoding: str, odd: bytes) -> None:
    with encoded(cluster, "odd_text", encoding) as database:
        with database.connect(client_encoding=encoding if encoding != "SQL_ASCII" else "LATIN1") as connection:
            connection.execute("CREATE TABLE plain AS SELECT 1 AS n, 'text' AS t")
            connection.execute(f"CREATE TABLE odd AS SELECT 1 AS n, convert_from('\\x{odd.hex()}', '{encoding}') AS t")
        backup = made(database, tmp_path, verify="restore")
        assert row_counts(backup) == {"public.odd": 1, "public.plain": 1}
        assert {table["name"]: table["by"] for table in manifest(backup)["tables"]} == {"public.odd": "text", "public.plain": "binary"}
        with connect(login(database), application_name="test", read_only=True) as session:
            before = measure(session, Scope())
        other = odd.replace(b"\xfc", b"\xfd").replace(b"\x81", b"\x8d")
        for text in (other, b"ascii"):
            database.query(f"UPDATE odd SET t = convert_from('\\x{text.hex()}', '{encoding}')")
            with connect(login(database), application_name="test", read_only=True) as session:
                differences = compare(before, measure(session, Scope()), same_major=True)
            assert [(one.kind, one.table) for one in differences] == [("rows", "public.odd")]


@pytest.mark.parametrize("encoding", ["LATIN1", "UTF8"])
def test_named_tables_and_schemas_are_found_in_every_encoding(cluster: Cluster, tmp_path: Path, encoding: str) -> None:
    with encoded(cluster, "odd_names", encoding) as database:
        with database.connect() as connection:
            connection.execute('CREATE SCHEMA "größe" CREATE TABLE "Müller" (n int) CREATE TABLE other (n int)')
        for number, options in enumerate(({"kind": "tables", "tables": ['"größe"."Müller"']}, {"kind": "schemas", "schemas": ["größe"]})):
            made_one = made(database, tmp_path, name=f"part{number}", **options)
            assert '"größe"."Müller"' in row_counts(made_one)
        assert back_up(database, tmp_path, kind="schemas", schemas=["größe"], name="part1")["changed"] is False
