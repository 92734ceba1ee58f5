# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structure of a database: every object that pg_dump writes, by kind and identity, with a fingerprint of its definition.

An identity of something that belongs to a table begins with the table's name and a space: `public.tokens tokens_pkey`.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._content import (
    objects_access,
    objects_code,
    objects_database,
    objects_extras,
    objects_relations,
)
from ansible_collections.pgops.runbook.plugins.module_utils._content.fingerprint import fingerprint
from ansible_collections.pgops.runbook.plugins.module_utils._content.query import Query
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, select
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import catalogue_columns, letting_go, measuring

Objects = Dict[str, Dict[str, str]]

# Temporary objects, system schemas and members of extensions are out, as they are in a dump.
_SPACE = """
WITH space AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND (%(schemas)s::name[] IS NULL OR n.nspname = ANY (%(schemas)s::name[]))
), member AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_depend d WHERE d.deptype = 'e'
), relation AS MATERIALIZED (
    SELECT c.*, format('%%I.%%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN space n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
        AND (%(relations)s::bigint[] IS NULL OR c.oid IN (SELECT wanted::oid FROM unnest(%(relations)s::bigint[]) AS wanted))
        AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
)
"""


def measure_objects(database: Any, scope: Scope) -> Objects:
    """Return the structure of `scope`: kind, identity, fingerprint. Raises MissingObject, InvalidValue, DatabaseError."""
    if not scope.with_definitions:
        return {}
    found: Objects = {}
    with measuring(database):
        parameters = select(database, scope).parameters()
        has = catalogue_columns(database)
        for query in (one for one in _queries(scope) if not one.needs or one.needs in has):
            with letting_go(database):
                rows = database.rows(_statement(database, query, has), parameters)
            for row in rows:
                found.setdefault(row["kind"], {})[row["identity"]] = fingerprint(row["told"] or "", row["code"])
    return found


def _queries(scope: Scope) -> Iterator[Query]:
    yield from objects_relations.QUERIES
    yield from objects_access.OF_RELATIONS
    yield from objects_extras.OF_RELATIONS
    if scope.tables:
        return
    yield from objects_code.QUERIES
    yield from objects_access.OF_SCHEMAS
    yield from objects_extras.OF_SCHEMAS
    if scope.whole:
        yield from objects_database.QUERIES
        yield from objects_access.OF_DATABASE
        yield from objects_extras.OF_DATABASE


def _statement(database: Any, query: Query, has: FrozenSet[str]) -> Any:
    sql = database.sql
    parts = {choice.place: sql.SQL(choice.then if choice.column in has else choice.otherwise) for choice in query.choices}
    text = sql.SQL(query.text).format(**parts) if parts else sql.SQL(query.text)
    return sql.SQL("{}{}{}").format(sql.SQL(_SPACE), text, sql.SQL(query.ending))
