"""Fill a system's tables with made-up rows, skewed as production is, on the server itself.

What a clean-up must remove is known by construction: each row lies in a stretch of time that is wholly before or wholly
after every cut-off, and stays there for a quarter of an hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from .bands import DAY, SAFE_SECONDS, Band
from .errors import GroundError
from .plan import EXPIRY, STUCK_SECONDS, Cell, Planner, TablePlan, matches
from .schema import Connection, relation
from .values import INTEGERS, TEXTS, TIMES, I, Values, allowed_words, base_type

__all__ = ["SAFE_SECONDS", "Expected", "fill"]

HAPPENED = re.compile(
    r"creat|issued|start|regist|assigned|timestamp|logged|(^|_)at$|(^|_)on$|date|updat|modif|activity|accessed", re.IGNORECASE
)
UNSET = re.compile(r"revoked|used|deleted|sent|verified|locked|reset|last_login|consumed|ended|closed|completed", re.IGNORECASE)


@dataclass
class Expected:
    """What `fill` wrote. Counts hold from `now` for `SAFE_SECONDS`.

    `rows` by table; `removed` by schedule and rule name: what the schedule's run removes, each row counted for the first
    rule that is for it; `facts` by name and then store or table: `tokens`, `active`, `expired`, `revoked`, `future`,
    `orphaned`, `orphaned_alive`, `stuck` (logins older than an hour).
    """

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    rows: dict[str, int] = field(default_factory=dict)
    removed: dict[str, dict[str, int]] = field(default_factory=dict)
    facts: dict[str, dict[str, int]] = field(default_factory=dict)

    def total(self, schedule: str) -> int:
        """Return how many rows the run of `schedule` removes."""
        return sum(self.removed.get(schedule, {}).values())


def fill(connection: Connection, description: Mapping[str, Any], rows: int, seed: int = 1, now: datetime | None = None) -> Expected:
    """Fill every table of a created system and analyze it; `rows` is the number of tokens, or of the largest table's rows.

    The same `seed` and `now` give the same rows. `connection` is in autocommit, its session in UTC.
    """
    moment = now or datetime.now(UTC)
    plans = Planner(description, rows).plan()
    loader = Loader(connection, description, plans, Values(seed), moment)
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute("SET LOCAL work_mem = '64MB'")
        for name in loader.order():
            loader.insert(plans[name])
        loader.migrations()
    if connection.info.server_version >= 150000:
        # Otherwise this session adds its inserts to the statistics once more, after ANALYZE has counted them.
        connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("ANALYZE")
    return _expected(description, plans, moment)


class Loader:
    """Writes the planned rows, one statement a table."""

    def __init__(
        self, connection: Connection, description: Mapping[str, Any], plans: dict[str, TablePlan], values: Values, now: datetime
    ) -> None:
        self.connection = connection
        self.description = description
        self.plans = plans
        self.values = values
        self.now = now

    def order(self) -> list[str]:
        """Return the tables, each after those that its NOT NULL foreign keys refer to."""
        done: list[str] = []
        waiting = list(self.plans)
        while waiting:
            ready = [name for name in waiting if not (self._parents(name, needed=True) - set(done) - {name})]
            # Of those that are ready, one whose optional references are there as well, if any.
            best = [name for name in ready if not (self._parents(name, needed=False) - set(done) - {name})] or ready[:1]
            if not best:
                raise GroundError(f"the foreign keys of {', '.join(waiting)} go round in a circle")
            done += best
            waiting = [name for name in waiting if name not in best]
        self._loaded = {name: number for number, name in enumerate(done)}
        return done

    def _parents(self, name: str, *, needed: bool) -> set[str]:
        facts = self.plans[name].facts
        return {
            key["references"]["table"]
            for key in facts["foreign_keys"]
            if key["references"]["table"] in self.plans
            and not (needed and any(facts["columns"][column]["nullable"] for column in key["columns"]))
        }

    def insert(self, plan: TablePlan) -> None:
        """Insert the rows of one table, oldest first as an application would have."""
        columns = [column for column in plan.facts["columns"] if not self._left_out(plan, column)]
        if not plan.rows or not columns:
            return
        mixed = self._mixed(plan)
        parts = []
        for cell in self._bounded(plan, mixed):
            chosen = [sql.SQL("({})::{}").format(self._value(plan, cell, column, mixed), _cast(plan, column)) for column in columns]
            source = sql.SQL("generate_series({}::bigint, {}::bigint) AS rows(i)").format(sql.Literal(cell.first), sql.Literal(cell.last))
            parts.append(sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(chosen), source))
        statement = sql.SQL("INSERT INTO {} ({}) ").format(relation(plan.name), sql.SQL(", ").join(map(sql.Identifier, columns)))
        statement += sql.SQL(" UNION ALL ").join(parts)
        first = next((column for column in columns if self._is_time(plan, column) and not EXPIRY.search(column)), None)
        if first:
            statement += sql.SQL(" ORDER BY {}").format(sql.Literal(columns.index(first) + 1))
        self.connection.execute(statement)
        self._advance_sequences(plan)

    def migrations(self) -> None:
        """Note in the migration tool's own table that every version is applied."""
        facts = self.description["migrations"]
        table = facts and self.description["schema"]["tables"].get(facts["table"])
        if not table or table["optional"]:
            return
        versions = facts["versions"] or [{"version": "1", "title": "initial schema"}]
        if facts["tool"] == "golang-migrate":
            versions = versions[-1:]
        for rank, version in enumerate(versions, 1):
            title = version["title"] or "change"
            known = {
                "version": version["version"],
                "dirty": False,
                "installed_rank": rank,
                "description": title,
                "type": "SQL",
                "script": f"V{version['version']}__{re.sub(r'[^a-z0-9]+', '_', title.lower())}.sql",
                "checksum": rank,
                "installed_by": "flyway",
                "execution_time": 10,
                "success": True,
            }
            row = {column: known[column] for column in table["columns"] if column in known}
            columns = sql.SQL(", ").join(map(sql.Identifier, row))
            places = sql.SQL(", ").join(sql.Placeholder() * len(row))
            self.connection.execute(
                sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(relation(facts["table"]), columns, places), list(row.values())
            )

    # --- columns ------------------------------------------------------------------------------------------------------

    def _left_out(self, plan: TablePlan, column: str) -> bool:
        """Say whether a column gets its default: it has one, and nothing else depends on its value."""
        facts = plan.facts["columns"][column]
        special = column in plan.mirrors or column in _keys(plan) or self._is_time(plan, column) or self._foreign(plan, column)
        marked = plan.flag is not None and plan.flag[0] == column
        return facts["default"] is not None and not special and not marked

    def _value(self, plan: TablePlan, cell: Cell, column: str, mixed: Mapping[str, sql.Composable]) -> sql.Composable:
        facts = plan.facts["columns"][column]
        if self._is_time(plan, column):
            offset = self._offset(plan, cell, column)
            return sql.SQL("NULL") if offset is None else self._moment(plan, column, offset)
        if plan.flag and plan.flag[0] == column:
            return sql.Literal(cell.revoked == plan.flag[1])
        if column in plan.mirrors:
            return self._identifier(*plan.mirrors[column], I)
        reference = self._foreign(plan, column)
        if reference is not None:
            return self._reference(plan, column, reference, mixed)
        if column in _keys(plan):
            return self.values.key(plan.name, column, facts["type"], I)
        if column in mixed:
            words = sql.SQL(", ").join(map(sql.Literal, _words(plan, column) or [column]))
            return sql.SQL("(ARRAY[{}])[{}]").format(words, mixed[column])
        made = self.values.plain(plan.name, column, facts["type"], [check["expression"] for check in plan.facts["checks"]])
        if made is None and not facts["nullable"]:
            raise GroundError(f"{plan.name}.{column}: there is no idea of a value of the type {facts['type']}")
        return made or sql.SQL("NULL")

    def _identifier(self, table: str, column: str, number: sql.Composable) -> sql.Composable:
        """Return what row `number` of `table` has in `column`, which may itself repeat another table's identifier."""
        plan = self.plans[table]
        if column in plan.mirrors:
            return self._identifier(*plan.mirrors[column], number)
        reference = self._foreign(plan, column)
        if reference is not None and [column] in _unique_sets(plan):
            return self._identifier(*reference, number)
        return self.values.key(table, column, plan.facts["columns"][column]["type"], number)

    def _foreign(self, plan: TablePlan, column: str) -> tuple[str, str] | None:
        for key in plan.facts["foreign_keys"]:
            if column in key["columns"] and key["references"]["table"] in self.plans:
                return key["references"]["table"], key["references"]["columns"][key["columns"].index(column)]
        return None

    def _reference(self, plan: TablePlan, column: str, reference: tuple[str, str], mixed: Mapping[str, sql.Composable]) -> sql.Composable:
        parent = self.plans[reference[0]]
        later = self._loaded[parent.name] >= self._loaded[plan.name]
        if (later or not parent.survivors) and plan.facts["columns"][column]["nullable"]:
            return sql.SQL("NULL")
        if parent is plan:
            return self._identifier(*reference, I)
        number = mixed.get(column) or self.values.index(parent.survivors, f"{plan.name}.{column}")
        return self._identifier(*reference, number)

    def _mixed(self, plan: TablePlan) -> dict[str, sql.Composable]:
        """Return numbers for columns that are unique only together, so that no combination comes twice."""
        numbers: dict[str, sql.Composable] = {}
        for columns in _unique_sets(plan):
            if not _distinct(plan, columns):
                step = 1
                for column, size in self._sizes(plan, columns).items():
                    numbers[column] = sql.SQL("(1 + (({} - 1) / {}) % {})").format(I, sql.Literal(step), sql.Literal(size))
                    step *= size
        return numbers

    def _sizes(self, plan: TablePlan, columns: list[str]) -> dict[str, int]:
        """Return how many values each column of a unique list can have, rows of other tables first."""
        foreign = {column: self.plans[reference[0]].survivors for column in columns if (reference := self._foreign(plan, column))}
        words = {column: len(_words(plan, column)) for column in columns if column not in foreign}
        return {column: max(1, size) for column, size in {**foreign, **words}.items()}

    def _bounded(self, plan: TablePlan, mixed: Mapping[str, sql.Composable]) -> list[Cell]:
        """Return the cells, without rows for which no unique combination of references is left."""
        if not mixed:
            return plan.cells
        most = 1
        for size in self._sizes(plan, list(mixed)).values():
            most *= size
        kept = [Cell(cell.first, min(cell.last, most), cell.bands, cell.revoked) for cell in plan.cells if cell.first <= most]
        plan.cells = kept
        plan.survivors = min(plan.survivors, most)
        return kept

    # --- times --------------------------------------------------------------------------------------------------------

    def _is_time(self, plan: TablePlan, column: str) -> bool:
        return base_type(plan.facts["columns"][column]["type"]) in TIMES or column in plan.times

    def _offset(self, plan: TablePlan, cell: Cell, column: str) -> sql.Composable | None:
        """Return the seconds from now of a time column, None where it is NULL."""
        if column in cell.bands:
            band = cell.bands[column]
            return None if band is None else self._within(plan, column, band)
        nullable = plan.facts["columns"][column]["nullable"]
        if column == plan.revoked_at:
            return self._revocation(plan, cell) if cell.revoked else None
        if column not in (plan.issued, plan.expires) and nullable and (UNSET.search(column) or EXPIRY.search(column)):
            return None
        if EXPIRY.search(column):
            return sql.SQL("({} + 600)").format(self._creation(plan, cell))
        return self._creation(plan, cell)

    def _creation(self, plan: TablePlan, cell: Cell) -> sql.Composable:
        """Return when a row was made: given by its band, before its expiry, or some time in the last year."""
        placed = [(column, band) for column, band in cell.bands.items() if band is not None]
        for column, band in placed:
            if not EXPIRY.search(column) and column != plan.expires:
                return self._within(plan, column, band)
        age = self.values.chance(f"{_origin(plan)} age")
        for column, band in placed:
            return sql.SQL("(least({}, -1) - 0.5 * {} * {})").format(self._within(plan, column, band), sql.Literal(DAY), age)
        return sql.SQL("(-60 - {} * power({}, 2))").format(sql.Literal(360 * DAY), age)

    def _revocation(self, plan: TablePlan, cell: Cell) -> sql.Composable:
        """Return a moment between a token's issue and its end, or now; mostly soon after the issue."""
        band = cell.bands.get(plan.expires) if plan.expires else None
        end = sql.SQL("least({}, -1)").format(self._within(plan, plan.expires, band)) if plan.expires and band else sql.Literal(-1)
        start = self._creation(plan, cell)
        return sql.SQL("({0} + ({1} - {0}) * power({2}, 3))").format(start, end, self.values.chance(f"{plan.name} revoked"))

    def _within(self, plan: TablePlan, column: str, band: Band) -> sql.Composable:
        # A copy of a token's expiry is the token's own, number by number.
        source = self.plans[_origin(plan)].expires if column == plan.expires else column
        name = f"{_origin(plan)}.{source}"
        return sql.SQL("({} + {} * {})").format(sql.Literal(band.low), sql.Literal(band.high - band.low), self.values.chance(name))

    def _moment(self, plan: TablePlan, column: str, offset: sql.Composable) -> sql.Composable:
        kind = base_type(plan.facts["columns"][column]["type"])
        written = plan.times.get(column)
        moment = sql.SQL("({}::timestamptz + make_interval(secs => {}))").format(sql.Literal(self.now), offset)
        if kind in INTEGERS:
            factor = 1000 if written is not None and written.unit == "ms" else 1
            return sql.SQL("floor(extract(epoch FROM {}) * {})").format(moment, sql.Literal(factor))
        if kind in ("timestamptz", "timestamp with time zone"):
            return moment
        zone = (written.zone if written else None) or self.description["time_zone"] or "UTC"
        return sql.SQL("timezone({}, {})").format(sql.Literal(zone), moment)

    def _advance_sequences(self, plan: TablePlan) -> None:
        for column, facts in plan.facts["columns"].items():
            if "serial" in base_type(facts["type"]) and column in _keys(plan):
                found = "SELECT setval(pg_get_serial_sequence(%s, %s), %s)"
                self.connection.execute(found, [relation(plan.name).as_string(self.connection), column, max(1, plan.rows)])


