"""The ready descriptions, and those of TIM's variants, against the tables that the applications really have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg import sql

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up, require
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import time_column
from tests.ground.published import READY, VARIANTS
from tests.ground.published.databases import PublishedDatabase

Make = Callable[..., PublishedDatabase]
Named = tuple[str, str, Any]

# One process makes each layout's tables and rows.
LAYOUTS = [pytest.param(name, marks=pytest.mark.xdist_group(f"published {name}")) for name in (*READY, *VARIANTS)]
each_layout = pytest.mark.parametrize("layout", LAYOUTS)

FOREIGN_KEYS = """
SELECT c.conrelid::regclass::text, c.confrelid::regclass::text,
    ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place),
    ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.number ORDER BY k.place)
FROM pg_constraint AS c WHERE c.contype = 'f'
"""
COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod), NOT attnotnull FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
UNIQUE = """
SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey) AS k JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k),
    indisprimary
FROM pg_index AS i
WHERE indrelid = to_regclass(%s) AND indisunique AND indpred IS NULL
"""


def parts(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every mapping of a description that names a table and columns of it, with where it stands."""
    for store in description["token_stores"]:
        place = f"token_stores[{store['name']}]"
        yield f"{place}.tokens", store["tokens"]
        for through in ("tenant_through", "provider_through"):
            if store["tokens"][through]:
                yield f"{place}.tokens.{through}", {key: text for key, text in store["tokens"][through].items() if key != "column"}
        for key in ("revoke", "allowlist"):
            part = store[key]
            if part:
                # What is revoked in its own row names no table.
                yield f"{place}.{key}", {"table": store["tokens"]["table"], **part}
        for key in ("not_before", "dependents"):
            for number, part in enumerate(store[key]):
                yield f"{place}.{key}[{number}]", part
    for key in ("login_flows", "registrations", "codes"):
        for number, part in enumerate(description[key]):
            yield f"{key}[{number}]", part
    if description["clients"]:
        yield "clients", description["clients"]


# Keys whose text is no column.
WORDS = {
    "table",
    "how",
    "by",
    "on_revoke",
    "when",
    "revoked_when",
    "references",
    "lifetime",
    "lifetime_seconds",
    "timeout",
    "timeout_seconds",
}


def named(place: str, part: dict[str, Any]) -> Iterator[Named]:
    """Yield (place, column, time facts or None) for every column that a mapping names of its own table."""
    for key, value in part.items():
        path = f"{place}.{key}"
        if value is None or key in WORDS or key.endswith("_through"):
            continue
        if isinstance(value, dict) and "unit" in value:
            yield path, value["column"], value
        elif key == "claims":
            yield path, value["column"], None
        elif isinstance(value, str):
            yield path, value, None
        else:
            for column in value:
                yield path, column, None


def relations(database: PublishedDatabase, tables: set[str]) -> dict[RelationName, Relation]:
    """Return what the engine sees of the tables, in a session whose time zone is none of anybody's."""
    options = ConnectionOptions.from_params(database.login(tcp=False))
    with connect(options, application_name="pgops.runbook/test", read_only=True) as session:
        return look_up(session, [parse_relation(table) for table in sorted(tables)])


def as_text(name: str) -> str:
    """Return a table's name as regclass writes it."""
    return name.removeprefix("public.")


@each_layout
def test_every_table_and_column_is_there(layout: str, published_database: Make) -> None:
    database = published_database(layout)
    written = dict(parts(database.description))
    seen = relations(database, {part["table"] for part in written.values()})
    for place, part in written.items():
        relation = require(seen[parse_relation(part["table"])])
        for path, column, time in named(place, part):
            assert relation.column(column).readable, path
            if time:
                time_column(relation, time, path)
    for store in database.description["token_stores"]:
        tokens = seen[parse_relation(store["tokens"]["table"])]
        outer = [store["revoke"].get("references"), *(one["references"] for one in store["dependents"])]
        outer += [through["column"] for key in ("tenant_through", "provider_through") if (through := store["tokens"][key])]
        for column in filter(None, outer):
            tokens.column(column)


