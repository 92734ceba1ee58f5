"""Drawn tables on a server: made, filled, cleaned up, and read back whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Identifier

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup, _instant
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import leaves, walk
from tests.integration.cleaning import Cleaner
from tests.integration.cleanup_drawing import Case, Way, id_text
from tests.integration.cleanup_model import COLUMNS, Row, Rows, Rule, Table, place_of

TIMES = ("began", "ends", "deleted", "revoked", "limited")
# What was done to a row, once for each time.
START = """
DROP SCHEMA IF EXISTS app CASCADE;
CREATE SCHEMA app;
CREATE TABLE app.noted (number int, what text);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO app.noted VALUES (OLD.number, TG_OP); RETURN NULL; END';
"""
READ = SQL("SELECT t.tableoid::regclass::text AS leaf, t.ctid::text AS at, t.xmin::text AS by, {} FROM {} AS t")


def table_name(name: str) -> Identifier:
    return Identifier("app", name)


class World:
    """A schema that is made anew for every case. `clock` are the minutes that have passed for the engine, and nothing else does.

    Otherwise a day could end somewhere between check mode and the run.
    """

    def __init__(self, cleaner: Cleaner, connection: psycopg.Connection[Any], patches: pytest.MonkeyPatch) -> None:
        self.connection, self.patches = connection, patches
        connection.execute(SQL("ALTER DATABASE {} SET timezone = 'Pacific/Kiritimati'").format(Identifier(cleaner.database.name)))
        connection.execute("SET timezone = 'UTC'")
        self.reading, self.writing = cleaner.open(read_only=True), cleaner.open()
        self.clock = 0
        self.now = _instant.server_now
        patches.setattr(_instant, "server_now", lambda _database: self.made.before(-60 * self.clock))

    def make(self, case: Case) -> dict[str, Table]:
        """Make the tables of a case with their rows, and return them with their bounds as values."""
        self.clock = 0
        self.connection.execute(START)
        self.made = self.now(self.reading)
        now = self.connection.execute("SELECT now()").fetchone()[0]  # type: ignore[index]
        made, number = {}, 0
        for table in case.tables.values():
            kind = table.kind("began")
            values = [kind.stored(now + timedelta(minutes=float(bound))) for bound in table.bounds]
            bounds = sorted({value for value in values if value is not None}, key=place_of)
            made[table.name] = replace(table, bounds=tuple(bounds))
            self.connection.execute(SQL("; ").join(_definition(made[table.name])))
            records = []
            for drawn in case.rows[table.name]:
                records.append(_record(made[table.name], drawn, number, now, foreign=case.tables[table.name].id_type != _token_type(case)))
                number += 1
            self._insert(made[table.name], records)
        if case.way.analyze:
            self.connection.execute("ANALYZE")
        return made

    def _insert(self, table: Table, records: list[Row]) -> None:
        columns = SQL(", ").join(map(Identifier, COLUMNS))
        types = SQL(", ").join(SQL("{} {}").format(Identifier(column), SQL(_type(table, column))) for column in COLUMNS)
        for leaf in (0, 1):
            given = [record for record in records if record["leaf"] == leaf]
            place = table.name if leaf == 0 or table.layout != "inherited" else table.parts[0]
            insert = SQL("INSERT INTO {} ({}) SELECT {} FROM jsonb_to_recordset(%s::jsonb) AS t({})")
            self.connection.execute(insert.format(table_name(place), columns, columns, types), [json.dumps(given)])

    def read(self, name: str) -> Rows:
        """Return the rows of a table as texts, with where each lies and which transaction wrote it, in the order of their numbers."""
        columns = SQL(", ").join(SQL("t.{}::text").format(Identifier(column)) for column in COLUMNS)
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(READ.format(columns, table_name(name))).fetchall()
        return [{**row, "leaf": row["leaf"].partition(".")[2]} for row in sorted(rows, key=lambda row: int(row["number"]))]

    def noted(self) -> list[tuple[str, str]]:
        """Return what was done to which row, and forget it."""
        return [(str(number), what) for number, what in self.connection.execute("DELETE FROM app.noted RETURNING number, what")]

    def exists(self, name: str) -> bool:
        return bool(self.connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"app.{name}"]).fetchone()[0])  # type: ignore[index]

    def run(self, case: Case, tables: dict[str, Table], rules: list[Rule], *, check: bool) -> dict[str, Any]:
        """Carry the rules out by the case's way through a table, or only say what they would do."""
        parameters = {
            "rules": [rule.written(number, tables) for number, rule in enumerate(rules)],
            "token_stores": [store.described(tables) for store in case.stores],
            "clock_skew": f"{case.skew} min",
            "batch_rows": case.way.batch_rows,
        }
        options = _cleanup.read_options(parameters)
        database = self.reading if check else self.writing
        with self._by(database, case.way):
            return _cleanup.clean_up(database, options, check_mode=check)

    @contextmanager
    def _by(self, database: Any, way: Way) -> Iterator[None]:
        with self.patches.context() as patches:
            for name, value in (
                ("FIRST_ROWS", way.first_rows), ("LEAST_ROWS", way.least_rows), ("_FIRST_PAGES", way.first_pages),
                ("_LEAST_PAGES", 1), ("_FEW", way.few),
            ):  # fmt: skip
                patches.setattr(walk, name, value)
            patches.setattr(leaves, "_IN_ORDER", way.in_order)
            for setting in way.off:
                database.execute(f"SET {setting} TO off")
            yield
            for setting in way.off:
                database.execute(f"RESET {setting}")


