"""The newest rows of each key: which stay, in both forms, and how the server finds them."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import latest
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column
from tests.integration.cleaning import Cleaner

pytestmark = pytest.mark.any_driver

PATH = "rules[0].keep_latest"
# Longer than what an index takes, and not to be compressed.
LONG = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(200))


def everything(_alias: str) -> list[Any]:
    return []


class Ask:
    """Asks a table which of its rows are superseded, in both forms; every row has a `number`."""

    def __init__(self, session: Any, table: str = "t", time: Any = "at", unit: str | None = None) -> None:
        self.session, self.sql = session, session.sql
        self.name = parse_relation(table)
        self.relation = look_up(session, [self.name])[self.name]
        self.time = time_column(self.relation, {"column": time, "time_zone": None, "unit": unit}, "rules[0].column")

    def resolve(self, rows: int, *per: str) -> latest.Latest:
        return latest.resolve(self.session, self.relation, {"rows": rows, "per": list(per)}, PATH)

    def inline(self, kept: latest.Latest, competes: latest.Competes = everything) -> Any:
        return latest.superseded(self.session, kept, self.relation, self.time, "row_", competes)

    def query(self, condition: Any) -> Any:
        return self.sql.SQL("SELECT row_.number FROM {} AS row_ WHERE {} ORDER BY 1").format(self.name.identifier(self.sql), condition)

    def numbers(self, rows: int, *per: str, competes: latest.Competes = everything) -> list[int]:
        """Return the numbers of the superseded rows, on which both forms agree."""
        kept = self.resolve(rows, *per)
        with self.session.transaction(read_only=True):
            inline = [row["number"] for row in self.session.rows(self.query(self.inline(kept, competes)))]
        staged = latest.stage(self.session, kept, self.relation, self.time, competes)
        by_stage = [row["number"] for row in self.session.rows(self.query(latest.superseded_staged(self.session, staged, "row_")))]
        latest.drop(self.session, staged)
        assert inline == by_stage
        return inline


@pytest.fixture
def session(cleaner: Cleaner) -> Iterator[Any]:
    with cleaner.open() as opened:
        yield opened


def rows_of(cleaner: Cleaner, *rows: tuple[Any, ...], type_: str = "int") -> None:
    """Make the table with rows of key and time, numbered from 1."""
    cleaner.sql(SQL("CREATE TABLE t (number int, k {}, at bigint, note text)").format(SQL(type_)))
    for number, (key, at) in enumerate(rows, 1):
        cleaner.sql(SQL("INSERT INTO t VALUES (%s, %s::text::{}, %s)").format(SQL(type_)), [number, key, at])


# --- which rows stay ------------------------------------------------------------------------------------------------------------


def test_the_newest_rows_of_each_key_stay(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner, (1, 10), (1, 30), (1, 20), (2, 5), (2, 6), (3, 1))
    ask = Ask(session, unit="s")
    assert ask.numbers(1, "k") == [1, 3, 4]
    assert ask.numbers(2, "k") == [1]
    assert ask.numbers(3, "k") == []
    assert ask.numbers(2) == [1, 4, 5, 6]
    assert ask.numbers(1) == [1, 3, 4, 5, 6]


def test_rows_of_the_same_time_stay_together(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner, (1, 5), (1, 4), (1, 4), (1, 4), (1, 3), (2, 9), (2, 9), (2, 8))
    ask = Ask(session, unit="s")
    assert ask.numbers(1, "k") == [2, 3, 4, 5, 8]
    assert ask.numbers(2, "k") == [5, 8]
    assert ask.numbers(4, "k") == [5]
    assert ask.numbers(5, "k") == []


def test_a_row_without_key_or_without_time(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner, (None, 1), (None, 2), (None, 3), (1, None), (1, None), (1, 1), (1, 2))
    ask = Ask(session, unit="s")
    assert ask.numbers(1, "k") == [6]
    assert ask.numbers(2, "k") == []
    assert ask.numbers(1) == [1, 2, 6, 7]


def test_only_rows_that_compete_count(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner, (1, 10), (1, 20), (1, 30), (1, 40))
    cleaner.sql("UPDATE t SET note = 'x' WHERE number IN (1, 2, 3)")
    ask, aliases = Ask(session, unit="s"), set()

    def noted(alias: str) -> list[Any]:
        aliases.add(alias)
        return [session.sql.SQL("{} = 'x'").format(session.sql.Identifier(alias, "note")), session.sql.SQL("true")]

    assert ask.numbers(2, "k", competes=noted) == [1]
    assert ask.numbers(1, "k", competes=noted) == [1, 2]
    assert len(aliases) == 1
    assert "row_" not in aliases


def test_infinity_is_newest_and_counts(cleaner: Cleaner, session: Any) -> None:
    cleaner.sql("CREATE TABLE t (number int, k int, at timestamptz)")
    cleaner.sql("INSERT INTO t VALUES (1, 1, 'infinity'), (2, 1, '2024-01-02'), (3, 1, '2024-01-01'), (4, 1, '-infinity')")
    ask = Ask(session)
    assert ask.numbers(1, "k") == [2, 3, 4]
    assert ask.numbers(3, "k") == [4]


@pytest.mark.parametrize("type_", ["date", "timestamptz", "moment"])
def test_kinds_of_time(cleaner: Cleaner, session: Any, type_: str) -> None:
    cleaner.sql("CREATE DOMAIN moment AS timestamptz CHECK (value > '2000-01-01')")
    cleaner.sql(SQL("CREATE TABLE t (number int, k int, at {})").format(SQL(type_)))
    cleaner.sql("INSERT INTO t SELECT n, 1, '2024-01-01'::date + n FROM generate_series(1, 4) AS n")
    assert Ask(session).numbers(1, "k") == [1, 2, 3]
    assert Ask(session).numbers(2, "k") == [1, 2]


@pytest.mark.parametrize(
    ("type_", "one", "same", "other"),
    [
        ("varchar(9)", "a", "a", "A"), ("character(4)", "a", "a ", "b"), ("numeric", "1", "1.0", "1.01"), ("boolean", "t", "true", "f"),
        ("jsonb", '{"a": 1}', '{"a":1.0}', "{}"), ("uuid", "a" * 32, "A" * 32, "b" * 32), ("int[]", "{1,2}", "{1, 2}", "{2,1}"),
        ("kind", "x", "x", "y"), ("boxed", "a", "a", "b"), ("pair", "(1,a)", "( 1,a)", "(2,a)"), ("tsvector", "a b", "b a", "c"),
        ("text", LONG, LONG, LONG[1:]), ('"char"', "a", "a", "b"),
    ],
)  # fmt: skip
def test_keys_are_the_same_as_their_type_says(cleaner: Cleaner, session: Any, type_: str, one: str, same: str, other: str) -> None:
    cleaner.sql("CREATE TYPE kind AS ENUM ('x', 'y'); CREATE DOMAIN boxed AS varchar(9); CREATE TYPE pair AS (a int, b text)")
    rows_of(cleaner, (one, 1), (same, 2), (other, 1), (one, 3), type_=type_)
    ask = Ask(session, unit="s")
    assert ask.numbers(1, "k") == [1, 2]
    assert ask.numbers(2, "k") == [1]


@pytest.mark.parametrize("type_", ["citext", "lowered"])
def test_keys_without_case(cleaner: Cleaner, session: Any, type_: str) -> None:
    if not cleaner.sql("SELECT name FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this server has no extension citext")
    cleaner.sql("CREATE EXTENSION citext; CREATE DOMAIN lowered AS citext")
    rows_of(cleaner, ("A", 1), ("a", 2), ("b", 1), type_=type_)
    assert Ask(session, unit="s").numbers(1, "k") == [1]


def test_keys_of_several_columns_with_any_names(cleaner: Cleaner, session: Any) -> None:
    cleaner.sql('CREATE TABLE t (number int, "K %s {} ""x""" int, below_ text, key_0 date, at timestamptz)')
    cleaner.sql("INSERT INTO t SELECT n, n % 2, n % 3, '2024-01-01', '2024-01-01'::date + n FROM generate_series(1, 12) AS n")
    assert Ask(session).numbers(1, 'K %s {} "x"', "below_", "key_0") == [1, 2, 3, 4, 5, 6]
    assert Ask(session).numbers(5, "key_0") == [1, 2, 3, 4, 5, 6, 7]


