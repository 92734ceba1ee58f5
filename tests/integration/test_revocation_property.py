"""Any tokens, any selection, every way to revoke, a real server: what a model in Python means is refused, nothing else changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._revocation.report import Unproven
from tests.ground.databases import Database
from tests.integration.hindering import Revoker
from tests.integration.revocation_model import BASE, FEW, SKEWS, ZONES, Data, Ids, Kind, Rows, Shape, Store
from tests.integration.revoking import numbers


class World:
    """One database and two sessions for all examples of a test."""

    def __init__(self, database: Database, connection: psycopg.Connection[Any]) -> None:
        self.connection, revoker = connection, Revoker(database)
        self.columns: dict[str, list[str]] = {}
        # The tables are made anew with every example, and a plan would be of the old ones.
        connection.prepare_threshold = None
        connection.execute(SQL("ALTER DATABASE {} SET timezone = 'Pacific/Kiritimati'").format(Identifier(database.name)))
        self.reading, self.writing = revoker.open(read_only=True), revoker.open()

    def now(self) -> datetime:
        return self.connection.execute("SELECT now()").fetchone()[0]  # type: ignore[index]

    def make(self, table: str, columns: dict[str, str], unique: bool, rows: list[dict[str, Any]]) -> None:
        """Make a table and its rows; where the id is unique, one of each."""
        self.columns[table] = list(columns)
        self.connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(table)))
        types = SQL(", ").join(SQL("{} {}").format(Identifier(name), SQL(kind)) for name, kind in columns.items())
        self.connection.execute(SQL("CREATE UNLOGGED TABLE {} ({})").format(Identifier(table), types))
        if unique:
            rows = list({row["id"]: row for row in rows if row["id"] is not None}.values())
            self.connection.execute(SQL("ALTER TABLE {} ADD PRIMARY KEY (id)").format(Identifier(table)))
        if rows:
            values = SQL("({})").format(SQL(", ").join(SQL("%s::text::{}").format(SQL(kind)) for kind in columns.values()))
            insert = SQL("INSERT INTO {} VALUES {}").format(Identifier(table), SQL(", ").join([values] * len(rows)))
            self.connection.execute(insert, [row[name] for row in rows for name in columns])

    def content(self, table: str) -> Rows:
        """Return the rows of a table, sorted."""
        names = self.columns[table]
        texts = SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in names)
        rows = self.connection.execute(SQL("SELECT {} FROM {}").format(texts, Identifier(table))).fetchall()
        return [dict(zip(names, row, strict=True)) for row in sorted(rows, key=repr)]

    def contents(self, stores: list[Store]) -> dict[str, Rows]:
        return {table: self.content(table) for store in stores for table in store.tables}

    def run(self, options: dict[str, Any], *, check: bool) -> dict[str, Any]:
        """Revoke or take back; what is not proven is in the result."""
        read = _revocation.read_options({"reason": "a test", "max_wait": "500 ms", **options})
        try:
            return _revocation.run(self.reading if check else self.writing, read, check_mode=check)
        except Unproven as error:
            return error.result
        finally:
            if not check:
                # Rows that were set aside last stay until the session ends.
                self.writing.execute("DISCARD TEMP")


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with database.connect() as connection:
        made = World(database, connection)
        yield made
        made.reading.close()
        made.writing.close()


KINDS = st.one_of(
    st.just(Kind("timestamptz")),
    st.builds(Kind, st.just("timestamp"), st.sampled_from(ZONES)),
    st.builds(Kind, st.just("date"), st.sampled_from((*ZONES, None))),
    st.sampled_from((Kind("bigint", unit="s"), Kind("bigint", unit="ms"), Kind("integer", unit="s"))),
)
WAYS = ("denylist", "timestamp", "flag", "delete")


@st.composite
def shapes(draw: st.DrawFn, ways: tuple[str, ...]) -> Shape:
    """Return a store's shape; half of the deny lists have times of the very kind that the tokens have."""
    way, ends = draw(st.sampled_from(ways)), draw(KINDS)
    deny_ends = draw(st.one_of(st.none(), st.just(ends), KINDS))
    marked = draw(KINDS if way == "timestamp" else st.one_of(st.none(), KINDS))
    nameless = way != "denylist" or draw(st.integers(0, 15)) == 15
    family, renewed, unique, deny_unique, word = (draw(st.booleans()) for _times in range(5))
    return Shape(way, draw(KINDS), ends, marked, deny_ends, family, renewed, unique, deny_unique, word, nameless)


