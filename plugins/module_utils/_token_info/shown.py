# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How values leave the database: times in UTC, texts within bounds, secrets only as fingerprints that the server works out."""

from __future__ import annotations

from typing import Any, Collection

from ansible_collections.pgops.runbook.plugins.module_utils import _instant
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column
from ansible_collections.pgops.runbook.plugins.module_utils._time_column import TimeColumn

FINGERPRINT = 12  # hexadecimal digits of the SHA-256
# Fewer characters can be tried out one after the other until the fingerprint fits.
LEAST_SECRET, TOO_SHORT = 16, "too short"
LONGEST_TEXT = 1000  # characters


def instant(sql: Any, value: Any) -> Any:
    """Return the expression for a timestamptz in ISO 8601, UTC, to the second; NULL for infinity, which is never."""
    form = (
        "CASE WHEN pg_catalog.isfinite({value}) THEN pg_catalog.to_char(({value}) AT TIME ZONE 'UTC', {written})"
        " ELSE nullif(({value})::text, 'infinity') END"
    )
    return sql.SQL(form).format(value=value, written=sql.Literal('YYYY-MM-DD"T"HH24:MI:SS"+00:00"'))


def moment(database: Any, time: TimeColumn, value: Any) -> Any:
    """Return the expression for a value of `time` as `instant` writes it; a date stays a date."""
    if time.kind == "date":
        return database.sql.SQL("nullif({}::text, 'infinity')").format(value)
    return instant(database.sql, _instant.start_of(database, time, value))


def fingerprint(sql: Any, column: Column, reference: Any) -> Any:
    """Return the expression that tells secrets apart without telling them: the first digits of the SHA-256 of the value."""
    binary = column.base == "bytea"
    value = reference if binary else sql.SQL("{}::text").format(reference)
    data = value if binary else sql.SQL("pg_catalog.convert_to({}, 'UTF8')").format(value)
    form = (
        "CASE WHEN pg_catalog.length({value}) < {least} THEN {short}"
        " ELSE pg_catalog.left(pg_catalog.encode(pg_catalog.sha256({data}), 'hex'), {digits}) END"
    )
    return sql.SQL(form).format(
        value=value, least=sql.Literal(LEAST_SECRET), short=sql.Literal(TOO_SHORT), data=data, digits=sql.Literal(FINGERPRINT)
    )


def text(sql: Any, column: Column, reference: Any, secrets: Collection[str], longest: int | None = LONGEST_TEXT) -> Any:
    """Return the expression for a column as text, cut where it is long; a fingerprint if the column is among `secrets`."""
    if column.name in secrets:
        return fingerprint(sql, column, reference)
    # The text of an address has a mask of all bits behind it, which nobody writes.
    whole = sql.SQL("pg_catalog.abbrev({})" if column.base == "inet" else "{}::text").format(reference)
    return whole if longest is None else sql.SQL("pg_catalog.left({}, {})").format(whole, sql.Literal(longest))


def secrets_object(sql: Any, fingerprints: Collection[tuple[str, Any]]) -> Any:
    """Return the expression for a mapping of column names to fingerprints."""
    parts = [sql.SQL("{}::text, {}").format(sql.Literal(name), value) for name, value in fingerprints]
    return sql.SQL("pg_catalog.jsonb_build_object({})").format(sql.SQL(", ").join(parts))
