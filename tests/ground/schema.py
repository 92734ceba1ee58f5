"""Build a system's tables in an empty database from its description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import errors, sql

from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation

Connection = psycopg.Connection[tuple[Any, ...]]

# Months that a partitioned table reaches back and ahead.
PAST_MONTHS, AHEAD_MONTHS = 15, 3


def relation(name: str) -> sql.Composable:
    """Return the quoted identifier of a relation as descriptions name it."""
    return sql.Identifier(*parse_relation(name))


def names(columns: list[str]) -> sql.Composable:
    """Return quoted column names with commas between them."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def create_system(connection: Connection, description: Mapping[str, Any]) -> None:
    """Create roles, schemas, extensions where available, tables, keys, indexes, policies and grants. `connection` is in autocommit."""
    tables: dict[str, Any] = {name: table for name, table in description["schema"]["tables"].items() if not table["optional"]}
    # Roles belong to the cluster; each is committed by itself so that systems made at the same time do not wait in a circle.
    _roles(connection, description)
    with connection.transaction():
        for schema in sorted({parse_relation(name).schema for name in tables} | set(description["schemas"])):
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        _extensions(connection, description)
        for name, table in tables.items():
            _table(connection, name, table, description)
        for name, table in tables.items():
            _foreign_keys(connection, name, table, tables)
        for view in description["schema"]["views"]:
            # The declaration has a view's name only.
            connection.execute(sql.SQL("CREATE VIEW {} AS SELECT 1 AS present").format(relation(view)))
        _security(connection, description, tables)


def _roles(connection: Connection, description: Mapping[str, Any]) -> None:
    security = description["security"]
    logins = {role["name"]: role["login"] for role in security["application_roles"]}
    others = [*security["write_roles"], *(role for rls in security["rls"] for policy in rls["policies"] for role in policy["roles"])]
    for name in [*logins, *others]:
        kind = sql.SQL("LOGIN" if logins.get(name) else "NOLOGIN")
        try:
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), kind))
        except (errors.DuplicateObject, errors.UniqueViolation):
            # Another system has it already.
            continue


def _extensions(connection: Connection, description: Mapping[str, Any]) -> None:
    available = {name for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
    for name in description["extensions"]:
        if name in available:
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
    if connection.info.server_version < 130000 and not connection.execute("SELECT to_regproc('gen_random_uuid')").fetchone()[0]:  # type: ignore[index]
        if "pgcrypto" in available:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")
        else:
            body = "SELECT md5(random()::text || clock_timestamp()::text)::uuid"
            connection.execute(
                sql.SQL("CREATE FUNCTION public.gen_random_uuid() RETURNS uuid LANGUAGE sql AS {}").format(sql.Literal(body))
            )


def _table(connection: Connection, name: str, table: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    parts: list[sql.Composable] = []
    for column, facts in table["columns"].items():
        default = sql.SQL(" DEFAULT " + facts["default"]) if facts["default"] else sql.SQL("")
        null = sql.SQL("" if facts["nullable"] else " NOT NULL")
        parts.append(sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(facts["type"])) + default + null)
    if table["primary_key"]:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(names(table["primary_key"])))
    parts += [sql.SQL("UNIQUE ({})").format(names(columns)) for columns in table["unique"]]
    for check in table["checks"]:
        named = sql.SQL("CONSTRAINT {} ").format(sql.Identifier(check["name"])) if check["name"] else sql.SQL("")
        parts.append(named + sql.SQL("CHECK (" + check["expression"] + ")"))
    statement = sql.SQL("CREATE TABLE {} ({})").format(relation(name), sql.SQL(", ").join(parts))
    divided = table["partition_by"]
    if divided:
        statement += sql.SQL(" PARTITION BY " + divided["how"].upper() + " ({})").format(names(divided["columns"]))
    connection.execute(statement)
    if divided:
        _partitions(connection, name, table, description)
    for index in table["indexes"]:
        _index(connection, name, index)