def _token_type(case: Case) -> str:
    return case.tables[case.stores[0].tokens].id_type


def _type(table: Table, column: str) -> str:
    fixed = {"number": "int", "id": table.id_type, "subject": "text", "flagged": "bool", "state": "text", "grade": "int"}
    return fixed[column] if column in fixed else table.kind(column).type


def _record(table: Table, drawn: dict[str, Any], number: int, now: datetime, *, foreign: bool) -> Row:
    """Return a row as it is stored."""
    record = {**drawn, "number": number, "id": id_text(drawn["id"], table.id_type, foreign)}
    for column in TIMES:
        distance = drawn[column]
        at = distance if distance is None or isinstance(distance, str) else now + timedelta(minutes=distance)
        record[column] = table.kind(column).stored(at)
    began = record["began"]
    if table.layout == "range" and not table.default and (began is None or place_of(began) >= place_of(table.bounds[-1])):
        record["leaf"] = None  # no partition takes it
    return record


def _definition(table: Table) -> Iterator[Composable]:
    name = table_name(table.name)
    columns = SQL(", ").join(SQL("{} {}").format(Identifier(column), SQL(_type(table, column))) for column in COLUMNS)
    # Some three rows fill a page, so that few rows have several pages.
    pad = SQL("pad text DEFAULT repeat('x', 2500)")
    divided = {"range": SQL(" PARTITION BY RANGE (began)"), "hash": SQL(" PARTITION BY HASH (number)")}.get(table.layout, SQL(""))
    yield SQL("CREATE TABLE {} ({}, {}){}").format(name, columns, pad, divided)
    yield SQL("ALTER TABLE {} ALTER pad SET STORAGE PLAIN").format(name)
    for place, part in enumerate(table.parts):
        if table.layout == "inherited":
            yield SQL("CREATE TABLE {} () INHERITS ({})").format(table_name(part), name)
        elif table.layout == "hash":
            yield SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS 2, REMAINDER {})").format(table_name(part), name, place)
        elif place == len(table.bounds):
            yield SQL("CREATE TABLE {} PARTITION OF {} DEFAULT").format(table_name(part), name)
        else:
            first = table.bounds[place - 1] if place else SQL("MINVALUE")
            yield SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                table_name(part), name, first, table.bounds[place]
            )
    for leaf in table.leaves:
        for column in table.indexed:
            yield SQL("CREATE INDEX ON {} ({})").format(table_name(leaf), Identifier(column))
        yield SQL("CREATE TRIGGER note AFTER UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION app.note()").format(table_name(leaf))
