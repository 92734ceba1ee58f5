# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A history in a table of the database: read over the run's session, written over a second one that is open for a moment.

Nobody but this module reads or writes the table, and nothing here waits for a table of an application.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._connection import Database
from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_duration
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.record import RECORDS_READ, Record, moment
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.series import (
    DAILY_SECONDS,
    HOURLY_SECONDS,
    SKEW,
    charted,
    gathered,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.store import Opener, Refused, Store, Stored
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look

TABLE = "health_snapshots"
PRUNED_AT_ONCE = 500
DUPLICATES = ("42P07", "42P06", "23505")

# A table of this name that somebody else has made could run their code as this role: by a trigger, a rule, a view, a default.
TABLES = Fact(
    "history_tables",
    """SELECT coalesce(json_object_agg(n.nspname, json_build_object(
           'plain', c.relkind = 'r' AND NOT c.relhastriggers AND NOT c.relhasrules AND NOT c.relrowsecurity,
           'trusted', o.rolsuper OR o.rolname = current_user OR NOT me.rolsuper AND (
               c.relowner IN (n.nspowner, d.datdba) OR pg_has_role(c.relowner, 'MEMBER')),
           'readable', has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))), '{}')
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_database d ON d.datname = current_database() JOIN pg_roles o ON o.oid = c.relowner
       JOIN pg_roles me ON me.rolname = current_user
       WHERE c.relname = 'health_snapshots'""",
)
# Of all runs alike in what they measured only the last of an hour or day is read: that is what thinning leaves.
_READ = """
WITH mine AS (
    SELECT id, extract(epoch FROM taken_at)::int8 AS at, shape FROM {table}
    WHERE system = %(system)s AND taken_at > to_timestamp(%(since)s) AND taken_at <= to_timestamp(%(until)s)
), ranked AS (
    SELECT id, at, min(at) OVER () AS first, row_number() OVER (
        PARTITION BY shape, at > %(recent)s, at / CASE WHEN at > %(recent)s THEN 3600 ELSE 86400 END ORDER BY at DESC, id DESC) AS place
    FROM mine
)
SELECT (SELECT count(*) FROM {table} WHERE system = %(system)s) AS snapshots,
       (SELECT coalesce(json_agg(snapshot ORDER BY id DESC), '[]')
        FROM (SELECT id, snapshot FROM {table} WHERE system = %(system)s ORDER BY id DESC LIMIT %(records)s) AS latest) AS records,
       (SELECT coalesce(json_agg(json_build_array(r.at, t.charted)), '[]')
        FROM ranked AS r JOIN {table} AS t USING (id) WHERE r.place = 1 OR r.at = r.first) AS points
"""
_CREATE = """
CREATE TABLE {table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    system text NOT NULL,
    tier text,
    status text NOT NULL,
    shape text NOT NULL,
    charted jsonb NOT NULL,
    snapshot jsonb NOT NULL
)
"""
_INSERT = """
INSERT INTO {table} (taken_at, system, tier, status, shape, charted, snapshot)
VALUES (to_timestamp(%(at)s), %(system)s, %(tier)s, %(status)s, %(shape)s, %(charted)s::jsonb, %(snapshot)s::jsonb)
"""
_PRUNE = """
DELETE FROM {table} WHERE id IN (
    SELECT id FROM {table} WHERE taken_at < to_timestamp(%(before)s) ORDER BY taken_at LIMIT %(most)s)
"""


class SchemaStore(Store):
    """The table of the history in `schema`; runs older than `keep` seconds are deleted."""

    kept_in = "schema"
    facts = (TABLES,)

    def __init__(self, schema: str, keep: float) -> None:
        self.place = schema
        self._schema = schema
        self._keep = keep
        self._shown = quoted(schema, TABLE)

    @property
    def records_itself(self) -> bool:
        """It does."""
        return True

    def read(self, look: Look | None, system: str) -> Stored | None:
        """Read in one statement. Raises Refused where the table cannot be trusted or read, DatabaseError where the server refuses."""
        if look is None:
            return None
        known = look.fact(TABLES).get(self._schema)
        if known is None:
            return Stored()
        self._trust(known)
        if not known["readable"]:
            raise Refused(f"the role {look.role} may not read {self._shown}", hint=self._grants(look.role))
        now = look.now.timestamp()
        parameters = {"system": system, "since": now - DAILY_SECONDS, "until": now + SKEW, "recent": int(now - HOURLY_SECONDS)}
        try:
            row = look.row(self._statement(look.database, _READ), {**parameters, "records": RECORDS_READ})
        except DatabaseError as error:
            raise self._refused(error, look.role) from None
        return Stored(row["records"], gathered(row["points"], now), row["snapshots"])

    def record(self, record: Record, look: Look | None, open_writer: Opener | None) -> List[str]:
        """Insert one row, with the table made where it is missing, and delete what is too old."""
        if look is None or open_writer is None:
            raise Refused("there is no session to record it with")
        if look.database.in_recovery:
            hint = "Keep the history of a standby in a file of the control node (pgops.runbook.pg_health_history)."
            raise Refused("a standby takes no writes", hint=hint)
        try:
            with open_writer() as writer:
                # A standby that does not answer must not hold the run up, and a crash may take the last snapshot with it.
                writer.rows("SELECT set_config('synchronous_commit', 'off', false)")
                if self._schema not in look.fact(TABLES):
                    self._create(writer)
                    again = writer.sql.SQL("SELECT ({})").format(writer.sql.SQL(TABLES.statement))
                    self._trust(writer.value(again)[self._schema])
                self._insert(writer, record, look)
                return self._prune(writer, look.now.timestamp() - self._keep, look.role)
        except DatabaseError as error:
            raise self._refused(error, look.role) from None

    def _create(self, writer: Database) -> None:
        sql = writer.sql
        try:
            with writer.transaction():
                if writer.value("SELECT to_regnamespace(%s) IS NULL", (quoted(self._schema),)):
                    writer.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
                writer.execute(self._statement(writer, _CREATE))
                index = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} (system, taken_at)")
                writer.execute(index.format(sql.Identifier(f"{TABLE}_taken_at"), sql.Identifier(self._schema, TABLE)))
        except DatabaseError as error:
            # Another run has made it in this very moment, or another role.
            if error.sqlstate not in DUPLICATES or writer.closed:
                raise

    def _insert(self, writer: Database, record: Record, look: Look) -> None:
        at = moment(record)
        numbers = charted(record["metrics"])
        row = {
            "at": at.timestamp() if at else look.now.timestamp(),
            "system": record["system"],
            "tier": record["tier"],
            "status": record["status"],
            "shape": hashlib.sha256("|".join(sorted(numbers)).encode("utf-8")).hexdigest()[:8],
            "charted": json.dumps(numbers, ensure_ascii=False),
            "snapshot": json.dumps(record, ensure_ascii=False),
        }
        writer.execute(self._statement(writer, _INSERT), row)

    def _prune(self, writer: Database, before: float, role: str) -> List[str]:
        """Delete some of what is too old; a run that has been recorded stays so whatever comes of this."""
        try:
            writer.execute(self._statement(writer, _PRUNE), {"before": before, "most": PRUNED_AT_ONCE})
        except DatabaseError as error:
            refused = self._refused(error, role)
            kept = format_duration(self._keep)
            return [
                f"snapshots older than {kept} could not be deleted from {self._shown}: {refused.message}. {refused.hint or ''}".rstrip()
            ]
        return []

    def _trust(self, known: Mapping[str, Any]) -> None:
        if not (known["plain"] and known["trusted"]):
            raise Refused(
                f"{self._shown} is not used: it has a trigger, a rule or a policy, is no table, or its owner could run code by it",
                hint="Name another schema in history_schema, or have the owner of the database own a plain table.",
            )

    def _statement(self, database: Database, text: str) -> Any:
        return database.sql.SQL(text).format(table=database.sql.Identifier(self._schema, TABLE))

    def _refused(self, error: DatabaseError, role: str) -> Refused:
        hints: Dict[str, str] = {
            "42501": self._grants(role),
            "55P03": f"Another session holds an exclusive lock on {self._shown}: find it in pg_locks.",
            "57014": f"Look why {self._shown} is slow: VACUUM ANALYZE it, or look for a lock.",
            "25006": "Keep the history in a file of the control node (pgops.runbook.pg_health_history).",
            "53100": "The disk is full: free some space.",
            "42703": f"{self._shown} is not the table of this module: name another schema in history_schema.",
        }
        hint = hints.get(error.sqlstate or "", error.hint)
        return Refused(error.message, sqlstate=error.sqlstate, object_name=self._shown, hint=hint)

    def _grants(self, role: str) -> str:
        schema, name = quoted(self._schema), quoted(role)
        return (
            f"As a superuser: CREATE SCHEMA IF NOT EXISTS {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {name};"
            f" and, where the table is there: GRANT SELECT, INSERT, DELETE ON {self._shown} TO {name};"
        )
