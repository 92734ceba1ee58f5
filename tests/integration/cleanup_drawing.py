"""Tables, rows, token stores, rules and ways through a table, as hypothesis draws them."""

from __future__ import annotations

import os
import random
import uuid
import zlib
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.integration.cleanup_model import Rule, Store, Table
from tests.integration.revocation_model import SKEWS, ZONES, Kind

# Few by default; a long soak asks for more, and for other ones.
EXAMPLES = int(os.environ.get("PGOPS_TEST_EXAMPLES") or 0)


def examples(few: int) -> settings:
    """Return the settings of a property with `few` examples where nobody asks for another number."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=EXAMPLES or few, deadline=None, suppress_health_check=checks)


# Distances lie half a minute away from every age and skew, so that no row crosses a cut-off between check mode and the run.
AGES = (0, 1, 5, 60, 1440)
LIFETIMES = (5, 60)
NEAR = [sign * minutes + half for sign in (-1, 1) for minutes in (*AGES, 6, 10, 35, 90, 1500, 3000) for half in (-0.5, 0.5)]
DISTANCES = (None, "infinity", "-infinity", *NEAR)
# Mostly long ago, where a rule on them leaves the say to the expiries; and where the skew decides.
LONG_AGO = (*(-3000.5, -4000.5, -3400.5, -2500.5) * 12, *DISTANCES)
ENDS = (*(None, -4.5, -20.5, -29.5, -90.5, 34.5) * 6, *DISTANCES)
BOUNDS = (-3500.25, -3000.25, -1480.25, -70.25, -20.25, 0.25, 100.25)

KINDS = st.one_of(
    st.just(Kind("timestamptz")),
    st.builds(Kind, st.just("timestamp"), st.sampled_from(ZONES)),
    st.builds(Kind, st.just("date"), st.sampled_from((*ZONES, None))),
    st.sampled_from((Kind("bigint", unit="s"), Kind("bigint", unit="ms"), Kind("integer", unit="s"))),
)
MARK_KINDS = st.sampled_from((Kind("timestamptz"), Kind("timestamp", "Asia/Kathmandu"), Kind("bigint", unit="ms"), Kind("date", "UTC")))
STATES, GRADES, SUBJECTS = ("sent", "gone", "new"), ("1", "2", "3"), ("ann", "bob")
FIELDS: dict[str, tuple[Any, ...]] = {
    "id": (1, 1, 1, 2, 2, 3, None),
    "began": LONG_AGO,
    "ends": ENDS,
    "subject": (*SUBJECTS, "ann", None),
    "state": (*STATES, None),
    "grade": (*GRADES, None),
    "flagged": ("true", "false", None),
    "deleted": (None, None, -100.5, -3000.5),
    "revoked": (None, -100.5),
    "limited": (None, -100.5, "-infinity"),
    "leaf": (0, 1),
}
CONDITIONS = st.one_of(
    st.tuples(st.just("state"), st.sampled_from(("=", "!=")), st.sampled_from(STATES)),
    st.tuples(st.just("state"), st.sampled_from(("in", "not in")), st.sampled_from((["sent"], ["new", "sent"]))),
    st.tuples(st.just("grade"), st.sampled_from(("<", "<=", ">", ">=", "=", "!=")), st.sampled_from((1, 2, 3))),
    st.tuples(st.sampled_from(("state", "grade", "deleted", "id")), st.sampled_from(("is null", "is not null")), st.none()),
)
KEEP = st.tuples(st.sampled_from((1, 2, 3)), st.sampled_from((("subject",), ("grade",), ("id",), ("subject", "grade"))))
# The servers compare a text with a uuid, and integers of different lengths.
ID_TYPES = st.sampled_from((("uuid", "uuid"), ("uuid", "text"), ("text", "uuid"), ("bigint", "integer"), ("text", "text")))


@dataclass(frozen=True)
class Way:
    """What decides over the way through a table: how much is much, and what the planner may do."""

    batch_rows: int
    first_rows: int
    least_rows: int
    first_pages: int
    few: float
    in_order: float
    off: tuple[str, ...]
    analyze: bool


WAYS = st.builds(
    Way,
    batch_rows=st.sampled_from((1, 2, 3, 1000)),
    first_rows=st.sampled_from((0, 1, 3, 10_000)),
    least_rows=st.sampled_from((1, 2)),
    first_pages=st.sampled_from((1, 2, 100)),
    few=st.sampled_from((0.0, 0.3, 1.0)),
    in_order=st.sampled_from((0.0, 0.9)),
    off=st.sampled_from(((), (), ("enable_hashjoin",), ("enable_nestloop", "enable_mergejoin"), ("enable_seqscan",))),
    analyze=st.booleans(),
)


@dataclass(frozen=True)
class Case:
    """Everything that a property is about; rows are as drawn, by table. Each run has rules, and minutes that pass before it."""

    tables: dict[str, Table]
    rows: dict[str, list[dict[str, Any]]]
    stores: list[Store]
    runs: list[tuple[list[Rule], int]]
    skew: int
    way: Way


def _rows(chance: random.Random, least: int) -> list[dict[str, Any]]:
    """Return rows by chance: hundreds of choices of hypothesis's own would take longer than the test."""
    return [{field: chance.choice(values) for field, values in FIELDS.items()} for _row in range(chance.randint(least, 9))]