IDS = st.sampled_from(
    [
        *(Ids("uuid", "uuid", "uuid"), Ids("text", "text", "text"), Ids("bigint", "bigint", "bigint")),
        *(Ids("uuid", "text", "uuid"), Ids("uuid", "uuid", "text")),
    ]
)
NUMBERS = st.integers(1, 4)
LINKS = st.one_of(st.tuples(NUMBERS, st.integers(0, 2)), st.none(), st.tuples(NUMBERS, st.integers(0, 2)))
# Times of issue lie half a minute from the ends of windows, expiries from every skew, so that nothing crosses a cut-off between runs.
ISSUED = st.one_of(st.none(), st.sampled_from((-4000.5, -1440.5, -90.5, -30.5, -0.5, 0.5, 30.5, 90.5, 1440.5, 4000.5)))
ENDS = st.one_of(
    st.sampled_from((3000.5, 5000.5, 9000.5)),
    st.sampled_from((None, "infinity", "far", "-infinity", -5000.5, -60.5, -30.5, -29.5, -5.5, -4.5, 4.5, 30.5)),
)
TOKENS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.one_of(NUMBERS, NUMBERS, NUMBERS, st.none()),
            "subject": st.sampled_from(("anna", "bert", None)),
            "claims": st.sampled_from(("admin", "sub,admin", "sub", "administrator", "", None)),
            "family": LINKS,
            "renewed_from": LINKS,
            "issued": ISSUED,
            "ends": ENDS,
            "revoked": st.sampled_from((None, None, None, "long ago", "now", "not")),
        }
    ),
    min_size=1,
    max_size=8,
)
DENIED = st.lists(st.tuples(st.integers(1, 6), ENDS), max_size=5)
WINDOWS = st.sampled_from([(-60, 60), (-1440, 0), (0, 1440), (-60, None), (0, None), (None, 60), (None, -60)])


@st.composite
def selections(draw: st.DrawFn) -> dict[str, Any]:
    """Return criteria, ids as numbers and times as minutes."""
    given = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "ids": st.lists(NUMBERS, min_size=1, max_size=2, unique=True),
                "subjects": st.sampled_from((["anna"], ["anna", "bert"], ["carl"])),
                "claims": st.sampled_from((["admin"], ["sub"], ["admin", "administrator"])),
                "claim_pattern": st.sampled_from(("adm*", "s*")),
                "families": st.lists(NUMBERS, min_size=1, max_size=2, unique=True),
                "window": WINDOWS,
            },
        )
    )
    # Many criteria at once mean nothing in most worlds.
    kept = draw(st.integers(1, 2))
    return {name: given[name] for name in list(given)[:kept]} if given else {"all": True}


def written(select: dict[str, Any], ids: Ids, stores: list[Store]) -> dict[str, Any]:
    """Return a selection as it is given to the engine, without families where a store knows none."""
    made = {name: value for name, value in select.items() if name not in ("ids", "families", "window")}
    if "ids" in select:
        made["ids"] = [ids.written(number) for number in select["ids"]]
    if "families" in select and all(store.shape.family for store in stores):
        made["families"] = [ids.written(number) for number in select["families"]]
    ends = dict(zip(("issued_from", "issued_to"), select.get("window", ()), strict=False))
    made |= {name: str(BASE + timedelta(minutes=at)) for name, at in ends.items() if at is not None}
    return made or {"all": True}


