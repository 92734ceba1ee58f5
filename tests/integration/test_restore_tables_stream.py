"""The rows of one table come out of any kind of dump, those and no others, or an error does."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore.copy_text import CopyText
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import Archive, table_rows
from tests.ground.databases import Database
from tests.integration.dumping import archive, dump
from tests.integration.watching import run_script

HARD = r"""
CREATE SCHEMA a; CREATE SCHEMA "a b"; CREATE SCHEMA "x
y";
CREATE TABLE a."b t" (id int, v text);
CREATE TABLE "a b".t (id int, v text);
CREATE TABLE public.t (id int, v text, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE "x
y"."Tä ""q"" (a) FROM stdin;
z" ("c, d" int, "e)
f" text);
CREATE TABLE public.empty (id int);
CREATE TABLE public.bare ();
CREATE FUNCTION public.fake() RETURNS text LANGUAGE sql AS $body$
  SELECT 'it''s
COPY public.t (id, v) FROM stdin;
0	from a function
\.
'::text
$body$;
COMMENT ON FUNCTION public.fake() IS 'a comment with
COPY public.t (id, v) FROM stdin;
0	from a comment
\.
';
INSERT INTO a."b t" VALUES (1, 'first schema');
INSERT INTO "a b".t VALUES (2, 'second schema');
INSERT INTO public.t VALUES (1, E'\\.'), (2, E'COPY a."b t" (id, v) FROM stdin;\n'), (3, NULL), (4, 'õ'), (5, E'\\\\.\n\\.\n');
INSERT INTO public.t SELECT n, repeat(md5(n::text), 50) FROM generate_series(6, 400) AS n;
INSERT INTO "x
y" . "Tä ""q"" (a) FROM stdin;
z" VALUES (7, E'\\N');
INSERT INTO public.bare DEFAULT VALUES;
"""
ODD = RelationName("x\ny", 'Tä "q" (a) FROM stdin;\nz')
FORMS = [
    ("directory", ""),
    ("directory", ".zst"),
    ("directory", ".lz4"),
    ("custom", ""),
    ("custom", ".zst"),
    ("plain", ""),
    ("plain", ".gz"),
]


def rows_of(source: Archive, table: RelationName) -> tuple[tuple[str, ...], bytes]:
    with table_rows(source, table) as rows:
        return rows.header.columns, b"".join(rows.chunks)


@pytest.fixture(scope="module")
def hard(cluster) -> Database:
    with Database.create(cluster, "stream_hard") as database:
        run_script(database, HARD)
        yield database


@pytest.mark.parametrize(("form", "outside"), FORMS, ids="".join)
def test_the_rows_of_a_table_and_no_others(hard: Database, tmp_path: Path, form: str, outside: str) -> None:
    source = archive(tmp_path, dump(hard, tmp_path, form, outside))
    assert rows_of(source, RelationName("a", "b t")) == (("id", "v"), b"1\tfirst schema\n")
    assert rows_of(source, RelationName("a b", "t")) == (("id", "v"), b"2\tsecond schema\n")
    assert rows_of(source, ODD) == (("c, d", "e)\nf"), b"7\t\\\\N\n")
    assert rows_of(source, RelationName("public", "empty")) == (("id",), b"")
    assert rows_of(source, RelationName("public", "bare")) == ((), b"\n")
    columns, rows = rows_of(source, RelationName("public", "t"))
    assert columns == ("id", "v")
    lines = rows.split(b"\n")
    assert lines[:5] == [b"1\t\\\\.", b'2\tCOPY a."b t" (id, v) FROM stdin;\\n', b"3\t\\N", "4\tõ".encode(), b"5\t\\\\\\\\.\\n\\\\.\\n"]
    assert len(lines) == 401
    with pytest.raises(MissingObject, match=r"holds no rows of table public\.nowhere"):
        rows_of(source, RelationName("public", "nowhere"))


@pytest.mark.parametrize("form", ["custom", "plain", "directory"])
def test_a_dump_that_is_cut_off_gives_an_error_and_not_fewer_rows(hard: Database, tmp_path: Path, form: str) -> None:
    source = archive(tmp_path, dump(hard, tmp_path, form, "" if form == "custom" else ".zst"))
    table = RelationName("public", "t")
    expected = rows_of(source, table)
    file = max((path for path in tmp_path.rglob("*") if path.is_file() and path.name != "toc.dat"), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    for share in (0.999, 0.5, 0.1):
        file.write_bytes(whole[: int(len(whole) * share)])
        try:
            found = rows_of(source, table)
        except (ProgramFailed, InvalidValue, MissingObject):
            continue
        # What pg_restore does not read of the end may be gone.
        assert (form, share, found) == ("custom", 0.999, expected)


def test_a_plain_dump_without_its_last_line_is_no_dump(hard: Database, tmp_path: Path) -> None:
    source = archive(tmp_path, dump(hard, tmp_path, "plain"))
    text = (tmp_path / "database.sql").read_bytes()
    (tmp_path / "database.sql").write_bytes(text[: text.index(b"-- PostgreSQL database dump complete")])
    with pytest.raises(InvalidValue, match="cut off: its last line is missing"):
        rows_of(source, RelationName("public", "t"))


def test_wherever_the_bytes_are_cut_the_rows_are_the_same() -> None:
    text = b"SELECT E'\\\\' /* ' /* \" */ ' */ || $a$ COPY s.t (a) FROM stdin;\n'$a$;\nCOPY s.u (a) FROM stdin;\n\\.\n\n"
    text += b'COPY s.t (a, "b""") FROM stdin;\nx\t\\\\.\n\\N\t\n\\.\n\n\n-- PostgreSQL database dump complete\n'
    for size in range(1, 40):
        read = CopyText((text[at : at + size] for at in range(0, len(text), size)), "it")
        found = [(str(header.table), header.columns, b"".join(read.rows())) for header in read.headers()]
        assert found == [("s.u", ("a",), b""), ("s.t", ("a", 'b"'), b"x\t\\\\.\n\\N\t\n")]
        assert read.complete