def test_keys_go_across_partitions_and_children(cleaner: Cleaner, session: Any) -> None:
    cleaner.sql("CREATE TABLE p (number int, k int, at bigint) PARTITION BY RANGE (at)")
    cleaner.sql("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p DEFAULT")
    cleaner.sql("CREATE TABLE i (number int, k int, at bigint); CREATE TABLE i1 () INHERITS (i)")
    for old, new in (("p", "p"), ("i", "i1")):
        cleaner.sql(SQL("INSERT INTO {} VALUES (1, 1, 5), (2, 2, 5)").format(SQL(old)))
        cleaner.sql(SQL("INSERT INTO {} VALUES (3, 1, 15)").format(SQL(new)))
        assert Ask(session, old, unit="s").numbers(1, "k") == [1]
    # A partition that is named by itself is a table of its own.
    assert Ask(session, "p1", unit="s").numbers(1, "k") == []


def test_what_was_set_aside_stays_as_it_was(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner, (1, 10), (1, 20))
    ask = Ask(session, unit="s")
    kept = ask.resolve(1, "k")
    staged = [latest.stage(session, kept, ask.relation, ask.time, everything) for _time in range(2)]
    cleaner.sql("INSERT INTO t VALUES (3, 1, 30)")
    conditions = [latest.superseded_staged(session, one, "row_") for one in staged]
    assert [[row["number"] for row in session.rows(ask.query(one))] for one in conditions] == [[1], [1]]
    assert [row["number"] for row in session.rows(ask.query(ask.inline(kept)))] == [1, 2]
    for one in (*staged, *staged):
        latest.drop(session, one)
    assert session.value("SELECT count(*) FROM pg_class WHERE relpersistence = 't'") == 0