def fill(world: World, store: Store, tokens: list[dict[str, Any]], denied: list[tuple[int, Any]]) -> None:
    """Make the tables of a store."""
    now, shape, ids = world.now(), store.shape, store.ids

    def moment(distance: float | str | None) -> datetime | str | None:
        return distance if distance is None or isinstance(distance, str) else now + timedelta(minutes=distance)

    marks = {"long ago": store.marked.stored(BASE), "now": store.marked.stored(now)}
    flags = {None: None, "not": not shape.word}
    rows = []
    for token in [token for token in tokens if token["id"] or shape.nameless]:
        flag = flags.get(token["revoked"], shape.word)
        made = {"id": token["id"] and ids.written(token["id"]), "subject": token["subject"], "claims": token["claims"]}
        made |= {name: token[name] and ids.link(*token[name]) for name in ("family", "renewed_from")}
        made["issued"] = shape.issued.stored(None if token["issued"] is None else BASE + timedelta(minutes=token["issued"]))
        made["ends"] = shape.ends.stored(moment(token["ends"]))
        made |= {"marked": marks.get(token["revoked"]), "flagged": None if flag is None else str(flag).lower()}
        rows.append(made)
    columns = {"id": ids.type, "subject": "text", "claims": "text", "family": ids.link_type, "renewed_from": ids.link_type}
    columns |= {"issued": shape.issued.type, "ends": shape.ends.type, "marked": store.marked.type, "flagged": "boolean"}
    world.make(store.tables[0], columns, shape.unique, rows)
    deny_kind = shape.deny_ends or Kind("timestamptz")
    denials = [{"id": ids.written(number), "marked": marks["long ago"], "ends": deny_kind.stored(moment(at))} for number, at in denied]
    types = {"id": ids.deny_type, "marked": store.marked.type, "ends": deny_kind.type}
    world.make(store.tables[1], types, shape.deny_unique, denials)


def counted(rows: Rows, without: str | None = None) -> Counter[Any]:
    """Return how often each row stands there, one column aside."""
    return Counter(tuple((name, value) for name, value in row.items() if name != without) for row in rows)


@dataclass(frozen=True)
class Expected:
    """What the model says of a store: the counts, the tokens that are to be revoked and those that are not to be touched."""

    counts: dict[str, int]
    pending: Rows
    others: Rows
    hopeless: bool

    @classmethod
    def of(cls, store: Store, before: dict[str, Rows], select: dict[str, Any], past: datetime) -> Expected:
        tokens, denied = (before[table] for table in store.tables)
        places = store.selected(tokens, select)
        chosen = [tokens[place] for place in places]
        alive = [token for token in chosen if store.alive(token, past)]
        waiting = {place for place in places if store.alive(tokens[place], past) and not store.revoked(tokens[place], denied)}
        pending = [tokens[place] for place in sorted(waiting)]
        in_list = store.shape.way == "denylist"
        rows = len({token["id"] for token in pending}) if in_list else len(pending)
        counts = {"selected": len(chosen), "expired": len(chosen) - len(alive), "already_revoked": len(alive) - len(pending)}
        others = [token for place, token in enumerate(tokens) if place not in waiting]
        # No deny list can name a token without an id.
        hopeless = in_list and any(token["id"] is None for token in pending)
        return cls({**counts, "pending": rows, "revoked": rows - hopeless}, pending, others, hopeless)


def require_only_meant(store: Store, expected: Expected, before: dict[str, Rows], after: dict[str, Rows]) -> None:
    """Nothing has changed but what was to be revoked, and that only where it is revoked."""
    tokens, denied = store.tables
    if store.shape.way == "denylist":
        assert after[tokens] == before[tokens]
        ids = {Ids.same(token["id"]) for token in expected.pending}
        was, is_now = ([row for row in rows[denied] if Ids.same(row["id"]) not in ids] for rows in (before, after))
        assert is_now == was
        # Deny rows are added and extended, and none goes.
        assert not counted(before[denied], "ends") - counted(after[denied], "ends")
        return
    assert after[denied] == before[denied]
    assert not counted(expected.others) - counted(after[tokens])
    changed = counted(after[tokens]) - counted(expected.others)
    column = {"timestamp": "marked", "flag": "flagged"}.get(store.shape.way)
    rows = [dict(row) for row in changed.elements()]
    assert counted(rows, column) == (counted(expected.pending, column) if column else Counter())


