# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables replaced by what a backup has of them: a new one grows beside each, and takes its name when all of them are right.

Everything is one transaction, so that nothing is visible before it ends and nothing is left behind by a run that is killed. Readers and
writers are held up only from the moment in which the names change, when all that hangs on the old tables is put onto the new ones; then
the structure of the whole database is compared with what it was. Any difference takes everything back: what nobody knew how to carry
over is refused, and never lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._content.hashing import measure_tables
from ansible_collections.pgops.runbook.plugins.module_utils._content.objects import Objects, measure_objects
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, Table
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore import tokens_back
from ansible_collections.pgops.runbook.plugins.module_utils._restore.attached import (
    Attached,
    OwnedSequence,
    read_attached,
    revoke_everything,
    sequences_of,
)
from ansible_collections.pgops.runbook.plugins.module_utils._restore.beside import Beside, finish_beside, make_beside
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import kept_name
from ansible_collections.pgops.runbook.plugins.module_utils._restore.dependents import require_carried
from ansible_collections.pgops.runbook.plugins.module_utils._restore.live_table import LiveTable, look_at
from ansible_collections.pgops.runbook.plugins.module_utils._restore.locks import lock
from ansible_collections.pgops.runbook.plugins.module_utils._restore.request import Outcome, Request, rehearsed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.sequences import move_forward
from ansible_collections.pgops.runbook.plugins.module_utils._restore.staging import Staged, said_of, stage, temporary_like

REPLACED, PRESENT = "replaced", "present"
_FOREIGN_KEY, _DEPENDENT = "23503", "2BP01"


@dataclass(frozen=True)
class Replaced:
    """What became of one table, or would: it had `rows_before` and has `rows` now, those of the backup and denials that were kept.

    `staged` is None for a table that held just what the backup has of it already, and was left alone.
    """

    table: RelationName
    rows_before: int
    rows: int
    staged: Staged | None = None
    denials_kept: int = 0
    kept: RelationName | None = None

    def as_result(self) -> Dict[str, Any]:
        """Return what a result says of it."""
        return {
            "table": str(self.table),
            "action": REPLACED if self.staged else PRESENT,
            "rows_before": self.rows_before,
            "rows": self.rows,
            "in_backup": self.staged.rows if self.staged else self.rows,
            "compared": self.staged.compared if self.staged else True,
            "defaults": list(self.staged.filled) if self.staged else [],
            "denials_kept": self.denials_kept,
            "kept": str(self.kept) if self.kept else None,
        }


def replace_tables(database: Any, request: Request, *, check_mode: bool) -> Outcome:
    """Replace the tables of `request` and return what became of them; in check mode only load the rows where nobody sees them, and count.

    Raises MissingObject, Refused and InvalidValue, or DatabaseError, ProgramFailed and ProgramMissing; nothing is changed then.
    """
    lives = [look_at(database, name) for name in request.tables]
    for live in lives:
        live.require_plain()
        require_carried(database, live)
    present = {live.name: Replaced(live.name, rows, rows) for live in lives for rows in _present(database, request, live)}
    others = [live for live in lives if live.name not in present]
    moment = datetime.now(timezone.utc)
    if not others:
        return Outcome(tuple(present.values()), ())
    if check_mode:
        outcome = rehearsed(database, lambda: _rehearse(database, request, others, moment))
    else:
        with database.transaction():
            outcome = _replace(database, request, others, moment)
    done = {**present, **{one.table: one for one in outcome.tables}}
    return Outcome(tuple(done[live.name] for live in lives), outcome.tokens)


def _present(database: Any, request: Request, live: LiveTable) -> List[int]:
    """Return the number of its rows where the table holds just what the backup has of it, else nothing."""
    known = said_of(request.manifest, live.name)
    if known is None:
        return []
    table = Table(live.oid, str(live.name), live.name.schema, live.name.name, "table", True)
    found = measure_tables(database, [table], by=known.get("by"), tick=request.tick)[0]
    return [found.rows] if (found.rows, found.hash) == (int(known["rows"]), str(known["hash"])) else []


def _rehearse(database: Any, request: Request, lives: Sequence[LiveTable], moment: datetime) -> Outcome:
    places = {live.name: temporary_like(database, live) for live in lives}
    staged = _stage(database, request, lives, places)
    return _outcome(database, request, lives, moment, places, staged)