def test_triggers_and_the_search_path_have_no_say(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner, (1, 10), (1, 20), (2, 10))
    cleaner.sql("CREATE FUNCTION any_(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    cleaner.sql("CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = int, FUNCTION = any_)")
    session.execute("SET search_path TO public, pg_catalog, pg_temp")
    assert Ask(session, unit="s").numbers(1, "k") == [1]


# --- against a model ------------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from((None, "a", "A", "b"))
ROWS = st.lists(st.tuples(KEYS, KEYS, st.none() | st.integers(0, 5), st.booleans()), max_size=20)
MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def model(rows: list[Any], kept: int, columns: int) -> list[int]:
    """Return the numbers of the rows that have at least `kept` newer rows of their key that compete."""
    times: dict[Any, list[int]] = defaultdict(list)
    for *key, at, competes in rows:
        if at is not None and competes:
            times[tuple(key[:columns])].append(at)
    return [
        number
        for number, (*key, at, _competes) in enumerate(rows)
        if at is not None and None not in key[:columns] and sum(other > at for other in times[tuple(key[:columns])]) >= kept
    ]


@MODEST
@given(rows=ROWS, kept=st.integers(1, 4), columns=st.integers(0, 2))
def test_exactly_the_rows_of_the_model_are_superseded(cleaner: Cleaner, session: Any, rows: list[Any], kept: int, columns: int) -> None:
    session.execute("DROP TABLE IF EXISTS public.t")
    session.execute("CREATE UNLOGGED TABLE public.t (number int, a text, b varchar(3), at int, competes boolean)")
    for number, row in enumerate(rows):
        session.execute("INSERT INTO public.t VALUES (%s, %s, %s, %s, %s)", (number, *row))

    def competes(alias: str) -> list[Any]:
        return [session.sql.Identifier(alias, "competes")]

    assert Ask(session, unit="s").numbers(kept, *("a", "b")[:columns], competes=competes) == model(rows, kept, columns)