def _origin(plan: TablePlan) -> str:
    """Return the table whose rows a table repeats, or itself."""
    return next((table for table, _id in plan.mirrors.values()), plan.name)


def _unique_sets(plan: TablePlan) -> list[list[str]]:
    """Return the column lists that must differ from row to row; of an indexed expression, the columns in it."""
    facts = plan.facts
    sets = [facts["primary_key"] or [], *facts["unique"]]
    for index in facts["indexes"]:
        if index["unique"]:
            sets.append(
                [column for text in index["columns"] for column in facts["columns"] if re.search(rf"\b{re.escape(column)}\b", text)]
            )
    return [list(one) for one in sets if one]


def _distinct(plan: TablePlan, columns: list[str]) -> str | None:
    """Return the column of a unique list that gets another value in every row."""
    foreign = {column for key in plan.facts["foreign_keys"] for column in key["columns"]}
    for column in columns:
        kind = base_type(plan.facts["columns"][column]["type"])
        if column in plan.mirrors or (column not in foreign and not _words(plan, column) and kind in ("uuid", "bytea", *INTEGERS, *TEXTS)):
            return column
    return None


def _words(plan: TablePlan, column: str) -> list[str]:
    return allowed_words(column, [check["expression"] for check in plan.facts["checks"]])


def _keys(plan: TablePlan) -> set[str]:
    return {column for columns in _unique_sets(plan) if (column := _distinct(plan, columns))}


