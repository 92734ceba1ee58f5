"""The conditions of a rule: compared as the column's type compares, refused where a value is none of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import conditions
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
from tests.integration.cleaning import Cleaner

pytestmark = pytest.mark.any_driver

PATH = "rules[0].where"
# A type whose operators lie in a schema of its own and have names of their own, and a domain over it, for which somebody has made
# operators of those names that hold for any two values.
OWN_TYPE = """
CREATE SCHEMA app; CREATE TYPE app.word;
CREATE FUNCTION app.i(cstring) RETURNS app.word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION app.o(app.word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE app.word (INPUT = app.i, OUTPUT = app.o, LIKE = text, CATEGORY = 'S', COLLATABLE = true);
CREATE FUNCTION app.cmp(app.word, app.word) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'bttextcmp';
CREATE FUNCTION app.eq(app.word, app.word) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'texteq';
CREATE FUNCTION app.lt(app.word, app.word) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'text_lt';
CREATE FUNCTION app.le(app.word, app.word) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'text_le';
CREATE FUNCTION app.gt(app.word, app.word) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'text_gt';
CREATE FUNCTION app.ge(app.word, app.word) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'text_ge';
CREATE OPERATOR app.=== (LEFTARG = app.word, RIGHTARG = app.word, FUNCTION = app.eq, COMMUTATOR = OPERATOR(app.===), MERGES);
CREATE OPERATOR app.< (LEFTARG = app.word, RIGHTARG = app.word, FUNCTION = app.lt);
CREATE OPERATOR app.<= (LEFTARG = app.word, RIGHTARG = app.word, FUNCTION = app.le);
CREATE OPERATOR app.> (LEFTARG = app.word, RIGHTARG = app.word, FUNCTION = app.gt);
CREATE OPERATOR app.>= (LEFTARG = app.word, RIGHTARG = app.word, FUNCTION = app.ge);
CREATE OPERATOR CLASS app.ops DEFAULT FOR TYPE app.word USING btree AS OPERATOR 1 app.<, OPERATOR 2 app.<=, OPERATOR 3 app.===,
    OPERATOR 4 app.>=, OPERATOR 5 app.>, FUNCTION 1 app.cmp(app.word, app.word);
CREATE DOMAIN public.any_word AS app.word;
CREATE FUNCTION app.any(public.any_word, app.word) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR app.=== (LEFTARG = public.any_word, RIGHTARG = app.word, FUNCTION = app.any);
CREATE OPERATOR app.< (LEFTARG = public.any_word, RIGHTARG = app.word, FUNCTION = app.any);
"""


class Ask:
    """Asks one table which of its rows fulfil conditions; every row has a `number`."""

    def __init__(self, cleaner: Cleaner, session: Any) -> None:
        self.cleaner, self.session = cleaner, session

    def resolve(self, written: list[dict[str, Any]], table: str = "t") -> Any:
        name = parse_relation(table)
        return conditions.resolve(self.session, look_up(self.session, [name])[name], written, PATH)

    def where(self, written: list[dict[str, Any]], table: str = "t") -> Any:
        sql = self.session.sql
        return sql.SQL(" AND ").join(conditions.holds(self.session, self.resolve(written, table), "row_"))

    def numbers(self, operator: str, value: Any = None, column: str = "c", table: str = "t") -> list[int]:
        """Return the numbers of the rows of which one condition holds."""
        sql = self.session.sql
        where = self.where([{"column": column, "operator": operator, "value": value}], table)
        found = sql.SQL("SELECT row_.number FROM {} AS row_ WHERE {} ORDER BY 1").format(parse_relation(table).identifier(sql), where)
        return [row["number"] for row in self.session.rows(found)]

    def fill(self, type_: str, *values: Any) -> None:
        """Make the table with a column of a type, and a row for each value, numbered from 1."""
        self.cleaner.sql(SQL("DROP TABLE IF EXISTS t; CREATE TABLE t (number int, c {})").format(SQL(type_)))
        for number, value in enumerate(values, 1):
            self.cleaner.sql(SQL("INSERT INTO t VALUES (%s, %s::text::{})").format(SQL(type_)), [number, value])


@pytest.fixture
def ask(cleaner: Cleaner) -> Iterator[Ask]:
    with cleaner.open() as session:
        yield Ask(cleaner, session)


# --- what holds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "low", "middle", "high", "written"),
    [
        ("text", "a", "b", "c", "b"),
        ("varchar(3)", "a", "b", "c", "b"),
        ("character(4)", "a", "b", "c", "b"),
        ("name", "a", "b", "c", "b"),
        ("text", "1", "2", "3", 2),
        ("smallint", "1", "2", "3", 2),
        ("integer", "1", "2", "3", "2"),
        ("bigint", "1", str(2**62), str(2**62 + 1), 2**62),
        ("numeric(5, 2)", "1", "2.5", "3", 2.50),
        ("real", "-1", "0.1", "0.2", 0.1),
        ("double precision", "-1", "0.1", "infinity", 0.1),
        ("uuid", *(f"0000000{n}-0000-0000-0000-000000000000" for n in (1, "a", "b")), "{0000000A000000000000000000000000}"),
        ("timestamptz", "2024-01-01", "2024-01-02 00:00+00", "infinity", "2024-01-02 02:00+02"),
        ("timestamp(0)", "2024-01-01", "2024-01-02", "2024-01-03", "2024-01-02"),
        ("date", "2024-01-01", "2024-01-02", "2024-01-03", "20240102"),
        ("interval", "1 h", "1 day", "2 days", "24 hours"),
        ("inet", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2/32"),
        ("cidr", "10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.1/24"),
        ("bytea", "\\x01", "\\x02", "\\x03", "\\002"),
        ("jsonb", "1", "2", "3", 2),
        ("jsonb", '{"a": 1}', '{"a": 2}', '{"a": 3}', {"a": 2}),
        ("int[]", "{1}", "{1,2}", "{3}", [1, 2]),
        ("text[]", '{"a b"}', '{"b \\" c",NULL}', "{c}", ['b " c', None]),
        ("int4range", "[1,3)", "[2,4)", "[3,5)", "[2,3]"),
        ('"char"', "a", "b", "c", "b"),
        ("bit(3)", "001", "010", "100", "010"),
    ],
)
def test_every_operator_compares_as_the_type_does(ask: Ask, type_: str, low: str, middle: str, high: str, written: Any) -> None:
    ask.fill(type_, low, middle, high, None)
    expected = {
        "=": [2], "!=": [1, 3], "<": [1], "<=": [1, 2], ">": [3], ">=": [2, 3], "is null": [4], "is not null": [1, 2, 3]
    }  # fmt: skip
    assert {operator: ask.numbers(operator, written) for operator in expected} == expected
    assert ask.numbers("in", [written, low, written]) == [1, 2]
    assert ask.numbers("not in", [written, low]) == [3]


@pytest.mark.every_driver
@pytest.mark.parametrize(("written", "expected"), [(True, [1]), (False, [2]), ("yes", [1]), (1, [1]), ("off", [2])])
def test_booleans(ask: Ask, written: Any, expected: list[int]) -> None:
    ask.fill("boolean", "true", "false", None)
    assert ask.numbers("=", written) == expected
    assert ask.numbers("!=", written) == [3 - expected[0]]


@pytest.mark.every_driver
def test_several_conditions_and_their_number_of_round_trips(ask: Ask) -> None:
    ask.cleaner.sql('CREATE TABLE t (number int, "A ""b"" %s {}" int, c text)')
    ask.cleaner.sql("INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'x'), (3, 2, 'y'), (4, NULL, 'x')")
    column = 'A "b" %s {}'
    written: list[dict[str, Any]] = [
        {"column": column, "operator": ">", "value": 1},
        {"column": "c", "operator": "=", "value": "x"},
        {"column": column, "operator": "<", "value": 9},
    ]
    sql = ask.session.sql
    where = ask.where(written)
    before = ask.session.round_trips
    # With parameters, in which a % would be a placeholder's.
    found = ask.session.rows(sql.SQL("SELECT number FROM public.t AS row_ WHERE {} AND number < %s").format(where), [9])
    assert [row["number"] for row in found] == [2]
    assert ask.session.round_trips == before + 1
    assert conditions.holds(ask.session, ask.resolve([]), "row_") == []


@pytest.mark.every_driver
@pytest.mark.parametrize("text", ["x'; DROP TABLE t; --", "\\'; DROP TABLE t; --", "%s %(a)s {} {0}", "a\\b", " ", "é\n\t"])
def test_texts_that_would_be_more_than_texts(ask: Ask, text: str) -> None:
    ask.fill("text", text, "x")
    assert ask.numbers("=", text) == [1]
    assert ask.numbers("not in", [text, "y"]) == [2]


def test_a_value_longer_than_the_column_is_not_cut(ask: Ask) -> None:
    ask.fill("varchar(3)", "abc", "abd")
    assert ask.numbers("=", "abcd") == []
    assert ask.numbers(">", "abcd") == [2]
    ask.fill("char", "a", "b")
    assert ask.numbers("in", ["ab", "b"]) == [2]
    ask.fill("numeric(3, 1)", "1.2", "1.3")
    assert ask.numbers(">", "1.24") == [2]


def test_a_time_that_is_now_stays_the_same(ask: Ask) -> None:
    ask.fill("timestamptz", None)
    (found,) = ask.resolve([{"column": "c", "operator": "<", "value": "now"}])
    sql = ask.session.sql
    instants = {ask.session.value(sql.SQL("SELECT {}").format(found.operands[0])) for _time in range(2)}
    assert len(instants) == 1
    assert ask.session.value(sql.SQL("SELECT {} < now()").format(found.operands[0])) is True


# --- types of somebody else's ---------------------------------------------------------------------------------------------------


def test_enumerations_are_ordered_as_they_were_declared(ask: Ask) -> None:
    ask.cleaner.sql("CREATE SCHEMA \"App s\"; CREATE TYPE \"App s\".\"Status x\" AS ENUM ('new', 'sent', 'gone', '\"q''uote{}')")
    ask.fill('"App s"."Status x"', "new", "sent", "gone", "\"q'uote{}")
    assert ask.numbers("=", "sent") == [2]
    assert ask.numbers("<", "gone") == [1, 2]
    assert ask.numbers("not in", ["sent", "\"q'uote{}"]) == [1, 3]
    with pytest.raises(InvalidValue) as caught:
        ask.resolve([{"column": "c", "operator": "is null"}, {"column": "c", "operator": "!=", "value": "snet"}])
    assert caught.value.object_name == "rules[0].where[1].value"
    assert caught.value.message.startswith("rules[0].where[1].value: 'snet' is not a value")
    assert 'public.t.c is of type "App s"."Status x"' in caught.value.message


def test_domains_are_compared_as_what_they_are_made_of(ask: Ask) -> None:
    ask.cleaner.sql("CREATE DOMAIN inner_ AS varchar(5) CHECK (value <> 'bad'); CREATE DOMAIN outer_ AS inner_ CHECK (value <> 'worse')")
    ask.fill("outer_", "a", "b", None)
    assert ask.numbers("=", "a") == [1]
    assert ask.numbers("!=", "a") == [2]
    assert ask.numbers("<", "bad") == [1, 2]  # a limit may lie outside
    for value in ("bad", "worse", "longer than five"):
        with pytest.raises(InvalidValue, match=r"^rules\[0\]\.where\[0\]\.value\[1\]: "):
            ask.numbers("not in", ["a", value])


@pytest.mark.parametrize("column", ["app.word", "public.any_word"])
def test_the_operators_of_a_type_are_those_of_its_operator_class(ask: Ask, column: str) -> None:
    ask.cleaner.sql(OWN_TYPE)
    ask.fill(column, "a", "b", None)
    assert ask.numbers("=", "a") == [1]
    assert ask.numbers("not in", ["a", "c"]) == [2]
    assert ask.numbers("<", "b") == [1]
    assert ask.numbers(">=", "b") == [2]


@pytest.mark.parametrize("column", ["citext", "public.lowered"])
def test_texts_without_case(ask: Ask, column: str) -> None:
    if not ask.cleaner.sql("SELECT name FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this server has no extension citext")
    ask.cleaner.sql("CREATE EXTENSION citext; CREATE DOMAIN lowered AS citext")
    ask.fill(column, "Sent", "new", None)
    assert ask.numbers("=", "SENT") == [1]
    assert ask.numbers("!=", "SENT") == [2]
    assert ask.numbers("in", ["NEW", "SENT"]) == [1, 2]
    assert ask.numbers("<", "P") == [2]


def test_composites(ask: Ask) -> None:
    ask.cleaner.sql("CREATE TYPE pair AS (a int, b text)")
    ask.fill("pair", "(1,x)", "(2,y)", None)
    assert ask.numbers("=", "(2,y)") == [2]
    assert ask.numbers(">=", "(1,x)") == [1, 2]


# --- what is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("integer", "x"), ("integer", 2**40), ("integer", True), ("integer", 1.5), ("boolean", "perhaps"), ("uuid", "1"),
        ("date", "2024-02-30"), ("timestamptz", "tomorrow evening"), ("jsonb", "sent"), ("int[]", "1"), ("int[]", [1, "x"]),
        ("inet", "host"), ("numeric", "x"), ("text", True), ("varchar", 1.10), ("text", None), ("text", ["a"]), ("text", {"a": 1}),
        ("text", "a\0b"), ("integer", None), ('"char"', "ab"), ("name", "n" * 64), ("bytea", "\\xz"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_the_type(ask: Ask, type_: str, value: Any) -> None:
    ask.fill(type_)
    for written, path in ((("=", value), "[0].value"), (("not in", [value]), "[0].value[0]")):
        with pytest.raises(InvalidValue) as caught:
            ask.numbers(*written)
        assert caught.value.object_name == PATH + path
        assert caught.value.message.startswith(f"{PATH}{path}: ")
        assert "public.t.c is of type" in caught.value.message
        assert isinstance(json.dumps(caught.value.as_result()), str)
    # The session is of use afterwards.
    assert ask.numbers("is not null") == []


@pytest.mark.parametrize("value", [[], None, "a"])
def test_a_list_without_values_is_no_list(ask: Ask, value: Any) -> None:
    ask.fill("text", "a")
    for operator in ("in", "not in"):
        with pytest.raises(InvalidValue, match=r"^rules\[0\]\.where\[0\]\.value: .*needs a list"):
            ask.numbers(operator, value)


@pytest.mark.parametrize(
    ("type_", "operator", "lacks", "allowed"),
    [
        ("json", "=", "equality", "is null, is not null"),
        ("json", "<", "order", "is null, is not null"),
        ("xml", "in", "equality", "is null, is not null"),
        ("point", "!=", "equality", "is null, is not null"),
        ("xid", "<", "order", "=, !=, in, not in, is null, is not null"),
    ],
)
def test_an_operator_that_the_type_does_not_have(ask: Ask, type_: str, operator: str, lacks: str, allowed: str) -> None:
    ask.fill(type_)
    with pytest.raises(InvalidValue) as caught:
        ask.numbers(operator, ["1"] if operator == "in" else "1")
    assert caught.value.message == f"{PATH}[0].operator: public.t.c is of type {type_}, which has no {lacks}; allowed: {allowed}"


def test_what_has_no_equality_is_still_asked_for_null(ask: Ask) -> None:
    ask.fill("json", "1", None)
    assert ask.numbers("is null") == [2]
    assert ask.numbers("is not null") == [1]
    ask.fill("xid", "1", "2")
    assert ask.numbers("=", 2) == [2]
    assert ask.numbers("not in", ["1"]) == [2]


def test_arrays_of_what_has_no_equality(ask: Ask) -> None:
    ask.fill("json[]", '{"1"}')
    with pytest.raises(InvalidValue, match=r"^rules\[0\]\.where\[0\]\.value: .*json\[\].*cannot be compared"):
        ask.numbers("=", '{"1"}')


def test_a_column_that_is_not_there(ask: Ask) -> None:
    ask.fill("text")
    with pytest.raises(MissingObject, match="has no column 'd'"):
        ask.numbers("is null", column="d")


@pytest.mark.every_driver
def test_a_failure_that_is_none_of_the_value_stays_what_it_is(ask: Ask) -> None:
    ask.cleaner.sql("CREATE SCHEMA app; CREATE TYPE app.status AS ENUM ('a'); CREATE ROLE plain LOGIN PASSWORD 'p'")
    try:
        ask.fill("app.status", "a")
        ask.cleaner.sql("GRANT SELECT ON t TO plain")
        with ask.cleaner.open(session_role="plain") as session, pytest.raises(DatabaseError) as caught:
            Ask(ask.cleaner, session).numbers("=", "a")
        assert caught.value.sqlstate == "42501"
    finally:
        ask.cleaner.sql("DROP OWNED BY plain; DROP ROLE plain")


# --- names and plans --------------------------------------------------------------------------------------------------------------


def test_no_operator_of_another_schema_is_taken(ask: Ask) -> None:
    ask.fill("integer", 1, 2)
    ask.cleaner.sql("CREATE FUNCTION any_(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    ask.cleaner.sql("CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = int, FUNCTION = any_)")
    ask.cleaner.sql("CREATE TYPE public.int4 AS ENUM ('x')")
    ask.session.execute("SET search_path TO public, pg_catalog")
    assert ask.numbers("=", 1) == [1]
    assert ask.numbers("!=", 1) == [2]
    assert ask.numbers("in", [1]) == [1]


@pytest.mark.parametrize("type_", ["integer", "varchar(12)", "character(12)", "kind", "uuid", "boxed"])
@pytest.mark.parametrize("operator", ["=", "in", "<"])
def test_an_index_on_the_column_is_of_use(ask: Ask, type_: str, operator: str) -> None:
    ask.cleaner.sql("CREATE TYPE kind AS ENUM ('1', '2'); CREATE DOMAIN boxed AS varchar(12)")
    ask.fill(type_)
    ask.cleaner.sql("CREATE INDEX ON t (c)")
    value = "00000000-0000-0000-0000-000000000001" if type_ == "uuid" else "1"
    where = ask.where([{"column": "c", "operator": operator, "value": [value] if operator == "in" else value}])
    ask.session.execute("SET enable_seqscan = off")
    sql = ask.session.sql
    plan = ask.session.rows(sql.SQL("EXPLAIN SELECT FROM public.t AS row_ WHERE {}").format(where))
    assert "Index Cond" in str(plan)
