# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of every sequence, and of the columns that it feeds, is used up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    LOCK_NOT_AVAILABLE,
    OK,
    SKIPPED,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    skipped,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import scope
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

# A finding names so many sequences; of those that are well, so many are kept as numbers.
NAMED = 5
KEPT = 50
# Each sequence that is read stays locked until the statement's end, and the room for locks is everybody's.
MOST_LOCKS = 2000
# What the server says of a relation that was there when the statement began: could not open relation with OID.
GONE = "XX000"
WIDEST = 2**63 - 1

# Nothing here opens a sequence. Of the columns that one feeds (its owner's, and those whose default takes from it) the narrowest counts.
_SEQUENCES = """
WITH RECURSIVE number (type, name, least, most) AS (
    VALUES ('int2'::regtype::oid, 'smallint', -32768::int8, 32767::int8),
           ('int4'::regtype::oid, 'integer', -2147483648::int8, 2147483647::int8),
           ('int8'::regtype::oid, 'bigint', '-9223372036854775808'::int8, 9223372036854775807::int8)
    UNION ALL
    SELECT d.oid, n.name, n.least, n.most FROM pg_type d JOIN number n ON n.type = d.typbasetype WHERE d.typtype = 'd'
),
chosen AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relpersistence
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence <> 't'
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
),
feeds AS MATERIALIZED (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS place FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
      AND d.objid IN (SELECT oid FROM chosen)
    UNION
    SELECT d.refobjid, a.adrelid, a.adnum FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
      AND d.refobjid IN (SELECT oid FROM chosen)
),
fed AS MATERIALIZED (
    -- One look into the index for each: a join would read the columns of all tables.
    SELECT f.sequence, f.relation, f.place, a.attname, a.atttypid
    FROM feeds f
    CROSS JOIN LATERAL (SELECT attname, atttypid FROM pg_attribute WHERE attrelid = f.relation AND attnum = f.place OFFSET 0) AS a
),
narrowest AS MATERIALIZED (
    SELECT DISTINCT ON (f.sequence) f.sequence, f.relation, f.attname, n.name, n.least, n.most
    FROM fed f JOIN number n ON n.type = f.atttypid
    ORDER BY f.sequence, n.most, f.relation, f.place
)
SELECT coalesce(json_agg(json_build_array(
           c.oid::int8, c.nspname, c.relname, c.relpersistence = 'u', has_sequence_privilege(c.oid, 'USAGE, SELECT'),
           q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcycle, n.least, n.most,
           CASE WHEN n.relation IS NOT NULL THEN json_build_array(s.nspname, r.relname, n.attname, n.name) END)), '[]') AS sequences,
       (SELECT product::int8 FROM (SELECT current_setting('max_locks_per_transaction')::numeric
                                          * current_setting('max_connections')::numeric AS product) AS room) AS locks
FROM chosen c JOIN pg_sequence q ON q.seqrelid = c.oid LEFT JOIN narrowest n ON n.sequence = c.oid
LEFT JOIN pg_class r ON r.oid = n.relation LEFT JOIN pg_namespace s ON s.oid = r.relnamespace
"""
# A sequence that somebody holds or waits for in one of these modes would not be given before lock_timeout.
_LAST = """
WITH locked AS (
    SELECT DISTINCT relation FROM pg_locks
    WHERE %(careful)s AND locktype = 'relation' AND pid IS DISTINCT FROM pg_backend_pid()
      AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
)
SELECT coalesce(json_agg(json_build_array(
           s.oid::int8, l.relation IS NOT NULL, CASE WHEN l.relation IS NULL THEN pg_sequence_last_value(s.oid) END)), '[]') AS last
FROM unnest(%(sequences)s::oid[]) AS s (oid) JOIN pg_class c ON c.oid = s.oid LEFT JOIN locked l ON l.relation = s.oid
"""


