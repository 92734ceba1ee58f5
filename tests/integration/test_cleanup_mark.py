"""How a row says that it is deleted: what counts as marked, what is written, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import mark
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject
from ansible_collections.pgops.runbook.plugins.module_utils._instant import EPOCH, Instant
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import look_up
from tests.integration.cleaning import Cleaner

pytestmark = pytest.mark.any_driver

PATH = "rules[0].mark"
SECOND = 1_000_000


def instant(text: str) -> Instant:
    """Return the instant of an ISO time in UTC."""
    passed = datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH
    return Instant((passed.days * 86400 + passed.seconds) * SECOND + passed.microseconds)


AT = instant("2024-07-01T22:30:59.999999")


class Ask:
    """Marks the rows of one table; every row has a `number`."""

    def __init__(self, cleaner: Cleaner, session: Any) -> None:
        self.cleaner, self.session = cleaner, session

    def resolve(self, table: str = "t", **written: Any) -> mark.Mark:
        name = parse_relation(table)
        return mark.resolve(self.session, look_up(self.session, [name])[name], {"column": "c", **written}, PATH)

    def marked(self, made: mark.Mark, table: str = "t") -> dict[int, bool]:
        """Return by number whether a row is marked."""
        sql = self.session.sql
        found = sql.SQL("SELECT row_.number, {} AS marked FROM {} AS row_").format(
            mark.is_marked(self.session, made, "row_"), parse_relation(table).identifier(sql)
        )
        return {row["number"]: row["marked"] for row in self.session.rows(found)}

    def set(self, made: mark.Mark, at: Instant = AT, table: str = "t") -> int:
        """Mark the rows that are not marked and return how many those were."""
        sql = self.session.sql
        return int(
            self.session.execute(
                sql.SQL("UPDATE {} AS row_ SET {} WHERE NOT {}").format(
                    parse_relation(table).identifier(sql),
                    mark.assignment(self.session, made, at),
                    mark.is_marked(self.session, made, "row_"),
                )
            )
        )

    def fill(self, type_: str, *values: Any) -> None:
        """Make the table with a column of a type, and a row for each value, numbered from 1."""
        self.cleaner.sql(SQL("CREATE TABLE t (number int, c {})").format(SQL(type_)))
        for number, value in enumerate(values, 1):
            self.cleaner.sql("INSERT INTO t VALUES (%s, %s)", [number, value])


@pytest.fixture
def ask(cleaner: Cleaner) -> Iterator[Ask]:
    with cleaner.open() as session:
        yield Ask(cleaner, session)


# --- what is written ------------------------------------------------------------------------------------------------------------


@pytest.mark.every_driver
@pytest.mark.parametrize(
    ("type_", "written", "expected"),
    [
        ("timestamptz", {}, "2024-07-01 22:30:59.999999+00"),
        ("timestamptz(0)", {}, "2024-07-01 22:30:59+00"),
        ("timestamptz(3)", {}, "2024-07-01 22:30:59.999+00"),
        ("whole", {}, "2024-07-01 22:30:59+00"),
        ("timestamp", {"time_zone": "UTC"}, "2024-07-01 22:30:59.999999"),
        ("timestamp", {"time_zone": "Europe/Tallinn"}, "2024-07-02 01:30:59.999999"),
        ("timestamp(2)", {"time_zone": "America/St_Johns"}, "2024-07-01 20:00:59.99"),
        ("date", {}, "2024-07-01"),
        ("date", {"time_zone": "Europe/Tallinn"}, "2024-07-02"),
        ("date", {"time_zone": "Pacific/Pago_Pago"}, "2024-07-01"),
        ("bigint", {"unit": "s"}, "1719873059"),
        ("integer", {"unit": "s"}, "1719873059"),
        ("bigint", {"unit": "ms"}, "1719873059999"),
    ],
)
def test_the_time_of_deletion_as_the_column_has_it(ask: Ask, type_: str, written: dict[str, Any], expected: str) -> None:
    ask.cleaner.sql("CREATE DOMAIN whole AS timestamptz(0)")
    ask.fill(type_, None)
    made = ask.resolve(**written)
    assert ask.marked(made) == {1: False}
    assert ask.set(made) == 1
    assert ask.session.value("SELECT c::text FROM public.t") == expected
    assert ask.marked(made) == {1: True}
    assert ask.set(made) == 0


def test_a_time_before_1970_is_not_later_either(ask: Ask) -> None:
    ask.fill("bigint", None)
    ask.set(ask.resolve(unit="s"), Instant(-1))
    assert ask.session.value("SELECT c FROM public.t") == -1


@pytest.mark.parametrize(
    ("type_", "live", "deleted", "value"),
    [
        ("boolean", "f", "t", True), ("text", "live", "deleted", "deleted"), ("varchar(7)", "live", "deleted", "deleted"),
        ("kind", "live", "gone", "gone"), ("smallint", "0", "1", 1), ("character(4)", "no", "yes", "yes"), ("boxed", "1", "2", 2),
        ("jsonb", "{}", '{"gone": true}', {"gone": True}),
    ],
)  # fmt: skip
def test_a_value_marks_whatever_the_type_takes_for_the_same(ask: Ask, type_: str, live: str, deleted: str, value: Any) -> None:
    ask.cleaner.sql("CREATE TYPE kind AS ENUM ('live', 'gone'); CREATE DOMAIN boxed AS int CHECK (value < 3)")
    ask.fill(type_, live, deleted, None)
    made = ask.resolve(value=value)
    assert made.time is None
    assert ask.marked(made) == {1: False, 2: True, 3: False}
    assert ask.set(made) == 2
    assert ask.marked(made) == {1: True, 2: True, 3: True}


def test_a_value_may_be_a_time(ask: Ask) -> None:
    ask.fill("timestamptz NOT NULL", "infinity", "-infinity")
    made = ask.resolve(value="-infinity")
    assert ask.marked(made) == {1: False, 2: True}


@pytest.mark.every_driver
def test_a_name_with_anything_in_it(ask: Ask) -> None:
    ask.cleaner.sql('CREATE TABLE "T ""x"" %s {}" (number int, "C ""y"" %s {}" text)')
    ask.cleaner.sql('INSERT INTO "T ""x"" %s {}" VALUES (1)')
    value = "'; DROP TABLE t; --\\"
    table = '"T ""x"" %s {}"'
    made = ask.resolve(table, column='C "y" %s {}', value=value)
    assert ask.set(made, table=table) == 1
    assert ask.cleaner.sql('SELECT * FROM "T ""x"" %s {}"') == [(1, value)]


@pytest.mark.parametrize(("type_", "written"), [("timestamptz", {}), ("text", {"value": "gone"}), ("boxed", {"value": "gone"})])
def test_an_index_finds_the_marked_rows(ask: Ask, type_: str, written: dict[str, Any]) -> None:
    ask.cleaner.sql("CREATE DOMAIN boxed AS varchar(9)")
    ask.fill(type_)
    ask.cleaner.sql("CREATE INDEX ON t (c)")
    condition = mark.is_marked(ask.session, ask.resolve(**written), "row_")
    ask.session.execute("SET enable_seqscan = off")
    plan = ask.session.rows(ask.session.sql.SQL("EXPLAIN SELECT FROM public.t AS row_ WHERE {}").format(condition))
    assert "Index Cond" in str(plan)


# --- what is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["timestamptz NOT NULL", "never_null", "nor_this"])
def test_a_time_that_cannot_be_null_marks_every_row(ask: Ask, type_: str) -> None:
    ask.cleaner.sql("CREATE DOMAIN never_null AS timestamptz NOT NULL; CREATE DOMAIN nor_this AS never_null")
    ask.fill(type_)
    with pytest.raises(InvalidValue, match=r"^rules\[0\]\.mark: public\.t\.c is of type .* every row would be marked") as caught:
        ask.resolve()
    assert caught.value.object_name == PATH
    assert "rules[0].mark.value" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("type_", "written", "says"),
    [
        ("boolean", {}, "public.t.c is of type boolean, which is not a time"),
        ("text", {}, "public.t.c is of type text, which is not a time"),
        ("timestamp", {}, "does not say its time zone"),
        ("bigint", {}, "no unit is given"),
        ("json", {"value": "{}"}, "public.t.c is of type json, which has no equality"),
        ("kind", {"value": "deleted"}, "'deleted' is not a value that it can hold: public.t.c is of type public.kind"),
        ("varchar(3)", {"value": "gone"}, "'gone' is too long or too precise: public.t.c is of type character varying(3)"),
        ("numeric(3, 1)", {"value": 1.25}, "1.25 is too long or too precise"),
        ("boxed", {"value": 3}, "3 is not a value that it can hold: public.t.c is of type public.boxed"),
        ("text", {"value": True}, "True is not a text"),
    ],
)
def test_what_cannot_mark_a_row(ask: Ask, type_: str, written: dict[str, Any], says: str) -> None:
    ask.cleaner.sql("CREATE TYPE kind AS ENUM ('live', 'gone'); CREATE DOMAIN boxed AS int CHECK (value < 3)")
    ask.fill(type_)
    with pytest.raises(InvalidValue) as caught:
        ask.resolve(**written)
    assert says in caught.value.message
    assert caught.value.message.startswith(PATH)


def test_a_column_that_is_not_there(ask: Ask) -> None:
    ask.fill("timestamptz")
    with pytest.raises(MissingObject, match="has no column 'd'"):
        ask.resolve(column="d")


def test_a_zone_that_the_server_does_not_know(ask: Ask) -> None:
    ask.fill("timestamp")
    with pytest.raises(InvalidValue, match="does not know the time zone 'Nowhere/Land'"):
        mark.assignment(ask.session, ask.resolve(time_zone="Nowhere/Land"), AT)


@pytest.mark.parametrize(
    ("column", "written"),
    [("boolean GENERATED ALWAYS AS (number > 1) STORED", {"value": True}), ("int GENERATED ALWAYS AS IDENTITY", {"value": 1})],
)
def test_a_generated_column_can_be_read_and_not_set(ask: Ask, column: str, written: dict[str, Any]) -> None:
    ask.fill(column)
    ask.cleaner.sql("INSERT INTO t VALUES (2)")
    made = ask.resolve(**written)
    assert ask.marked(made) == {2: True}
    with pytest.raises(InvalidValue, match=r"^rules\[0\]\.mark: column c of public\.t is generated") as caught:
        mark.assignment(ask.session, made, AT)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("grants", "says"),
    [
        ("GRANT UPDATE ON t TO plain", None),
        ("GRANT UPDATE (c) ON t TO plain", None),
        ("GRANT UPDATE (number) ON t TO plain", "the role may not UPDATE column c of public.t"),
    ],
)
def test_a_column_that_the_role_may_not_update(ask: Ask, grants: str, says: str | None) -> None:
    ask.fill("timestamptz", None)
    ask.cleaner.sql("CREATE ROLE plain")
    try:
        ask.cleaner.sql(f"GRANT SELECT ON t TO plain; {grants}")
        with ask.cleaner.open(session_role="plain") as session:
            asks = Ask(ask.cleaner, session)
            assert asks.marked(asks.resolve()) == {1: False}
            assert outcome(asks) == says
    finally:
        ask.cleaner.sql("DROP OWNED BY plain; DROP ROLE plain")


def test_every_partition_must_let_it_be_set(ask: Ask) -> None:
    ask.cleaner.sql("CREATE TABLE t (number int, c timestamptz) PARTITION BY LIST (number); CREATE TABLE t1 PARTITION OF t DEFAULT")
    ask.cleaner.sql("CREATE ROLE plain; GRANT SELECT, UPDATE ON t TO plain")
    try:
        with ask.cleaner.open(session_role="plain") as session:
            assert outcome(Ask(ask.cleaner, session)) == "the role may not UPDATE column c of public.t1"
    finally:
        ask.cleaner.sql("DROP OWNED BY plain; DROP ROLE plain")


def outcome(ask: Ask) -> str | None:
    """Return what is refused where the mark is set, without the path; None where it is set."""
    try:
        ask.set(ask.resolve())
    except DatabaseError as error:
        return (
            error.message.replace(f"{PATH}: ", "", 1)
            if (error.sqlstate, "column c" in (error.hint or "")) == ("42501", True)
            else str(error)
        )
    return None