def _partitions(connection: Connection, name: str, table: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    divided, whole = table["partition_by"], parse_relation(name)
    by_time = re.match(r"timestamp|date", table["columns"][divided["columns"][0]]["type"], re.IGNORECASE)
    if divided["how"] == "hash":
        bounds: list[tuple[str, sql.Composable]] = [(f"{whole.name}_0", sql.SQL("FOR VALUES WITH (MODULUS 1, REMAINDER 0)"))]
    elif divided["how"] == "list" or not by_time:
        bounds = [(f"{whole.name}_default", sql.SQL("DEFAULT"))]
    else:
        naming = next((one["naming"] for one in description["maintenance"]["partitions"] if one["table"] == name), None)
        bounds = _months(whole.name, naming or "{table}_{year}_{month}")
    for part, bound in bounds:
        here = sql.Identifier(whole.schema, part)
        connection.execute(sql.SQL("CREATE TABLE {} PARTITION OF {} {}").format(here, relation(name), bound))


def _months(table: str, naming: str) -> list[tuple[str, sql.Composable]]:
    today = datetime.now(UTC)
    first = today.year * 12 + today.month - 1
    bounds: list[tuple[str, sql.Composable]] = []
    for number in range(first - PAST_MONTHS, first + AHEAD_MONTHS + 1):
        edges = [f"{at // 12:04d}-{at % 12 + 1:02d}-01 00:00:00+00" for at in (number, number + 1)]
        name = naming.format(table=table, year=f"{number // 12:04d}", month=f"{number % 12 + 1:02d}", week="", day="01")
        bounds.append((name, sql.SQL("FOR VALUES FROM ({}) TO ({})").format(*map(sql.Literal, edges))))
    return bounds


def _index(connection: Connection, table: str, index: Mapping[str, Any]) -> None:
    unique = sql.SQL("UNIQUE " if index["unique"] else "")
    place = sql.SQL("CREATE {}INDEX {} ON {} USING {}").format(
        unique, sql.Identifier(index["name"]), relation(table), sql.Identifier(index["method"])
    )
    columns = sql.SQL(", ").join(_indexed(text) for text in index["columns"])
    statement = place + sql.SQL(" ({})").format(columns)
    if index["include"]:
        statement += sql.SQL(" INCLUDE ({})").format(names(index["include"]))
    if index["where"]:
        statement += sql.SQL(" WHERE " + index["where"])
    connection.execute(statement)


def _indexed(text: str) -> sql.Composable:
    """Return one indexed column with its direction; whatever is not a bare column is an expression as SQL writes it."""
    match = re.fullmatch(r"([\w$]+)(\s+.*)?", text)
    return sql.Identifier(match.group(1)) + sql.SQL(match.group(2) or "") if match else sql.SQL(text)


def _foreign_keys(connection: Connection, name: str, table: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
    for key in table["foreign_keys"]:
        target = key["references"]
        if target["table"] not in tables:
            continue
        named = sql.SQL("CONSTRAINT {} ").format(sql.Identifier(key["name"])) if key["name"] else sql.SQL("")
        actions = sql.SQL(f"ON DELETE {key['on_delete']} ON UPDATE {key['on_update']}".replace("_", " ").upper())
        start = sql.SQL("ALTER TABLE {} ADD ").format(relation(name))
        connection.execute(
            start
            + named
            + sql.SQL("FOREIGN KEY ({}) REFERENCES {} ({}) ").format(
                names(key["columns"]), relation(target["table"]), names(target["columns"])
            )
            + actions
        )


def _security(connection: Connection, description: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
    security = description["security"]
    required = [name for name in tables if parse_relation(name).schema in security["rls_required"]]
    protected = [name for name, table in tables.items() if table["row_level_security"]]
    for name in dict.fromkeys([*required, *protected, *(rls["table"] for rls in security["rls"])]):
        connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(relation(name)))
    _policy_functions(connection, security["rls"])
    for rls in security["rls"]:
        if rls["force"]:
            connection.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(relation(rls["table"])))
        for policy in rls["policies"]:
            _policy(connection, rls["table"], policy)
    for role in security["application_roles"]:
        for grant in role["grants"]:
            _grant(connection, role["name"], grant, description["schemas"])


def _policy_functions(connection: Connection, protected: list[Any]) -> None:
    """Create the platform's functions that policies call, such as auth.uid(); they read the session's claims as the platform's do."""
    texts = [policy[part] or "" for rls in protected for policy in rls["policies"] for part in ("using", "with_check")]
    for schema, function in sorted({pair for text in texts for pair in re.findall(r"\b(\w+)\.(\w+)\(\)", text)}):
        if connection.execute("SELECT to_regproc(%s)", [f"{schema}.{function}"]).fetchone() == (None,):
            kind = sql.SQL("uuid" if function.endswith("id") else "text")
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            create = sql.SQL("CREATE FUNCTION {}() RETURNS {} LANGUAGE sql STABLE AS {}")
            text = sql.Literal(f"SELECT nullif(current_setting('request.jwt.claim.{function}', true), '')::{kind.as_string(connection)}")
            connection.execute(create.format(sql.Identifier(schema, function), kind, text))


def _policy(connection: Connection, table: str, policy: Mapping[str, Any]) -> None:
    roles = sql.SQL(", ").join(map(sql.Identifier, policy["roles"])) if policy["roles"] else sql.SQL("PUBLIC")
    start = sql.SQL("CREATE POLICY {} ON {} FOR ").format(sql.Identifier(policy["name"]), relation(table))
    statement = start + sql.SQL(policy["command"].upper()) + sql.SQL(" TO {}").format(roles)
    if policy["using"]:
        statement += sql.SQL(" USING (" + policy["using"] + ")")
    if policy["with_check"]:
        statement += sql.SQL(" WITH CHECK (" + policy["with_check"] + ")")
    connection.execute(statement)


def _grant(connection: Connection, role: str, grant: Mapping[str, Any], schemas: list[str]) -> None:
    what = sql.SQL(", ".join(grant["privileges"]).upper())
    kind = grant["to"]
    if kind == "database":
        places: list[sql.Composable] = [sql.SQL("DATABASE ") + sql.Identifier(connection.info.dbname)]
    elif kind == "schemas":
        places = [sql.SQL("SCHEMA ") + sql.Identifier(schema) for schema in grant["objects"] or schemas]
    elif grant["objects"] and kind == "tables":
        places = [sql.SQL("TABLE ") + relation(name) for name in grant["objects"]]
    else:
        places = [sql.SQL(f"ALL {kind.upper()} IN SCHEMA ") + sql.Identifier(schema) for schema in schemas]
    for place in places:
        connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(what, place, sql.Identifier(role)))