@dataclass(frozen=True)
class SequenceFact:
    """One sequence as the catalogue has it.

    `least` and `most` bound the narrowest column that it feeds, `fed` is (schema, table, column, type); None where it feeds none.
    """

    oid: int
    schema: str
    sequence: str
    unlogged: bool
    readable: bool
    start: int
    increment: int
    min: int
    max: int
    cycles: bool
    least: int | None
    most: int | None
    fed: Sequence[str] | None

    @property
    def name(self) -> RelationName:
        """Its name."""
        return RelationName(self.schema, self.sequence)

    @property
    def own_end(self) -> int:
        """The last value that the sequence gives."""
        return self.max if self.increment > 0 else self.min

    @property
    def end(self) -> int:
        """The last value that it gives and that the column takes."""
        if self.least is None or self.most is None:
            return self.own_end
        return min(self.max, self.most) if self.increment > 0 else max(self.min, self.least)

    @property
    def endless(self) -> bool:
        """Whether it begins anew before any column is full."""
        return self.cycles and self.end == self.own_end

    def left(self, last: int | None) -> int:
        """Return how many values are left after `last`; None where none has been taken."""
        return max(0, (self.end - self.start) // self.increment + 1 if last is None else (self.end - last) // self.increment)

    def used(self, last: int | None) -> float:
        """Return the share of its values that is used up, in percent."""
        if not self.left(last):
            return 100.0
        span = abs(self.end - self.start)
        return 0.0 if last is None or not span else max(0.0, 100.0 * (last - self.start) / (self.end - self.start))


def _exhaustion(look: Look, limits: Limits) -> Iterable[Reading]:
    found = look.row(_SEQUENCES, scope(look))
    sequences = [SequenceFact(*row) for row in found["sequences"]]
    if not sequences:
        return skipped("there is no sequence in the system's schemas" if look.system.get("schemas") else "there is no sequence")
    counting = [each for each in sequences if not each.endless]
    here = [each for each in counting if not (each.unlogged and look.database.in_recovery)]
    asked = [each for each in here if each.readable]
    last, locked = _last(look, asked, min(MOST_LOCKS, max(1, found["locks"] // 4)))
    readings = _judged(limits, [each for each in asked if each.oid in last], last)
    readings += _hidden(look, [each for each in here if not each.readable])
    readings += [unknown(_locked(each), str(each.name)) for each in asked if each.oid in locked]
    left_out = [
        (len(sequences) - len(counting), "that begin anew (CYCLE)"),
        (len(counting) - len(here), "unlogged, which a standby does not have"),
    ]
    said = "; ".join(f"{count:,} left out {why}" for count, why in left_out if count)
    if said or not readings:
        well = f"{counted(len(last), 'sequence')} looked at"
        readings.append(Reading(f"{well}; {said}" if said else well, status=SKIPPED if counting and not here else OK))
    return readings


def _last(look: Look, sequences: Sequence[SequenceFact], at_once: int) -> tuple[Dict[int, int | None], List[int]]:
    """Return the last value by oid, None where none has been taken, and the sequences that are locked."""
    last: Dict[int, int | None] = {}
    locked: List[int] = []
    for begin in range(0, len(sequences), at_once):
        oids = [each.oid for each in sequences[begin : begin + at_once]]
        try:
            rows = look.row(_LAST, {"sequences": oids, "careful": False})["last"]
        except DatabaseError as error:
            # One that is dropped while the statement runs is not there when it runs again.
            if error.sqlstate not in (LOCK_NOT_AVAILABLE, GONE):
                raise
            rows = look.row(_LAST, {"sequences": oids, "careful": True})["last"]
        for oid, is_locked, value in rows:
            if is_locked:
                locked.append(oid)
            else:
                last[oid] = value
    return last, locked


def _judged(limits: Limits, sequences: Sequence[SequenceFact], last: Dict[int, int | None]) -> List[Reading]:
    """Return every sequence beyond a limit, and of the others those that are used most."""
    used = sorted(((each.used(last[each.oid]), each) for each in sequences), key=lambda pair: (-pair[0], str(pair[1].name)))
    bad = sum(judge(SEQUENCES, limits, percent)[0] != OK for percent, _sequence in used)
    return [_reading(percent, each, last[each.oid]) for percent, each in used[: max(bad, KEPT)]]


def _reading(percent: float, sequence: SequenceFact, last: int | None) -> Reading:
    left = counted(sequence.left(last), "value")
    where = f"to {sequence.end:,}"
    if sequence.fed and sequence.end != sequence.own_end:
        schema, table, column, kind = sequence.fed
        where += f", the end of {kind} in {RelationName(schema, table)}.{column}"
    # Never rounded up to all.
    share = f"{int(percent * 1000) / 1000:g} %"
    return Reading(f"{share} used, {left} left {where}", round(percent, 4), str(sequence.name), action=_action(sequence))


def _action(sequence: SequenceFact) -> str | None:
    """Return how this sequence gets more values, if that can be said."""
    steps, kind, note = [], sequence.fed[3] if sequence.fed else "bigint", ""
    if sequence.fed and kind != "bigint" and sequence.end in (sequence.least, sequence.most):
        schema, table, column, kind = *sequence.fed[:3], "bigint"
        steps.append(f"the column: ALTER TABLE {quoted(schema, table)} ALTER COLUMN {quoted(column)} TYPE bigint;")
        note = " The first rewrites the table under an exclusive lock: plan it, and widen the columns that refer to this one."
    if sequence.end == sequence.own_end and abs(sequence.own_end) < WIDEST:
        widest = "MAXVALUE" if sequence.increment > 0 else "MINVALUE"
        steps.append(f"the sequence: ALTER SEQUENCE {quoted(*sequence.name)} AS {kind} NO {widest};")
    return f"Before it is used up, as the owner, widen {' '.join(steps)}{note}" if steps else None


def _hidden(look: Look, hidden: Sequence[SequenceFact]) -> List[Reading]:
    """Return one reading a schema of the sequences that the role may not read."""
    by_schema: Dict[str, List[SequenceFact]] = {}
    for each in sorted(hidden, key=lambda one: one.name):
        by_schema.setdefault(each.schema, []).append(each)
    readings = []
    for schema, sequences in by_schema.items():
        listed = ", ".join(str(each.name) for each in sequences[:NAMED]) + (", ..." if len(sequences) > NAMED else "")
        exact = "SEQUENCE " + ", ".join(quoted(*each.name) for each in sequences)
        target = exact if len(sequences) <= NAMED else f"ALL SEQUENCES IN SCHEMA {quoted(schema)}"
        hint = f"As the owner: GRANT SELECT ON {target} TO {quoted(look.role)};"
        message = f"the role {look.role} may not see where {counted(len(sequences), 'sequence')} stand: {listed}"
        readings.append(unknown(Unseen(message, object_name=schema, hint=hint), schema))
    return readings


def _locked(sequence: SequenceFact) -> RunbookError:
    return DatabaseError("somebody holds or awaits a lock on the sequence", sqlstate=LOCK_NOT_AVAILABLE, object_name=str(sequence.name))


SEQUENCES = Check(
    id="seq.exhaustion",
    title="Used-up sequences",
    tier="daily",
    looks_at="Every sequence in the system's schemas (all schemas where no system is given): the way from its start to the last value "
    "that it gives and that the narrowest integer column takes which it feeds, as owner, identity or default. A descending one is "
    "measured downwards; one that begins anew (CYCLE) is left out. Sequences that the role may not read are unknown, in one finding "
    "a schema.",
    action="Widen the column and the sequence to bigint before the last value is given, or renumber.",
    needs="SELECT (or USAGE, which also draws numbers) on every sequence",
    run=_exhaustion,
    unit="percent",
    warning=70,
    critical=85,
)
CHECKS: List[Check] = [SEQUENCES]