def _bounds(draw: st.DrawFn) -> tuple[float, ...]:
    return tuple(sorted(draw(st.lists(st.sampled_from(BOUNDS), min_size=1, max_size=3, unique=True))))


@st.composite
def _table(draw: st.DrawFn, name: str, id_type: str) -> Table:
    kinds = {"began": draw(KINDS), "ends": draw(KINDS), "deleted": draw(MARK_KINDS)}
    kinds |= dict.fromkeys(("revoked", "limited"), draw(st.sampled_from((Kind("timestamptz"), Kind("bigint", unit="s")))))
    layout = draw(st.sampled_from(("plain", "plain", "range", "range", "inherited", "hash")))
    return Table(
        name,
        id_type,
        kinds,
        layout,
        bounds=_bounds(draw) if layout == "range" else (),
        default=draw(st.booleans()),
        indexed=draw(st.sampled_from(((), ("began", "ends"), ("id",), ("began", "id")))),
    )


@st.composite
def _store(draw: st.DrawFn, number: int, first: Store | None) -> Store:
    way = draw(st.sampled_from((*["denylist"] * 6, "timestamp", "flag", "not_before")))
    denied = None
    if way == "denylist":
        shared = first is not None and first.denied is not None and draw(st.booleans())
        denied = first.denied if shared and first else f"denied{number}"
    ends, lifetime = draw(st.sampled_from(((True, None), (True, None), (False, None), *((False, minutes) for minutes in LIFETIMES))))
    limited = way == "not_before" or draw(st.sampled_from((False, False, True)))
    shares_tokens = first is not None and first.denied is None and way in ("timestamp", "flag") and draw(st.booleans())
    return Store(
        f"store{number}",
        first.tokens if shares_tokens and first else f"tokens{number}",
        way,
        denied,
        own_end=draw(st.booleans()),
        ends=ends,
        lifetime=lifetime,
        limits="plain" if limited else None,
        revoked_when=draw(st.booleans()),
        only=draw(st.sampled_from((None, None, "1"))) if way in ("timestamp", "flag") else None,
    )


@st.composite
def _rule(draw: st.DrawFn, tables: dict[str, Table], marks: dict[str, tuple[str, str | None]]) -> Rule:
    often = {"p": 1, "t": 2, "d": 4}
    table = tables[draw(st.sampled_from([name for name in sorted(tables) for _time in range(often[name[0]])]))]
    minutes = draw(st.sampled_from(AGES))
    if table.layout == "range" and draw(st.booleans()):
        return Rule(table.name, "began", minutes, "drop_partitions")
    action = draw(st.sampled_from(("delete", "delete", "archive", "soft_delete", "purge")))
    mark = None
    if action == "soft_delete":
        mark = marks[table.name]
    if action == "purge":
        mark = draw(st.sampled_from((None, marks[table.name], ("state", "gone"), ("deleted", None))))
    return Rule(
        table.name,
        draw(st.sampled_from(("began", "began", "ends"))),
        minutes,
        action,
        part=draw(st.sampled_from((None, None, None, *table.parts))),
        where=tuple(draw(st.lists(CONDITIONS, max_size=2))) if draw(st.sampled_from((True, False, False))) else (),
        keep=draw(st.one_of(st.none(), st.none(), KEEP)),
        mark=mark,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw tables with rows, up to two stores, up to three runs with up to six rules."""
    stores: list[Store] = []
    for number in range(draw(st.sampled_from((1, 1, 1, 2)))):
        stores.append(draw(_store(number, stores[0] if stores else None)))
    token_id, deny_id = draw(ID_TYPES)
    names = dict.fromkeys(["plain", *(table for store in stores for table in (store.tokens, store.denied) if table)])
    tables = {name: draw(_table(name, deny_id if name.startswith("denied") else token_id)) for name in names}
    marks = {name: draw(st.sampled_from((("deleted", None), ("state", "gone")))) for name in tables}
    rules = st.lists(_rule(tables, marks), min_size=1, max_size=6)
    runs = draw(st.lists(st.tuples(rules, st.sampled_from((0, 0, 0, 30, 2000))), min_size=1, max_size=3))
    skew, way, seed = draw(st.sampled_from((*SKEWS, 30))), draw(WAYS), draw(st.integers(0, 1 << 32))
    # Hypothesis tries one thing in many neighbourhoods, which is to be no reason to look at the same rows again.
    chance = random.Random(zlib.crc32(repr((tables, stores, runs, skew, seed)).encode()))
    return Case(tables, {name: _rows(chance, least=0 if name == "plain" else 4) for name in tables}, stores, runs, skew, way)


def id_text(number: int | None, id_type: str, texts: bool) -> str | None:
    """Return the id with a number; with `texts` as a text may write it that need not be compared as it is."""
    if number is None:
        return None
    if id_type in ("bigint", "integer"):
        return str(number)
    text = str(uuid.UUID(int=0xAB << 64 | number))
    return text.upper() if texts and id_type == "text" else text