def _stage(
    database: Any, request: Request, lives: Sequence[LiveTable], places: Mapping[RelationName, RelationName]
) -> Dict[RelationName, Staged]:
    return {live.name: stage(database, request.archive, request.manifest, live, places[live.name], request.tick) for live in lives}


def _outcome(
    database: Any,
    request: Request,
    lives: Sequence[LiveTable],
    moment: datetime,
    places: Mapping[RelationName, RelationName],
    staged: Mapping[RelationName, Staged],
) -> Outcome:
    """Look at what is in the new tables, with which denials, and at the tokens that would be accepted with them."""
    denials = {name: tokens_back.keep_denials(database, request.stores, name, place) for name, place in places.items()}
    counts = tokens_back.tokens_back_here(database, request.stores, places)
    tokens_back.require_none_back(counts, accepted=request.accept_tokens_back)
    tables = []
    for live in lives:
        before, rows = (_count(database, name) for name in (live.name, places[live.name]))
        kept = _old_name(live.name, moment) if request.keep_old else None
        tables.append(Replaced(live.name, before, rows, staged[live.name], denials[live.name], kept))
    return Outcome(tuple(tables), tuple(counts))


def _count(database: Any, name: RelationName) -> int:
    return int(database.value(database.sql.SQL("SELECT count(*) FROM {}").format(name.identifier(database.sql))))


def _replace(database: Any, request: Request, lives: Sequence[LiveTable], moment: datetime) -> Outcome:
    places = {live.name: make_beside(database, live) for live in lives}
    staged = _stage(database, request, lives, places)
    new = [finish_beside(database, live, places[live.name]) for live in lives]
    attached = lock(database, [live.name for live in lives], "ACCESS EXCLUSIVE", lambda: _attached(database, lives), _tied(database, lives))
    outcome = _outcome(database, request, lives, moment, places, staged)
    before = measure_objects(database, Scope())
    swap = _Swap(database, new, attached, moment)
    swap.run()
    if not request.keep_old:
        swap.drop_old()
    _require_same(database, before, measure_objects(database, Scope()), swap.aside)
    return outcome


def _old_name(name: RelationName, moment: datetime) -> RelationName:
    return RelationName(name.schema, kept_name(name.name, moment))


def _attached(database: Any, lives: Sequence[LiveTable]) -> List[Attached]:
    """Return what hangs on each table, with the tables locked that foreign keys tie to them: dropping one needs both its sides."""
    for name in _tied(database, lives):
        database.execute(database.sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(database.sql.SQL(name)))
    return [read_attached(database, live) for live in lives]


def _tied(database: Any, lives: Sequence[LiveTable]) -> List[str]:
    """Return the tables on both sides of the foreign keys of each table, as SQL writes them."""
    keys = [key for live in lives for key in read_attached(database, live).foreign_keys]
    return sorted({side for key in keys for side in (key.referencing, key.referenced)})