@each_layout
def test_the_declared_schema_is_the_real_one(layout: str, published_database: Make) -> None:
    database = published_database(layout)
    keys = {(table, to, tuple(columns), tuple(ids)) for table, to, columns, ids in database.query(FOREIGN_KEYS)}
    for name, facts in database.description["schema"]["tables"].items():
        real = {column: (kind, nullable) for column, kind, nullable in database.query(COLUMNS, [name])}
        assert real, f"there is no {name}"
        assert as_declared(database, facts) == {column: real.get(column) for column in facts["columns"]}, name
        unique = [(set(columns), primary) for columns, primary in database.query(UNIQUE, [name])]
        assert (set(facts["primary_key"] or []), True) in unique, name
        for columns in facts["unique"]:
            assert any(set(columns) == found for found, _primary in unique), f"{name}: {columns} is not unique"
        for key in facts["foreign_keys"]:
            to = key["references"]
            assert (as_text(name), as_text(to["table"]), tuple(key["columns"]), tuple(to["columns"])) in keys, f"{name}: {key}"


def as_declared(database: PublishedDatabase, facts: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Return the types of a declared table's columns in the server's own spelling, and whether they may be NULL."""
    with database.connect() as connection:
        columns = [sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(one["type"])) for column, one in facts["columns"].items()]
        connection.execute(sql.SQL("CREATE TEMPORARY TABLE declared ({})").format(sql.SQL(", ").join(columns)))
        kinds = connection.execute(COLUMNS, ["declared"]).fetchall()
    return {column: (kind, facts["columns"][column]["nullable"]) for column, kind, _nullable in kinds}


@each_layout
def test_the_application_accepts_some_tokens_of_every_store(layout: str, published_database: Make) -> None:
    database = published_database(layout)
    accepted = database.accepted()
    stores = database.description["token_stores"]
    assert set(accepted) == {store["name"] for store in stores}
    for store in stores:
        tokens = store["tokens"]
        found = sql.SQL("SELECT {}::text FROM {}").format(sql.Identifier(tokens["id"]), sql.Identifier(*parse_relation(tokens["table"])))
        if tokens["where"]:
            rows = [sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(value)) for column, value in tokens["where"].items()]
            found += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(rows)
        ids = {row[0] for row in database.query(found)}
        assert accepted[store["name"]], store["name"]
        assert accepted[store["name"]] < ids, store["name"]


@each_layout
def test_no_row_goes_that_the_description_does_not_name(layout: str, published_database: Make) -> None:
    """What a foreign key would take along, set to NULL or refuse to let go must be said, or nothing could take it back."""
    database = published_database(layout)
    keys = database.query(FOREIGN_KEYS)
    for store in database.description["token_stores"]:
        removed = {as_text(one["table"]) for one in store["dependents"] if one["on_revoke"] == "delete"}
        if store["revoke"]["how"] == "delete":
            removed.add(as_text(store["tokens"]["table"]))
        handled = {(as_text(one["table"]), one["column"]) for one in store["dependents"]}
        for table, to, columns, _ids in keys:
            if to in removed:
                assert any((table, column) in handled for column in columns), (
                    f"{store['name']}: {table} ({', '.join(columns)}) refers to {to}"
                )


@pytest.mark.parametrize("layout", [name for name in (*READY, *VARIANTS) if name not in ("django_oauth_toolkit", "simplejwt")])
def test_rows_are_the_same_every_time(layout: str, published_database: Make, database: Any) -> None:
    first = published_database(layout, 100)
    first.store.create(database)
    first.store.fill(database, 100)
    for store in first.description["token_stores"]:
        tokens = store["tokens"]
        found = sql.SQL("SELECT {0}::text FROM {1} ORDER BY 1").format(
            sql.Identifier(tokens["id"]), sql.Identifier(*parse_relation(tokens["table"]))
        )
        assert first.query(found) == database.query(found)
