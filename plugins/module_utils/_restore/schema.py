# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A schema of a live database restored whole, beside the one that had its name: in one transaction, compared before anybody sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference, compare, not_compared
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured, measure_rows, measure_structure
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from ansible_collections.pgops.runbook.plugins.module_utils._content.session import measuring
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, MissingObject, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore import refuse, tokens_back
from ansible_collections.pgops.runbook.plugins.module_utils._restore.copy_text import Header
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import kept_name
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import look_at
from ansible_collections.pgops.runbook.plugins.module_utils._restore.locks import lock
from ansible_collections.pgops.runbook.plugins.module_utils._restore.needs import read_objects
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import left_out_kinds
from ansible_collections.pgops.runbook.plugins.module_utils._restore.parts import alone, require_readable, require_target
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import rehearsed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.schema_bounds import is_empty, require_separate, tables_in_schema
from ansible_collections.pgops.runbook.plugins.module_utils._restore.schema_content import inside
from ansible_collections.pgops.runbook.plugins.module_utils._restore.script import Script, copy_rows
from ansible_collections.pgops.runbook.plugins.module_utils._restore.staging import read_name, said_of, stage, temporary_like
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import (
    DIRECTORY,
    PLAIN,
    Piped,
    entries_text,
    schema_entries,
    schema_text,
    table_rows,
)
from ansible_collections.pgops.runbook.plugins.module_utils._restore.table_replace import PRESENT, REPLACED
from ansible_collections.pgops.runbook.plugins.module_utils._restore.tokens_back import StoreCount

RESTORED = "restored"
_PUBLIC = "public"
_OWNED_BY_DATABASE = 150000  # the first server on which the schema public is the database owner's, and others may not create in it
_EXISTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = %s)"


@dataclass(frozen=True)
class _Plan:
    """What there is and what becomes of it: `kept` is the name that the schema which is replaced gets, None where none is."""

    exists: bool
    present: bool
    empty: bool
    kept: str | None


def restore_schema(run: Run) -> Dict[str, Any]:
    """Restore a schema into the target and return the result; in check mode only say what would be done.

    Raises Busy, Refused, MissingObject, InvalidValue and ProgramMissing before anything is changed, RunbookError after it was taken back.
    """
    stores = tokens_back.read_stores(run.options.token_stores)
    require_target(run)
    require_readable(run, rows=False)
    return alone(run, lambda: _Restore(run, stores).result())