def _cast(plan: TablePlan, column: str) -> sql.SQL:
    written = plan.facts["columns"][column]["type"]
    return sql.SQL(re.sub(r"(?i)\b(big|small)?serial\b", lambda found: (found.group(1) or "") + "int", written))


def _expected(description: Mapping[str, Any], plans: Mapping[str, TablePlan], now: datetime) -> Expected:
    expected = Expected(now, {name: plan.rows for name, plan in plans.items()})
    for schedule, rules in description["retention"].items():
        gone: set[tuple[str, int]] = set()
        counts = {}
        for rule in rules:
            hit = [cell for cell in _cells(plans, rule["table"]) if matches(rule, cell.bands) and (rule["table"], cell.first) not in gone]
            gone |= {(rule["table"], cell.first) for cell in hit}
            counts[rule["name"]] = sum(cell.rows for cell in hit)
        expected.removed[schedule] = counts
    for store in description["token_stores"]:
        if store["tokens"]["table"] in plans:
            for fact, count in _store_facts(store, plans).items():
                expected.facts.setdefault(fact, {})[store["name"]] = count
    for flow in description["login_flows"]:
        column = flow["created_at"]["column"]
        stuck = [cell for cell in _cells(plans, flow["table"]) if (band := cell.bands.get(column)) and band.older_than(STUCK_SECONDS)]
        expected.facts.setdefault("stuck", {})[flow["table"]] = sum(cell.rows for cell in stuck)
    return expected


