# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which values the record of a revocation finds a changed row again, which stands somewhere else by then."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column, Relation

# The primary key, or else the least of the unique ones that no NULL gets past.
_UNIQUE = """
SELECT a.attname
FROM (
    SELECT i.indexrelid, i.indrelid, i.indkey, i.indnkeyatts
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute n
        WHERE n.attrelid = i.indrelid AND n.attnum = ANY (i.indkey::int2[]) AND NOT n.attnotnull
    )
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
    LIMIT 1
) AS one
CROSS JOIN LATERAL pg_catalog.unnest(one.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = one.indrelid AND a.attnum = k.attnum
WHERE k.place <= one.indnkeyatts
ORDER BY k.place
"""
_STORED = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""


def unique_key(database: Any, relation: Relation) -> tuple[str, ...]:
    """Return the columns whose values no two rows of `relation` share; none where nothing proves it, as with inheritance children."""
    if relation.kind != "p" and relation.descendants:
        return ()
    return tuple(row["attname"] for row in database.rows(_UNIQUE, (relation.oid,)))


def key_columns(database: Any, relation: Relation, changed: Column | None) -> tuple[str, ...]:
    """Return the columns that tell the rows of `relation` apart: a unique key, or all but the one that is `changed`."""
    found = unique_key(database, relation)
    if found and (changed is None or changed.name not in found):
        return found
    return tuple(name for name in stored_columns(database, relation) if changed is None or name != changed.name)


def stored_columns(database: Any, relation: Relation) -> tuple[str, ...]:
    """Return the columns that a row of `relation` can be given, in their order: generated ones come by themselves."""
    return tuple(row["attname"] for row in database.rows(_STORED, (relation.oid,)))


def text_of(sql: Any, alias: str, names: Sequence[str]) -> Any:
    """Return the expression for the text of the columns `names` of a row by name, each value as the server writes it.

    By their place the values of a table that has got another column since could not be told apart.
    """
    written = sql.SQL(", ").join(map(sql.Literal, names))
    return sql.SQL("pg_catalog.jsonb_object(ARRAY[{}]::text[], {})::text").format(written, key_of(sql, alias, names))


def key_of(sql: Any, alias: str, names: Sequence[str]) -> Any:
    """Return the expression (text[]) for the values of the columns `names` of the row with the alias `alias`."""
    values = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(alias, name)) for name in names)
    return sql.SQL("ARRAY[{}]::text[]").format(values)