def comparable(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what check mode and the run must agree on; tokens of one moment may be shown in any order."""
    return [{**store, "sample": sorted(store["sample"], key=str)} for store in numbers(result)]


def verify(world: World, stores: list[Store], data: list[Data], select: dict[str, Any], **options: Any) -> None:
    """Rehearse, revoke, revoke again and take back, and look at every table after each."""
    for store, rows in zip(stores, data, strict=False):
        fill(world, store, *rows)
    select = written(select, stores[0].ids, stores)
    skew = options.pop("skew")
    asked = {"token_stores": [store.described() for store in stores], "select": select, "clock_skew": f"{skew} min", "max_tokens": 1000}
    asked |= options
    before = world.contents(stores)
    planned = world.run(asked, check=True)
    assert world.contents(stores) == before
    result = world.run(asked, check=False)
    # A day may end between the two.
    foreseen, past = (datetime.fromisoformat(one["as_of"]) - timedelta(minutes=skew) for one in (planned, result))
    after = world.contents(stores)
    expected = [Expected.of(store, before, select, past) for store in stores]
    hoped = [Expected.of(store, before, select, foreseen) for store in stores]
    hopeless = sum(one.hopeless for one in expected)
    for store, one, plan, told, foretold in zip(stores, expected, hoped, result["stores"], planned["stores"], strict=True):
        assert {name: told[name] for name in one.counts} == one.counts
        assert {name: foretold[name] for name in plan.counts} == {**plan.counts, "revoked": plan.counts["pending"]}
        require_only_meant(store, one, before, after)
        tokens, denied = (after[table] for table in store.tables)
        accepted = [token for token in tokens if store.alive(token, past) and not store.revoked(token, denied)]
        still = [tokens[place] for place in store.selected(tokens, select) if tokens[place] in accepted]
        assert all(token["id"] is None and one.hopeless for token in still)
        assert not [token for token in one.pending if token in accepted and token["id"] is not None]
    assert result["remaining"] == hopeless
    assert hopeless or hoped != expected or comparable(planned) == comparable(result)
    again = world.run(asked, check=False)
    assert (again["changed"], again["revoked"], world.contents(stores)) == (False, 0, after)
    if result["changed"]:
        back = {"token_stores": asked["token_stores"], "state": "reinstated", "revocation_id": result["revocation_id"]}
        undone = world.run(back, check=False)
        assert undone["left"] == 0, undone["changes"]
    assert world.contents(stores) == before


BATCHES = st.sampled_from(({"batch_rows": 1}, {"batch_rows": 2}, {}, {"atomic": True}))


@FEW
@given(
    shape=shapes(("denylist",)),
    ids=IDS,
    tokens=TOKENS,
    denied=DENIED,
    select=selections(),
    skew=st.sampled_from(SKEWS),
    batches=BATCHES,
)
def test_a_deny_list_denies_what_the_model_means(
    world: World,
    shape: Shape,
    ids: Ids,
    tokens: list[dict[str, Any]],
    denied: list[tuple[int, Any]],
    select: dict[str, Any],
    skew: int,
    batches: dict[str, Any],
) -> None:
    verify(world, [Store(1, shape, ids)], [(tokens, denied)], select, skew=skew, **batches)


@FEW
@given(
    shape=shapes(("timestamp", "flag", "delete")),
    ids=IDS,
    tokens=TOKENS,
    select=selections(),
    skew=st.sampled_from(SKEWS),
    batches=BATCHES,
)
def test_tokens_are_revoked_in_their_rows_as_the_model_means(
    world: World,
    shape: Shape,
    ids: Ids,
    tokens: list[dict[str, Any]],
    select: dict[str, Any],
    skew: int,
    batches: dict[str, Any],
) -> None:
    verify(world, [Store(1, shape, ids)], [(tokens, [])], select, skew=skew, **batches)


@FEW
@given(
    made=st.lists(shapes(WAYS), min_size=2, max_size=2),
    ids=IDS,
    data=st.lists(st.tuples(TOKENS, DENIED), min_size=2, max_size=2),
    select=selections(),
    batches=BATCHES,
)
def test_several_stores_are_revoked_in_one_run_as_the_model_means(
    world: World,
    made: list[Shape],
    ids: Ids,
    data: list[Data],
    select: dict[str, Any],
    batches: dict[str, Any],
) -> None:
    verify(world, [Store(number, shape, ids) for number, shape in enumerate(made, 1)], data, select, skew=5, **batches)