def _cells(plans: Mapping[str, TablePlan], table: str) -> Iterator[Cell]:
    if table in plans:
        yield from plans[table].cells


def _store_facts(store: Mapping[str, Any], plans: Mapping[str, TablePlan]) -> dict[str, int]:
    tokens = plans[store["tokens"]["table"]]
    denied = plans.get(store["revoke"].get("table") or "")
    orphans = [cell for cell in denied.cells if cell.first > tokens.rows] if denied else []
    alive = [cell for cell in tokens.cells if tokens.expires and not ((band := cell.bands.get(tokens.expires)) and band.high < 0)]
    revoked = denied.rows - sum(cell.rows for cell in orphans) if denied else sum(cell.rows for cell in tokens.cells if cell.revoked)
    denied_alive = (
        [cell for cell in denied.cells if cell.first <= tokens.rows and any(one.first <= cell.first <= one.last for one in alive)]
        if denied
        else []
    )
    return {
        "tokens": tokens.rows,
        "active": sum(cell.rows for cell in alive if not cell.revoked) - sum(cell.rows for cell in denied_alive),
        "revoked": revoked,
        "expired": tokens.rows - sum(cell.rows for cell in alive),
        "future": sum(cell.rows for cell in tokens.cells if tokens.issued and (band := cell.bands.get(tokens.issued)) and band.low > 0),
        "orphaned": sum(cell.rows for cell in orphans),
        "orphaned_alive": sum(cell.rows for cell in orphans if not any(band is not None and band.high < 0 for band in cell.bands.values())),
    }
