"""Any foreign keys between any tables with rules: refused before any change, by the name of a constraint, or done as a model says.

Where a constraint that holds refers from rows that a cascade empties as well, or a cascade has several ways to a table, the server may be
the one that refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.sql import SQL, Composable, Identifier

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import walk
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from tests.integration.cleaning import Cleaner
from tests.integration.cleanup_drawing import WAYS, Way, examples

pytestmark = pytest.mark.any_driver

TABLES = ("a", "b", "c")
ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")
HOLDS = ACTIONS[:2]
COUNTED = ("matched", "protected", "removed", "archived", "marked", "rows_left")


@dataclass(frozen=True)
class Key:
    """A foreign key of `table` that refers to `other`."""

    table: str
    other: str
    action: str

    @property
    def column(self) -> str:
        return f"to_{self.other}"

    @property
    def name(self) -> str:
        return f"{self.table}_to_{self.other}"


@dataclass
class Row:
    number: int
    old: bool
    marked: bool
    refers: dict[str, int | None]  # by the table that it refers to


@dataclass(frozen=True)
class Rule:
    table: str
    action: str

    @property
    def removes(self) -> bool:
        return self.action != "soft_delete"

    def written(self, number: int) -> dict[str, Any]:
        rule: dict[str, Any] = {
            "name": f"rule {number}",
            "table": f"app.{self.table}",
            "column": "at",
            "older_than": "1 d",
            "action": self.action,
        }
        if self.action == "archive":
            rule |= {"archive": {"table": f"app.{self.table}_archive", "create": True}}
        return rule | ({"mark": {"column": "marked"}} if self.action in ("soft_delete", "purge") else {})


Rows = dict[str, list[Row]]
Drawn = tuple[list[Key], Rows, list[Rule], Way]
PAIRS = [(table, other) for table in TABLES for other in TABLES]


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    pairs = draw(st.lists(st.sampled_from(PAIRS), min_size=1, max_size=4, unique=True))
    keys = [Key(table, other, draw(st.sampled_from(ACTIONS))) for table, other in pairs]
    sizes = {table: draw(st.integers(0, 4)) for table in TABLES}
    rows: Rows = {table: [] for table in TABLES}
    for table in TABLES:
        for number in range(sizes[table]):
            refers = {
                key.other: draw(st.one_of(st.none(), st.integers(0, sizes[key.other] - 1))) if sizes[key.other] else None
                for key in keys
                if key.table == table
            }
            rows[table].append(Row(number, draw(st.sampled_from((True, True, False))), draw(st.sampled_from((True, False))), refers))
    way = draw(WAYS)
    if any(key.table == key.other and key.action in HOLDS for key in keys):
        # What refers to rows of its own table goes only together with them.
        way = replace(way, batch_rows=1000, first_rows=10_000)
    rule = st.builds(Rule, st.sampled_from(TABLES), st.sampled_from(("delete", "delete", "archive", "purge", "soft_delete")))
    return keys, rows, draw(st.lists(rule, min_size=1, max_size=4)), way


def emptied(keys: list[Key], table: str) -> set[str]:
    """Return the tables from which a cascade takes rows along when rows of `table` go; it may be one of them."""
    found: set[str] = set()
    waiting = [table]
    while waiting:
        other = waiting.pop()
        new = {key.table for key in keys if key.other == other and key.action == "CASCADE"} - found
        found |= new
        waiting += new
    return found


def left_to_the_server(keys: list[Key], rule: Rule) -> bool:
    """True if rows that may go as well hold others when rows go by `rule`."""
    along = emptied(keys, rule.table)
    return rule.removes and any(key.action in HOLDS and key.other in {rule.table, *along} and key.table in along for key in keys)


def held_by_what_goes_along(keys: list[Key], rules: list[Rule], order: list[int]) -> bool:
    """True if rows that an earlier rule takes along by a cascade hold rows of a later one: they count as if they stayed."""
    removing = [rules[place].table for place in order if rules[place].removes]
    return any(
        key.action in HOLDS and key.table in emptied(keys, earlier) and key.other in {later, *emptied(keys, later)}
        for number, later in enumerate(removing)
        for earlier in removing[:number]
        for key in keys
    )


class Held(Exception):
    """A row that would go is referred to by one that stays."""


class Model:
    """Rows, and what becomes of them; `names` are the constraints that may be to blame."""

    def __init__(self, keys: list[Key], rows: Rows) -> None:
        self.keys = keys
        self.rows = {table: {row.number: Row(row.number, row.old, row.marked, dict(row.refers)) for row in rows[table]} for table in TABLES}
        self.archived: set[tuple[str, int]] = set()

    def reached(self, table: str) -> set[str]:
        """Return the tables that a removal from `table` is asked of: those that refer to it, or to what goes along with it."""
        found, waiting = set(), [table]
        while waiting:
            other = waiting.pop()
            for key in self.keys:
                if key.other == other and key.table not in found and key.action in (*HOLDS, "CASCADE"):
                    found.add(key.table)
                    waiting += [key.table] if key.action == "CASCADE" else []
        return found

    def order(self, rules: list[Rule]) -> list[int]:
        """Return the rules as they are applied: what refers before what is referred to, marks last, else as they are written."""
        waiting, order = list(range(len(rules))), []
        while waiting:
            free = [one for one in waiting if not any(self.first(rules[other], rules[one]) for other in waiting if other != one)]
            order.append(free[0] if free else min(waiting, key=lambda one: not rules[one].removes))
            waiting.remove(order[-1])
        return order

    def first(self, one: Rule, other: Rule) -> bool:
        if one.table == other.table:
            return one.removes and not other.removes
        return one.removes and other.removes and one.table in self.reached(other.table)

    def run(self, rules: list[Rule]) -> list[dict[str, int]]:
        done = {place: self.apply(rules[place]) for place in self.order(rules)}
        return [{**done[place], "rows_left": len(self.rows[rules[place].table])} for place in range(len(rules))]

    def apply(self, rule: Rule) -> dict[str, int]:
        state = {"soft_delete": False, "purge": True}.get(rule.action)
        due = [row for row in self.rows[rule.table].values() if row.old and (state is None or row.marked == state)]
        kind = {"soft_delete": "marked"}.get(rule.action, "removed")
        if rule.removes:
            self.remove({(rule.table, row.number) for row in due})
        for row in due:
            row.marked = row.marked or rule.action == "soft_delete"
        if rule.action == "archive":
            self.archived |= {(rule.table, row.number) for row in due}
        counts = dict.fromkeys(COUNTED[:5], 0) | {"matched": len(due), kind: len(due)}
        return counts | ({"archived": len(due)} if rule.action == "archive" else {})

    def remove(self, going: set[tuple[str, int]]) -> None:
        gone: set[tuple[str, int]] = set()
        while going - gone:
            gone |= going
            going = {(key.table, row.number) for key, row in self.referring(gone) if key.action == "CASCADE"} | gone
        for table, number in gone:
            del self.rows[table][number]
        for key, row in self.referring(gone):
            if key.action in HOLDS:
                raise Held(key.name)
            row.refers[key.other] = None

    def referring(self, gone: set[tuple[str, int]]) -> list[tuple[Key, Row]]:
        return [(key, row) for key in self.keys for row in self.rows[key.table].values() if (key.other, row.refers.get(key.other)) in gone]

    def content(self) -> dict[str, set[tuple[Any, ...]]]:
        return {
            table: {(row.number, row.old, row.marked, *(row.refers.get(other) for other in TABLES)) for row in self.rows[table].values()}
            for table in TABLES
        }


class World:
    """The tables on a server."""

    def __init__(self, cleaner: Cleaner, connection: psycopg.Connection[Any]) -> None:
        self.connection, self.reading, self.writing = connection, cleaner.open(read_only=True), cleaner.open()

    def make(self, keys: list[Key], rows: Rows) -> None:
        self.connection.execute(SQL("; ").join(_statements(keys, rows)))

    def content(self, suffix: str = "") -> dict[str, list[tuple[Any, ...]]]:
        query = "SELECT number, at < '2021-01-01', marked IS NOT NULL, to_a, to_b, to_c FROM {}"
        return {
            table: self.connection.execute(SQL(query).format(Identifier("app", table + suffix))).fetchall()
            for table in TABLES
            if self.connection.execute("SELECT to_regclass(%s)", [f"app.{table}{suffix}"]).fetchone() != (None,)
        }

    def run(self, rules: list[Rule], batch_rows: int, *, check: bool) -> dict[str, Any]:
        options = _cleanup.read_options({"rules": [rule.written(number) for number, rule in enumerate(rules)], "batch_rows": batch_rows})
        return _cleanup.clean_up(self.reading if check else self.writing, options, check_mode=check)


def _statements(keys: list[Key], rows: Rows) -> Iterator[Composable]:
    yield SQL("DROP SCHEMA IF EXISTS app CASCADE; CREATE SCHEMA app")
    for table in TABLES:
        columns = (
            "number int PRIMARY KEY, at timestamptz, marked timestamptz, to_a int, to_b int, to_c int, pad text DEFAULT repeat('x', 2500)"
        )
        yield SQL("CREATE TABLE {} ({})").format(Identifier("app", table), SQL(columns))
        yield SQL("ALTER TABLE {} ALTER pad SET STORAGE PLAIN").format(Identifier("app", table))
        for row in rows[table]:
            values = [row.number, "2020-01-01" if row.old else "2100-01-01", "2020-01-01" if row.marked else None]
            values += [row.refers.get(other) for other in TABLES]
            yield SQL("INSERT INTO {} VALUES ({})").format(Identifier("app", table), SQL(", ").join(values))
    for key in keys:
        yield SQL("ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ON DELETE {}").format(
            Identifier("app", key.table), Identifier(key.name), Identifier(key.column), Identifier("app", key.other), SQL(key.action)
        )


@pytest.fixture
def world(cleaner: Cleaner) -> Iterator[World]:
    with cleaner.database.connect() as connection:
        made = World(cleaner, connection)
        yield made
        made.reading.close()
        made.writing.close()


def at_once(keys: dict[str, str], rows: dict[str, list[dict[str, int]]]) -> Drawn:
    """Return a rule on app.a without batches: `keys` by the tables that they link, rows by what they refer to; only the first is old."""
    linked = [Key(table, other, action) for (table, other), action in ((link.split(), action) for link, action in keys.items())]
    made: Rows = {
        table: [Row(number, (table, number) == ("a", 0), False, dict(refers)) for number, refers in enumerate(rows.get(table, []))]
        for table in TABLES
    }
    return linked, made, [Rule("a", "delete")], Way(1000, 10_000, 1, 100, 0.0, 0.0, (), False)


def one_by_one(action: str) -> Drawn:
    """Return a row that goes and takes another along, which goes by a batch of its own otherwise."""
    rows: Rows = {"a": [Row(0, True, True, {"a": None}), Row(1, True, True, {"a": 0})], "b": [], "c": []}
    return [Key("a", "a", "CASCADE")], rows, [Rule("a", action)], Way(1, 0, 2, 1, 0.0, 0.0, (), False)


def one_after_the_other() -> Drawn:
    """Return a row of a later rule that is held by one which an earlier rule takes along."""
    keys, rows, rules, way = at_once({"b a": "CASCADE", "b c": "NO ACTION"}, {"a": [{}], "b": [{"a": 0, "c": 0}], "c": [{}]})
    return keys, {**rows, "c": [Row(0, True, False, {})]}, [*rules, Rule("c", "delete")], way


@examples(40)
@given(case=drawn())
# The row that refers could have gone by a cascade, but stays; and the other way round.
@example(case=at_once({"b a": "CASCADE", "c a": "CASCADE", "c b": "NO ACTION"}, {"a": [{}], "b": [{"a": 0}], "c": [{"b": 0}]}))
@example(case=at_once({"b a": "CASCADE", "c a": "CASCADE", "c b": "RESTRICT"}, {"a": [{}], "b": [{"a": 0}], "c": [{"a": 0, "b": 0}]}))
# It goes later than the server looks for it.
@example(case=at_once({"b a": "CASCADE", "c b": "CASCADE", "c a": "NO ACTION"}, {"a": [{}], "b": [{"a": 0}], "c": [{"a": 0, "b": 0}]}))
# The row that is held goes by the longer one of two ways, or by one in the table itself.
@example(
    case=at_once(
        {"b a": "CASCADE", "c a": "CASCADE", "b c": "CASCADE", "a b": "NO ACTION"}, {"a": [{}, {"b": 0}], "b": [{"c": 0}], "c": [{"a": 0}]}
    )
)
@example(case=at_once({"a a": "CASCADE", "b a": "NO ACTION"}, {"a": [{}, {"a": 0}], "b": [{"a": 1}]}))
@example(case=one_after_the_other())
@example(case=one_by_one("delete"))
@example(case=one_by_one("archive"))
def test_foreign_keys_are_obeyed_or_the_run_is_refused(world: World, monkeypatch: pytest.MonkeyPatch, case: Drawn) -> None:
    keys, rows, rules, way = case
    world.make(keys, rows)
    before = world.content()
    model = Model(keys, rows)
    doubtful = any(left_to_the_server(keys, rule) for rule in rules)
    try:
        done = model.run(rules)
    except Held:
        for check in (False,) if doubtful else (True, False):
            with pytest.raises(RunbookError if doubtful else InvalidValue) as caught:
                world.run(rules, way.batch_rows, check=check)
            require_refused(world, keys, rules, rows, caught.value)
        return
    try:
        planned = world.run(rules, way.batch_rows, check=True)
    except InvalidValue as error:
        assert held_by_what_goes_along(keys, rules, model.order(rules))
        require_refused(world, keys, rules, rows, error)
        with pytest.raises(InvalidValue):
            world.run(rules, way.batch_rows, check=False)
        assert world.content() == before
        return
    assert world.content() == before
    with monkeypatch.context() as patches:
        for name, value in (("FIRST_ROWS", way.first_rows), ("LEAST_ROWS", way.least_rows), ("_FIRST_PAGES", way.first_pages)):
            patches.setattr(walk, name, value)
        try:
            result = world.run(rules, way.batch_rows, check=False)
        except RunbookError as error:
            assert doubtful
            require_refused(world, keys, rules, rows, error)
            return
    assert {table: set(found) for table, found in world.content().items()} == model.content()
    assert {(table, row[0]) for table, found in world.content("_archive").items() for row in found} == model.archived
    require_numbers(keys, rules, model.order(rules), planned["rules"], result["rules"], done)


def require_refused(world: World, keys: list[Key], rules: list[Rule], rows: Rows, error: RunbookError) -> None:
    """Require that a constraint was named, and that nothing changed, or only what the rules and their cascades are about."""
    assert any(f'"{key.name}"' in str(error) for key in keys if key.action in HOLDS)
    assert error.sqlstate == "23503"
    free = Model([key for key in keys if key.action not in HOLDS], rows)
    if not isinstance(error, InvalidValue):
        free.run(rules)
    for table, found in world.content().items():
        there = {row[0] for row in found}
        assert set(free.rows[table]) <= there <= {row.number for row in rows[table]}
    if isinstance(error, InvalidValue):
        assert {table: set(found) for table, found in world.content().items()} == free.content()


def require_numbers(
    keys: list[Key],
    rules: list[Rule],
    order: list[int],
    planned: list[dict[str, Any]],
    result: list[dict[str, Any]],
    done: list[dict[str, int]],
) -> None:
    """Require the numbers of the model; what a cascade takes along from a rule's table is not among that one's."""
    along = {key.table for key in keys if key.action == "CASCADE"}
    for place, rule in enumerate(rules):
        former = [rules[other] for other in order[: order.index(place) + (rule.action != "archive")]]
        if any(one.removes and rule.table in emptied(keys, one.table) for one in former):
            # How many of them go by the cascade is up to the batches.
            assert all(planned[place][name] >= max(done[place][name], result[place][name]) for name in ("matched", "removed", "marked"))
            continue
        for said in (planned, result):
            counted = COUNTED[:5] if rule.table in along else COUNTED
            assert {name: said[place][name] for name in counted} == {name: done[place][name] for name in counted}