class _Swap:
    """The moment in which the names change. Every statement needs the locks, and the transaction that is open."""

    def __init__(self, database: Any, new: Sequence[Beside], attached: Sequence[Attached], moment: datetime) -> None:
        self.database, self.sql, self.moment = database, database.sql, moment
        self.pairs = list(zip(new, attached))
        self.old = {one.live.name: _old_name(one.live.name, moment) for one in new}
        # What is not compared: the old tables, what they take with them, and the names that the new ones had first.
        self.aside: List[RelationName] = [*self.old.values(), *(one.name for one in new)]

    def run(self) -> None:
        """Do all of it."""
        foreign_keys = {(key.referencing, key.name): key for _new, attached in self.pairs for key in attached.foreign_keys}
        for key in foreign_keys.values():
            self.database.execute(key.off)
        for _new, attached in self.pairs:
            self._each(attached.off)
        for new, attached in self.pairs:
            self._rename(new, attached)
        for new, attached in self.pairs:
            self._dress(new, attached)
        for key in foreign_keys.values():
            self._tie(key)
        self._each(dict.fromkeys(view for _new, attached in self.pairs for view in attached.views))
        for new, attached in self.pairs:
            # At last: what an owner may not do with the table, was done with it all the same.
            revoke_everything(self.database, self._oid(new.live.name))
            self._each(attached.grants)

    def drop_old(self) -> None:
        """Remove the tables that were replaced. Raises Refused where something still hangs on one."""
        names = self.sql.SQL(", ").join(name.identifier(self.sql) for name in self.old.values())
        try:
            self.database.execute(self.sql.SQL("DROP TABLE {}").format(names))
        except DatabaseError as error:
            if error.sqlstate != _DEPENDENT:
                raise
            raise Refused(f"{error.message}. Nothing was changed", object_name="keep_old", hint="Say keep_old=true.") from None

    def _each(self, statements: Any) -> None:
        for statement in statements:
            self.database.execute(statement)

    def _alter(self, what: str, old: RelationName, new: str) -> None:
        sql = self.sql
        self.database.execute(sql.SQL("ALTER {} {} RENAME TO {}").format(sql.SQL(what), old.identifier(sql), sql.Identifier(new)))

    def _rename(self, new: Beside, attached: Attached) -> None:
        name, schema = new.live.name, new.live.name.schema
        identities = sequences_of(self.database, self._oid(new.name))
        self._alter("TABLE", name, self.old[name].name)
        self._alter("TABLE", new.name, name.name)
        for index, hidden in new.indexes.items():
            self._alter("INDEX", RelationName(schema, index), kept_name(index, self.moment))
            self._alter("INDEX", RelationName(schema, hidden), index)
        for sequence in attached.sequences:
            if sequence.own:
                self._kept("SEQUENCE", sequence.name)
                self._alter("SEQUENCE", identities[sequence.column], sequence.name.name)
                self.aside.append(identities[sequence.column])
        for statistics in attached.statistics:
            self._kept("STATISTICS", statistics.name)

    def _kept(self, what: str, name: RelationName) -> None:
        self._alter(what, name, kept_name(name.name, self.moment))
        self.aside.append(RelationName(name.schema, kept_name(name.name, self.moment)))

    def _dress(self, new: Beside, attached: Attached) -> None:
        """Put onto the new table, which has the name now, what hung on the old one."""
        self._each(attached.owner)
        self._each(attached.put)
        for sequence in attached.sequences:
            self._take_over(sequence)
        move_forward(self.database, new.live.name)
        for statistics in attached.statistics:
            self._each(statistics.put)
        self._each(attached.comments)

    def _take_over(self, sequence: OwnedSequence) -> None:
        """Let a sequence belong to the new table; one that is an identity is another one, which goes on where the old one was."""
        self.database.execute(sequence.put)
        if not sequence.own:
            return
        oid = self._oid(sequence.name)
        revoke_everything(self.database, oid)
        self._each(sequence.granted)
        old = RelationName(sequence.name.schema, kept_name(sequence.name.name, self.moment)).identifier(self.sql)
        state = self.sql.SQL("SELECT pg_catalog.setval({}::oid::regclass, last_value, is_called) FROM {}")
        self.database.rows(state.format(self.sql.Literal(oid), old))

    def _tie(self, key: Any) -> None:
        try:
            self.database.execute(key.put)
        except DatabaseError as error:
            if error.sqlstate != _FOREIGN_KEY:
                raise
            said = f"does not hold with the rows of the backup: {error.message}. Nothing was changed"
            raise Refused(
                f"the foreign key {key.name} of {key.referencing} {said}",
                object_name=key.name,
                hint="Restore the tables on both its sides together, or copy rows with how=missing_rows.",
            ) from None
        if key.comment:
            self.database.execute(key.comment)

    def _oid(self, name: RelationName) -> int:
        return int(self.database.value(_OID, (name.schema, name.name)))


_OID = """
SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""
_WRITTEN = "SELECT pg_catalog.format('%%I.%%I', %s::text, %s::text)"


def _require_same(database: Any, before: Objects, after: Objects, aside: Sequence[RelationName]) -> None:
    """Raise Refused where the structure, but for the tables that were replaced, is not what it was."""
    names = [re.escape(str(database.value(_WRITTEN, tuple(name)))) for name in aside]
    old = re.compile(rf"(?:^|\s)(?:{'|'.join(names)})(?:\s|$)")
    differences = []
    for kind in dict.fromkeys([*before, *after]):
        mine, other = before.get(kind, {}), after.get(kind, {})
        for identity in dict.fromkeys([*mine, *other]):
            if mine.get(identity) != other.get(identity) and not old.search(identity):
                what = "is lost" if identity not in other else "is new" if identity not in mine else "is another"
                differences.append(f"{kind.replace('_', ' ')}: {identity} {what}")
    if differences:
        raise Refused(
            f"the table would not be the same with the rows of the backup: {faults_in_words(differences, most=5)}. Nothing was changed",
            object_name=differences[0].partition(": ")[2],
            hint="Somebody else may have changed it meanwhile: try again. If it stays, restore mode=new and take over what is needed.",
        )
