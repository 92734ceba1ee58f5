"""Any tables, stores and rules, run after run: exactly what a model in Python says happens to each row, and nobody is let in again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from tests.integration.cleaning import Cleaner
from tests.integration.cleanup_drawing import Case, cases, examples
from tests.integration.cleanup_model import COLUMNS, Did, Model, Row, Rows, Rule, Table
from tests.integration.cleanup_world import World
from tests.integration.revocation_model import ALWAYS, NEVER, Ids

pytestmark = pytest.mark.any_driver

COUNTED = ("matched", "protected", "removed", "archived", "marked", "rows_left", "partitions")


@pytest.fixture
def world(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with cleaner.database.connect() as connection:
        made = World(cleaner, connection, monkeypatch)
        yield made
        made.reading.close()
        made.writing.close()


@examples(30)
@given(case=cases())
def test_every_row_meets_its_fate_and_nobody_is_let_in_again(world: World, case: Case) -> None:
    tables = world.make(case)
    rows = {name: world.read(name) for name in tables}
    archived: dict[str, Rows] = {}
    dropped: frozenset[str] = frozenset()
    away = TurnedAway(case, tables, rows)
    for drawn, minutes in case.runs:
        world.clock += minutes
        rules = [rule for rule in drawn if rule.part is None or rule.part in set(tables[rule.table].parts) - dropped]
        planned = world.run(case, tables, rules, check=True)
        assert {name: world.read(name) for name in tables} == rows
        result = world.run(case, tables, rules, check=False)
        as_of = datetime.fromisoformat(result["as_of"])
        model = Model(tables, case.stores, case.skew, as_of, {name: [dict(row) for row in rows[name]] for name in tables}, dropped)
        done = model.run(rules)
        after = {name: world.read(name) for name in tables}
        away.require_out(after, model.marks, as_of)
        require_kept(world, model, rows, after, archived)
        require_numbers(rules, done, planned, result)
        rows, dropped = after, model.dropped
    again = [rule for rule in rules if rule.part not in dropped]
    if reads_no_marks(again):
        assert world.run(case, tables, again, check=False)["changed"] is False
        assert {name: world.read(name) for name in tables} == rows


def require_kept(world: World, model: Model, before: dict[str, Rows], after: dict[str, Rows], archived: dict[str, Rows]) -> None:
    """Require of every row that it is where it belongs, whole, and was touched once if at all."""
    touched = Counter(world.noted())
    assert not [row for row, times in touched.items() if times > 1]
    assert {number for number, what in touched if what == "UPDATE"} == set(model.marks)
    for name, rows in after.items():
        got, expected = ({row["number"]: content(row) for row in some} for some in (rows, model.rows[name]))
        assert len(got) == len(rows)
        assert {
            number: (got.get(number), expected.get(number)) for number in {*got, *expected} if got.get(number) != expected.get(number)
        } == {}
        was = {row["number"]: row for row in before[name]}
        # What no rule is about has not been written anew either.
        assert [row for row in rows if row["number"] not in model.marks] == [
            was[row["number"]] for row in rows if row["number"] not in model.marks
        ]
        archive = f"{name}_archive"
        archived.setdefault(name, []).extend(model.archived.get(name, []))
        held = world.read(archive) if world.exists(archive) else []
        assert [kept(row) for row in held] == sorted((kept(row) for row in archived[name]), key=lambda row: int(row[0]))


def require_numbers(rules: list[Rule], done: list[Did], planned: dict[str, Any], result: dict[str, Any]) -> None:
    """Require that check mode, the run and the model agree on every number."""
    for rule, did, said, row in zip(rules, done, planned["rules"], result["rules"], strict=True):
        expected = {key: value for key, value in asdict(did).items() if key in COUNTED}
        assert (rule, {key: row[key] for key in COUNTED}) == (rule, expected)
        assert (rule, {key: said[key] for key in COUNTED}) == (rule, expected)
        assert (row["remaining"], said["remaining"], row["skipped_locked"]) == (0, 0, 0)
        assert (row["stopped"], said["stopped"]) == ("done", "check_mode")
    for key in COUNTED[:5]:
        assert planned[key] == result[key] == sum(asdict(did)[key] for did in done)
    assert planned["changed"] == result["changed"] == any(did.removed or did.marked or did.partitions for did in done)


def reads_no_marks(rules: list[Rule]) -> bool:
    """Return whether no rule is about rows because another one of the same run has marked them."""
    marked = {(rule.table, rule.mark[0]) for rule in rules if rule.action == "soft_delete" and rule.mark}
    read = {(rule.table, column) for rule in rules for column in (*(each[0] for each in rule.where), *(rule.keep[1] if rule.keep else ()))}
    purged = {(rule.table, (rule.mark or (rule.column,))[0]) for rule in rules if rule.action == "purge"}
    return not marked & (read | purged)


def content(row: Row) -> list[Any]:
    return [row[column] for column in ("leaf", *COLUMNS)]


def kept(row: Row) -> list[Any]:
    return [row[column] for column in COLUMNS]


class TurnedAway:
    """Whom the application turns away although nothing has expired, as it is before the first run.

    What a token's own row says of its end is signed into the token; where there is none, the deny row is all that is known.
    """

    def __init__(self, case: Case, tables: dict[str, Table], rows: dict[str, Rows]) -> None:
        self.case, self.tables = case, tables
        self.denied: dict[tuple[str, str], datetime] = {}
        self.revoked: dict[tuple[str, str], datetime] = {}
        for store in case.stores:
            for token in rows[store.tokens]:
                if store.revoked(token):
                    self.revoked[store.tokens, token["number"]] = store.end(tables, token)
        for name in {store.denied for store in case.stores if store.denied}:
            for deny in rows[name]:
                if deny["id"] is not None:
                    key = name, Ids.same(deny["id"]) or ""
                    self.denied[key] = max(self.denied.get(key, ALWAYS), self._end(name, deny, rows))
        self.limits = {
            (store.limits, row["number"])
            for store in case.stores
            for row in (rows[store.limits] if store.limits else [])
            if row["limited"] not in (None, "0")
        }

    def _end(self, table: str, deny: Row, rows: dict[str, Rows]) -> datetime:
        """Return when the token of a deny row ends, as far as anything says so."""
        stores = [store for store in self.case.stores if store.denied == table]
        own = self.tables[table].kind("ends").end(deny["ends"])
        ends = [
            store.end(self.tables, token) if store.ends or store.lifetime else own if store.own_end else NEVER
            for store in stores
            for token in rows[store.tokens]
            if Ids.same(token["id"]) == Ids.same(deny["id"])
        ]
        return max(ends) if ends else own if any(store.own_end for store in stores) else NEVER

    def require_out(self, rows: dict[str, Rows], marked: dict[str, Any], now: datetime) -> None:
        """Require that nobody of them can come in now who could still come in by the end of his token, clock skew included."""
        numbers = {(name, row["number"]) for name in rows for row in rows[name] if row["number"] not in marked}
        ids = {(name, Ids.same(row["id"])) for name in rows for row in rows[name] if row["number"] not in marked}
        past = now - timedelta(minutes=self.case.skew)
        assert not [key for key, end in self.denied.items() if alive(end, past) and key not in ids]
        assert not [key for key, end in self.revoked.items() if alive(end, past) and key not in numbers]
        assert self.limits <= numbers


def alive(end: datetime, past: datetime) -> bool:
    return end == NEVER or (end != ALWAYS and end > past)
