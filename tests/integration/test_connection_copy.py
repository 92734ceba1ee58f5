"""Rows streamed into a table by a session of the collection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, Refused
from tests.integration.cleaning import Cleaner

COPY = "COPY public.t (a, b) FROM STDIN"


def test_chunks_become_rows_wherever_they_are_cut(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (a int, b text)")
    line = "7\té" + "x" * 200_000 + "\n"
    with cleaner.open() as session:
        with session.transaction():
            assert session.copy_in(COPY, [b"1\ton", b"", b"e\n2\t", "õ\n".encode()]) == 2
            assert session.copy_in(COPY, [line.encode() * 20]) == 20
            assert session.copy_in(COPY, []) == 0
        assert session.rows("SELECT a, b FROM public.t WHERE a < 7 ORDER BY a") == [{"a": 1, "b": "one"}, {"a": 2, "b": "õ"}]
        assert session.value("SELECT count(*) FROM public.t WHERE length(b) = 200001") == 20


def test_what_the_source_raises_passes_through_and_nothing_is_kept(cleaner: Cleaner) -> None:
    cleaner.sql("CREATE TABLE t (a int, b text)")

    def broken() -> Iterator[bytes]:
        yield b"1\tone\n"
        raise Refused("the source broke")

    with cleaner.open() as session:
        with pytest.raises(Refused, match="the source broke"):
            session.copy_in(COPY, broken())
        with pytest.raises(DatabaseError, match="invalid input syntax") as caught:
            session.copy_in(COPY, [b"1\tone\n", b"x\ttwo\n"])
        assert caught.value.sqlstate == "22P02"
        with pytest.raises(DatabaseError) as caught:
            session.copy_in("COPY public.missing FROM STDIN", [b"1\n"])
        assert caught.value.sqlstate == "42P01"
        assert session.value("SELECT count(*) FROM public.t") == 0