class _Restore:
    """One restore of a schema."""

    def __init__(self, run: Run, stores: Tuple[Mapping[str, Any], ...]) -> None:
        self.run, self.schema, self.stores = run, run.options.schema, stores
        self.archive = run.archive
        self.expected = Measured.from_manifest(run.manifest, read_objects(run.backup.path))
        self.left_out = left_out_kinds(run.options.owners, run.options.privileges)
        self.unseen: List[Dict[str, str]] = []

    def result(self) -> Dict[str, Any]:
        """Do it, and say what came of it."""
        run = self.run
        _require_plain_of(self)
        with run.open(run.target) as session:
            plan = self._plan(session)
            if plan.present:
                tokens: List[StoreCount] = []
            elif run.check_mode:
                with run.phase("restore"):
                    tokens = rehearsed(session, lambda: self._rehearse(session, plan))
            else:
                with run.phase("restore"), session.transaction():
                    tokens = self._restore(session, plan)
                if run.options.analyze:
                    with run.phase("analyze"):
                        self._analyze(session)
        tables = [table for table in self.expected.tables or () if read_name(table.name).schema == self.schema]
        return {
            "changed": not plan.present,
            "mode": run.options.mode,
            "action": PRESENT if plan.present else REPLACED if plan.kept else RESTORED,
            "backup": run.backup.summary(),
            "target": run.target,
            "schema": self.schema,
            "kept": plan.kept if run.options.keep_old else None,
            "tables": len(tables),
            "rows": sum(table.rows for table in tables),
            "tokens_back": [count.as_result() for count in tokens],
            "not_compared": self.unseen,
            "seconds": {**run.seconds},
            "warnings": list(run.warnings),
        }

    def _plan(self, session: Any) -> _Plan:
        quoted = session.value("SELECT pg_catalog.quote_ident(%s)", (self.schema,))
        if not inside(self.expected, self.schema, quoted).tables and not self._made_by_backup(quoted):
            hint = "Choose another backup."
            raise MissingObject(f"schema: the backup {self.run.backup.id} holds no schema {self.schema}", object_name="schema", hint=hint)
        if not session.value(_EXISTS, (self.schema,)):
            return _Plan(False, False, True, None)
        if is_empty(session, self.schema):
            return _Plan(True, False, True, None)
        differences = self._differences(session)
        if not differences and self._tells_everything():
            return _Plan(True, True, False, None)
        if self.run.options.replace != self.schema:
            why = differences[0].message if differences else "the backup does not tell what is in it"
            raise Refused(
                f"schema {self.schema} is there, not empty, and not known to be what the backup holds: {why}",
                object_name="replace",
                hint=f"Say replace={self.schema} if the backup is to take its place.",
            )
        require_separate(session, self.schema)
        return _Plan(True, False, False, kept_name(self.schema, datetime.now(timezone.utc)))

    def _tells_everything(self) -> bool:
        return self.expected.objects is not None and (self.expected.tables is not None or not self.expected.scope.with_rows)

    def _made_by_backup(self, quoted: str) -> bool:
        return quoted in ((self.expected.objects or {}).get("schemas") or ())

    def _restore(self, session: Any, plan: _Plan) -> List[StoreCount]:
        sql, name = session.sql, session.sql.Identifier(self.schema)
        aside = {
            table: RelationName(plan.kept or self.schema, table.name)
            for store in self.stores
            for table in tokens_back.tables_of(store)
            if table.schema == self.schema
        }
        exchange = tokens_back.Exchange(session, self.stores, aside)
        old = tables_in_schema(session, self.schema, lockable=True)
        if plan.kept:
            session.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(name, sql.Identifier(plan.kept)))
        elif plan.exists:
            session.execute(sql.SQL("DROP SCHEMA {}").format(name))
        self._load(session)
        differences = self._differences(session)
        if differences:
            raise refuse.different(self.run, differences)
        if plan.kept:
            # What writes into the old tables till the end does so before the tokens are counted, or into the new ones.
            lock(session, [RelationName(plan.kept, table) for table in old], "ACCESS EXCLUSIVE")
            # So does what was made on them since they were looked at.
            require_separate(session, self.schema, plan.kept)
        counts = exchange.counts()
        tokens_back.require_none_back(counts, accepted=self.run.options.accept_tokens_back)
        if plan.kept and not self.run.options.keep_old:
            session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(plan.kept)))
        return counts

    def _load(self, session: Any) -> None:
        run, tick = self.run, self.run.tick
        arguments = run.loading.arguments()
        origin = self.archive.path.name
        if self.archive.format == PLAIN:
            with Piped(self.archive.path, self.archive.decoders(), tick) as chunks:
                Script(session, chunks, origin, self._rows(session)).run()
            return
        if self.schema == _PUBLIC:
            self._make_public(session)
        entries = schema_entries(self.archive, self.schema, tick)
        if entries:
            with entries_text(self.archive, entries, arguments, tick) as chunks:
                Script(session, chunks, origin, self._rows(session)).run()
        with schema_text(self.archive, self.schema, arguments, tick) as chunks:
            Script(session, chunks, origin, self._rows(session)).run()

    def _make_public(self, session: Any) -> None:
        """Make the schema public as it is in a new database, which is what a dump counts on."""
        new = session.server_version >= _OWNED_BY_DATABASE
        session.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner" if new else "CREATE SCHEMA public")
        session.execute("GRANT USAGE ON SCHEMA public TO PUBLIC" if new else "GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC")
        session.execute("COMMENT ON SCHEMA public IS 'standard public schema'")

    def _rows(self, session: Any) -> Any:
        def take(header: Header, chunks: Iterable[bytes]) -> None:
            if self.archive.format == DIRECTORY and self.archive.by_program:
                with table_rows(self.archive, header.table, self.run.tick) as rows:
                    copy_rows(session, rows.header, rows.chunks, header.table)
            else:
                copy_rows(session, header, chunks, header.table)

        return take

    def _differences(self, session: Any) -> List[Difference]:
        """Compare the schema with what the manifest says of it."""
        quoted = session.value("SELECT pg_catalog.quote_ident(%s)", (self.schema,))
        scope = Scope("schemas", (self.schema,)).restored()
        with measuring(session):
            found = measure_structure(session, scope)
            if self.expected.tables is not None:
                found = found.with_rows(measure_rows(session, scope, tick=self.run.tick))
        expected = inside(self.expected, self.schema, quoted, found)
        found = replace(found, large_objects=None)
        self.unseen = not_compared(expected, found, same_major=self.run.same_major, leave_out=self.left_out)
        return compare(expected, found, same_major=self.run.same_major, leave_out=self.left_out)

    def _rehearse(self, session: Any, plan: _Plan) -> List[StoreCount]:
        """Count the tokens that would come back, with the tables of tokens loaded where nobody sees them."""
        places: Dict[RelationName, RelationName] = {}
        if plan.kept:
            names = {table for store in self.stores for table in tokens_back.tables_of(store) if table.schema == self.schema}
            for name in sorted(names):
                if said_of(self.run.manifest, name) is not None:
                    live = look_at(session, name)
                    places[name] = temporary_like(session, live)
                    stage(session, self.archive, self.run.manifest, live, places[name], self.run.tick)
        counts = tokens_back.tokens_back_here(session, self.stores, places)
        tokens_back.require_none_back(counts, accepted=self.run.options.accept_tokens_back)
        return counts

    def _analyze(self, session: Any) -> None:
        sql = session.sql
        for table in tables_in_schema(session, self.schema):
            session.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(self.schema, table)))


def _require_plain_of(restore: _Restore) -> None:
    """Refuse a plain dump, of which no part can be taken, unless it is one of this schema alone."""
    scope, run = restore.expected.scope, restore.run
    if restore.archive.format != PLAIN:
        return
    if scope.kind != "schemas" or tuple(scope.schemas) != (restore.schema,):
        raise Refused(
            f"the backup {run.backup.id} is a plain dump, of which a schema cannot be taken alone",
            object_name=run.backup.id,
            hint="Choose a backup in the format directory or custom, or a plain one of this schema alone.",
        )
    if run.loading.arguments():
        raise InvalidValue(
            f"owners, privileges: the backup {run.backup.id} is a plain dump, of which nothing can be left out", object_name="owners"
        )