# --- what is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["json", "xml", "point", "xid", "json[]", "odd"])
def test_a_key_without_order(cleaner: Cleaner, session: Any, type_: str) -> None:
    cleaner.sql("CREATE TYPE odd AS (a int, b json)")
    rows_of(cleaner, type_=type_)
    with pytest.raises(InvalidValue) as caught:
        Ask(session, unit="s").resolve(1, "number", "k")
    assert caught.value.object_name == f"{PATH}.per[1]"
    assert re.match(rf"{re.escape(PATH)}\.per\[1\]: public\.t\.k is of type \S*{re.escape(type_)}, .*order", caught.value.message)


def test_a_key_that_is_not_there(cleaner: Cleaner, session: Any) -> None:
    rows_of(cleaner)
    with pytest.raises(MissingObject, match="has no column 'user'"):
        Ask(session, unit="s").resolve(1, "user")


def test_a_role_that_may_not_make_temporary_tables(cleaner: Cleaner) -> None:
    rows_of(cleaner)
    cleaner.sql("CREATE ROLE plain; GRANT SELECT ON t TO plain")
    try:
        cleaner.sql(SQL("REVOKE TEMPORARY ON DATABASE {} FROM public").format(SQL(cleaner.database.name)))
        with cleaner.open(session_role="plain") as opened, pytest.raises(DatabaseError, match="temporary tables") as caught:
            Ask(opened, unit="s").resolve(1, "k")
        assert caught.value.sqlstate == "42501"
        assert cleaner.database.name in (caught.value.hint or "")
    finally:
        cleaner.sql("DROP OWNED BY plain; DROP ROLE plain")


# --- plans --------------------------------------------------------------------------------------------------------------------------


KEY_COLUMNS: list[tuple[str, ...]] = [("k",), ("k", "s")]


@pytest.fixture
def large(cleaner: Cleaner, session: Any) -> Callable[[], Ask]:
    """A table of 200,000 rows of 40,000 keys without any index, of which the server knows only how large it is."""

    def make() -> Ask:
        cleaner.sql(
            "CREATE TABLE t AS SELECT n AS number, n % 40000 AS k, (n % 7)::text AS s, n::bigint AS at FROM generate_series(1, 200000) AS n"
        )
        return Ask(session, unit="s")

    return make


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("per", KEY_COLUMNS)
def test_the_table_is_read_once_and_joined(
    cleaner: Cleaner, session: Any, large: Callable[[], Ask], rows: int, per: tuple[str, ...], analyzed: bool
) -> None:
    ask = large()
    if analyzed:
        cleaner.sql("ANALYZE t")
    kept, sql = ask.resolve(rows, *per), session.sql
    staged = latest.stage(session, kept, ask.relation, ask.time, everything)
    for condition in (ask.inline(kept), latest.superseded_staged(session, staged, "row_")):
        count = sql.SQL("SELECT count(*) AS n FROM public.t AS row_ WHERE row_.at < 150000 AND {}").format(condition)
        plan = "\n".join(next(iter(row.values())) for row in session.rows(sql.SQL("EXPLAIN {}").format(count)))
        assert "SubPlan" not in plan, plan
        assert re.search(r"Nested Loop.*\n.*(?:\n.*)*Seq Scan on t .*(?:\n.*)*Seq Scan on t ", plan) is None, plan
        assert plan.count("Scan on t ") <= 2, plan
        assert session.value(count) == cleaner.sql(COUNTED[per], [rows])[0][0]


COUNTED: dict[tuple[str, ...], str] = {
    per: (
        f"SELECT count(*) FROM (SELECT at, rank() OVER (PARTITION BY {', '.join(per)} ORDER BY at DESC) AS place FROM t) AS r"
        " WHERE at < 150000 AND place > %s"
    )
    for per in KEY_COLUMNS
}
