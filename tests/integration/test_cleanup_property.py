"""Any rows, any rules, a real server: what goes is what a model in Python says, and no live denied token is accepted again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup, _instant
from tests.integration.cleaning import Cleaner, numbers
from tests.integration.cleanup_drawing import examples

pytestmark = pytest.mark.any_driver

NEVER, ALWAYS = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
ZONES = ("UTC", "Europe/Tallinn", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu")
LAST_ZONE = timezone(-timedelta(hours=12))
# Distances lie half a minute away from every age and skew, so that no row crosses a cut-off between check mode and the run.
AGES = (0, 1, 5, 60, 1440)
SKEWS = (0, 5, 30)


@dataclass(frozen=True)
class Kind:
    """A kind of time column: its SQL type, and the zone and unit that a rule declares."""

    type: str
    zone: str | None = None
    unit: str | None = None

    def written(self, column: str) -> dict[str, Any]:
        """Return the column as a rule has it."""
        return {key: value for key, value in (("column", column), ("time_zone", self.zone), ("unit", self.unit)) if value}

    def stored(self, at: datetime | str | None) -> Any:
        """Return what the column holds for an instant, for infinity or for NULL."""
        if at is None or isinstance(at, str):
            return at if at is None or not self.unit else None
        if self.unit:
            return int(at.timestamp() * (1000 if self.unit == "ms" else 1))
        if self.type == "timestamptz":
            return at
        wall = at.astimezone(ZoneInfo(self.zone) if self.zone else LAST_ZONE).replace(tzinfo=None)
        return wall.date() if self.type == "date" else wall

    def end(self, stored: Any) -> datetime:
        """Return the instant from which a stored value is past."""
        if stored is None or stored == "infinity":
            return NEVER
        if stored == "-infinity":
            return ALWAYS
        zone = ZoneInfo(self.zone) if self.zone else LAST_ZONE
        if self.unit:
            return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=(stored + 1) * (1 if self.unit == "ms" else 1000))
        if isinstance(stored, datetime):
            return stored if stored.tzinfo else stored.replace(tzinfo=zone, fold=1).astimezone(UTC)
        assert isinstance(stored, date)
        return datetime.combine(stored + timedelta(days=1), time(), zone).astimezone(UTC)

    def past(self, stored: Any, at: datetime) -> bool:
        """Return whether a stored value lies before an instant; what has an extent in time must have ended."""
        end = self.end(stored)
        return end <= at if self.unit or self.type == "date" else end < at


KINDS = st.one_of(
    st.just(Kind("timestamptz")),
    st.builds(Kind, st.just("timestamp"), st.sampled_from(ZONES)),
    st.builds(Kind, st.just("date"), st.sampled_from((*ZONES, None))),
    st.sampled_from((Kind("bigint", unit="s"), Kind("bigint", unit="ms"), Kind("integer", unit="s"))),
)
DISTANCES = st.one_of(
    st.none(),
    st.sampled_from(("infinity", "-infinity")),
    st.sampled_from([sign * minutes + half for sign in (-1, 1) for minutes in (*AGES, 6, 10, 90, 3000) for half in (-0.5, 0.5)]),
)
# Few ids, and times that mostly lie long ago, where a rule on them leaves the say to the expiries.
IDS = st.sampled_from([*(str(uuid.UUID(int=n)) for n in range(1, 4)), None])
LONG_AGO = st.one_of(st.just(-3000.5), DISTANCES)
ROWS = st.lists(st.tuples(IDS, LONG_AGO, DISTANCES), min_size=1, max_size=12)
RULE = st.tuples(st.sampled_from(("tokens", "denied", "plain")), st.sampled_from(("began", "ends")), st.sampled_from(AGES))
RULES = st.lists(RULE, min_size=1, max_size=5)


@dataclass(frozen=True)
class Row:
    id: str | None
    began: Any
    ends: Any
    number: int


class World:
    """Three tables, filled at will: tokens, denied and plain, each with an id, `began` and `ends`."""

    def __init__(self, cleaner: Cleaner, connection: psycopg.Connection[Any], patches: pytest.MonkeyPatch) -> None:
        self.connection = connection
        # For the engine no time passes: a day could end somewhere between check mode and the run.
        self.now = _instant.server_now
        patches.setattr(_instant, "server_now", lambda _database: self.made)
        connection.execute(SQL("ALTER DATABASE {} SET timezone = 'Pacific/Kiritimati'").format(Identifier(cleaner.database.name)))
        connection.execute("SET timezone = 'UTC'")
        self.reading, self.writing = cleaner.open(read_only=True), cleaner.open()

    def fill(self, kinds: dict[str, tuple[Kind, Kind]], rows: dict[str, list[Any]]) -> dict[str, list[Row]]:
        """Make the tables and return their rows as they are stored."""
        self.made = self.now(self.reading)
        now = self.connection.execute("SELECT now()").fetchone()[0]  # type: ignore[index]
        made = {}
        for table, (began, ends) in kinds.items():
            self.connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(table)))
            create = SQL("CREATE UNLOGGED TABLE {} (id uuid, began {}, ends {}, number int)")
            self.connection.execute(create.format(Identifier(table), SQL(began.type), SQL(ends.type)))
            made[table] = [
                Row(id_, began.stored(self.moment(now, first)), ends.stored(self.moment(now, second)), number)
                for number, (id_, first, second) in enumerate(rows[table])
            ]
            # The newest value tells seconds from milliseconds.
            insert = SQL("INSERT INTO {} VALUES (%s, %s::text::{}, %s::text::{}, %s)").format(
                Identifier(table), SQL(began.type), SQL(ends.type)
            )
            for row in made[table]:
                self.connection.execute(insert, [row.id, *(None if at is None else str(at) for at in (row.began, row.ends)), row.number])
        return made

    @staticmethod
    def moment(now: datetime, distance: float | str | None) -> datetime | str | None:
        return distance if distance is None or isinstance(distance, str) else now + timedelta(minutes=distance)

    def left(self, table: str) -> set[int]:
        """Return the numbers of the rows that are still there."""
        return {row[0] for row in self.connection.execute(SQL("SELECT number FROM {}").format(Identifier(table)))}

    def run(self, rules: list[Any], stores: list[Any], skew: int, batch: int, *, check: bool) -> dict[str, Any]:
        options = _cleanup.read_options({"rules": rules, "token_stores": stores, "clock_skew": f"{skew} min", "batch_rows": batch})
        return _cleanup.clean_up(self.reading if check else self.writing, options, check_mode=check)


@pytest.fixture
def world(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with cleaner.database.connect() as connection:
        made = World(cleaner, connection, monkeypatch)
        yield made
        made.reading.close()
        made.writing.close()


def store(kinds: dict[str, tuple[Kind, Kind]], own_expiry: bool) -> dict[str, Any]:
    revoke = {
        "how": "denylist",
        "table": "denied",
        "id": "id",
        **({"expires_at": kinds["denied"][1].written("ends")} if own_expiry else {}),
    }
    return {"name": "app", "tokens": {"table": "tokens", "id": "id", "expires_at": kinds["tokens"][1].written("ends")}, "revoke": revoke}


def model(
    made: dict[str, list[Row]], kinds: dict[str, tuple[Kind, Kind]], rules: list[Any], own_expiry: bool, skew: int, as_of: datetime
) -> dict[str, set[int]]:
    """Return the numbers of the rows that stay, by table."""
    past = as_of - timedelta(minutes=skew)

    def covered(table: str, row: Row) -> bool:
        extra = skew if table == "denied" else 0
        return any(
            kinds[table][column == "ends"].past(getattr(row, column), as_of - timedelta(minutes=age + extra))
            for where, column, age in rules
            if where == table
        )

    def same(row: Row, others: list[Row]) -> list[Row]:
        return [other for other in others if other.id == row.id and row.id is not None]

    def live(token: Row) -> bool:
        return not kinds["tokens"][1].past(token.ends, past)

    def forgettable(deny: Row) -> bool:
        tokens = same(deny, made["tokens"])
        known = kinds["denied"][1].past(deny.ends, past) if own_expiry else bool(tokens)
        return known and not any(live(token) for token in tokens)

    denied = [row for row in made["denied"] if not (covered("denied", row) and forgettable(row))]

    def needs(deny: Row, token: Row) -> bool:
        if not own_expiry or deny.ends is None:
            return True
        ends = (kinds["denied"][1].end(deny.ends), kinds["tokens"][1].end(token.ends))
        return live(token) and ends[0] < ends[1]

    tokens = [row for row in made["tokens"] if not covered("tokens", row) or any(needs(deny, row) for deny in same(row, denied))]
    plain = [row for row in made["plain"] if not covered("plain", row)]
    return {table: {row.number for row in rows} for table, rows in (("tokens", tokens), ("denied", denied), ("plain", plain))}


@examples(60)
@given(
    kinds=st.fixed_dictionaries({table: st.tuples(KINDS, KINDS) for table in ("tokens", "denied", "plain")}),
    rows=st.fixed_dictionaries(dict.fromkeys(("tokens", "denied", "plain"), ROWS)),
    rules=RULES,
    own_expiry=st.booleans(),
    skew=st.sampled_from(SKEWS),
    batch=st.sampled_from((1, 2, 1000)),
)
def test_exactly_the_rows_of_the_model_go(
    world: World, kinds: dict[str, Any], rows: dict[str, Any], rules: list[Any], own_expiry: bool, skew: int, batch: int
) -> None:
    made = world.fill(kinds, rows)
    written = [
        {"name": f"rule {number}", "table": table, "column": kinds[table][column == "ends"].written(column), "older_than": f"{age} min"}
        for number, (table, column, age) in enumerate(rules)
    ]
    stores = [store(kinds, own_expiry)]
    planned = world.run(written, stores, skew, batch, check=True)
    assert {table: world.left(table) for table in made} == {table: {row.number for row in made[table]} for table in made}
    result = world.run(written, stores, skew, batch, check=False)
    stays = model(made, kinds, rules, own_expiry, skew, datetime.fromisoformat(result["as_of"]))
    assert {table: world.left(table) for table in made} == stays
    assert numbers(planned) == numbers(result)
    assert result["removed"] == sum(len(made[table]) - len(stays[table]) for table in made)
    assert world.run(written, stores, skew, batch, check=False)["changed"] is False


INSTANT = Kind("timestamptz")


@examples(60)
@given(
    rows=st.fixed_dictionaries(dict.fromkeys(("tokens", "denied"), ROWS)),
    runs=st.lists(st.tuples(RULES, st.sampled_from((0, 30, 2000))), min_size=1, max_size=4),
    own_expiry=st.booleans(),
    skew=st.sampled_from(SKEWS),
)
def test_no_live_denied_token_is_accepted_again_however_time_goes_by(
    world: World, rows: dict[str, Any], runs: list[Any], own_expiry: bool, skew: int
) -> None:
    """Run after run with other rules, while time passes (the rows grow older): who was denied stays denied until the token has expired."""
    kinds = dict.fromkeys(("tokens", "denied", "plain"), (INSTANT, INSTANT))
    made = world.fill(kinds, {**rows, "plain": []})
    # What a token's own row says is signed into the token; where there is none, the deny row is all that is known.
    ends: dict[str, datetime] = {}
    for deny in made["denied"]:
        if deny.id is not None:
            tokens = [INSTANT.end(token.ends) for token in made["tokens"] if token.id == deny.id]
            own = INSTANT.end(deny.ends) if own_expiry else NEVER
            ends[deny.id] = max(ends.get(deny.id, ALWAYS), *(tokens or [own]))
    passed = timedelta()
    for rules, minutes in runs:
        for table in ("tokens", "denied"):
            older = SQL("UPDATE {} SET began = began - %(by)s, ends = ends - %(by)s").format(Identifier(table))
            world.connection.execute(older, {"by": timedelta(minutes=minutes)})
        passed += timedelta(minutes=minutes)
        written = [
            {"name": f"rule {number}", "table": table, "column": column, "older_than": f"{age} min"}
            for number, (table, column, age) in enumerate(rules)
        ]
        result = world.run(written, [store(kinds, own_expiry)], skew, 1000, check=False)
        now = datetime.fromisoformat(result["as_of"])
        still = {str(row[0]) for row in world.connection.execute("SELECT id FROM denied")}
        for id_, end in ends.items():
            alive = end == NEVER or (end != ALWAYS and end - passed + timedelta(minutes=skew) >= now)
            assert id_ in still or not alive
