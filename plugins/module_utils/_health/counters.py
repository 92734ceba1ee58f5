# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server has counted of every table: read once, without the views over it, for all checks of tables.

The counters begin anew after a crash, an upgrade or a copy, and then say 0 of what they do not know. What VACUUM or ANALYZE wrote
into the catalogue stays: a table that has rows there, or bytes, and fewer in its counters has lost them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Set

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import LOCK_NOT_AVAILABLE, Reading, Unseen, skipped, unknown
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import scope
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted, moment
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

NAMED = 5
# Tables without any trace in catalogue and counters are measured: so many, the newest first.
MEASURED = 5000
# An estimate of the rows may lie above what was inserted by so much.
ESTIMATE = 0.9

# How the server counts and when autovacuum acts; which functions and columns this version has; whom a vacuum is at just now.
COUNTING = Fact(
    "counting",
    """SELECT jsonb_build_object(
        'settings', (SELECT jsonb_object_agg(s, current_setting(s, true)) FROM unnest(ARRAY['track_counts', 'autovacuum',
            'autovacuum_vacuum_threshold', 'autovacuum_vacuum_scale_factor', 'autovacuum_vacuum_max_threshold',
            'autovacuum_vacuum_insert_threshold', 'autovacuum_vacuum_insert_scale_factor']) AS s),
        'naptime', extract(epoch FROM current_setting('autovacuum_naptime')::interval),
        'has', (SELECT coalesce(jsonb_agg(proname), '[]') FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
                AND proname IN ('pg_stat_get_ins_since_vacuum', 'pg_stat_get_tuples_newpage_updated'))
            || (SELECT coalesce(jsonb_agg(attname), '[]') FROM pg_attribute
                WHERE attrelid = 'pg_class'::regclass AND attname = 'relallfrozen'),
        'since', (SELECT greatest(d.stats_reset, b.stats_reset)::text FROM pg_stat_database d, pg_stat_bgwriter b
                  WHERE d.datname = current_database()),
        'since_epoch', (SELECT extract(epoch FROM greatest(d.stats_reset, b.stats_reset)) FROM pg_stat_database d, pg_stat_bgwriter b
                        WHERE d.datname = current_database()),
        'vacuuming', (SELECT coalesce(jsonb_agg(relid::int8), '[]') FROM pg_stat_progress_vacuum
                      WHERE datname = current_database() AND relid IS NOT NULL))""",
)

_RELATIONS = """
WITH chosen AS MATERIALIZED (
    SELECT c.oid, c.oid AS main, n.nspname, c.relname, c.relkind, c.reltuples, c.relpages, {frozen} AS frozen, c.reloptions AS options,
           false AS inherits, c.reltoastrelid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
      AND CASE WHEN %(all)s THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = ANY (%(schemas)s::text[]) END
),
member AS (
    SELECT * FROM chosen
    UNION ALL
    -- Autovacuum takes the options of the table where its TOAST table has none of its own.
    SELECT c.oid, m.oid, m.nspname, m.relname, c.relkind, c.reltuples, c.relpages, {frozen},
           coalesce(c.reloptions, m.options), c.reloptions IS NULL, 0
    FROM chosen m JOIN pg_class c ON c.oid = m.reltoastrelid
    WHERE c.relkind = 't' AND (c.reltuples > 0 OR c.reloptions IS NOT NULL OR pg_stat_get_tuples_inserted(c.oid) > 0
                               OR pg_stat_get_dead_tuples(c.oid) > 0)
)
SELECT coalesce(json_agg(json_build_array(
    c.oid::int8, c.main::int8, c.nspname, c.relname, c.relkind, c.reltuples::float8, c.relpages, c.frozen, c.options, c.inherits,
    pg_stat_get_dead_tuples(c.oid), pg_stat_get_live_tuples(c.oid), pg_stat_get_tuples_inserted(c.oid), {new_rows},
    pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_hot_updated(c.oid), {new_pages},
    pg_stat_get_numscans(c.oid), pg_stat_get_tuples_returned(c.oid),
    extract(epoch FROM greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid))),
    extract(epoch FROM greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)))
)), '[]') AS relations FROM member c
"""
_HOLDING = """
WITH locked AS (
    SELECT DISTINCT relation FROM pg_locks
    WHERE %(careful)s AND locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
)
SELECT coalesce(json_agg(r.oid::int8), '[]') AS holding
FROM unnest(%(relations)s::oid[]) AS r (oid) LEFT JOIN locked l ON l.relation = r.oid
WHERE CASE WHEN l.relation IS NULL THEN pg_relation_size(r.oid) > 0 END
"""


class Relation(NamedTuple):
    """A table, materialised view or TOAST table (`kind` r, m or t) with its counters; the names are those of the table itself.

    `rows_estimate` is what VACUUM or ANALYZE counted last (0 or -1: perhaps never), `frozen` pages are None before PostgreSQL 18,
    `options` its storage parameters as `name=value`; a TOAST table that `inherits` has those of its table. `new_rows` came since the
    last VACUUM, `new_pages` counts updates that took the row to another page; None where this version does not count them.
    `vacuumed` and `analyzed` are seconds since 1970, or None.
    """

    oid: int
    main: int
    schema: str
    table: str
    kind: str
    rows_estimate: float
    pages: int
    frozen: int | None
    options: Sequence[str] | None
    inherits: bool
    dead: int
    live: int
    inserted: int
    new_rows: int | None
    updated: int
    hot: int
    new_pages: int | None
    scans: int
    scanned: int
    vacuumed: float | None
    analyzed: float | None

    @property
    def name(self) -> str:
        """How findings name it."""
        return str(RelationName(self.schema, self.table)) + (" (TOAST)" if self.kind == "t" else "")

    @property
    def target(self) -> str:
        """The table as a statement to copy names it."""
        return quoted(self.schema, self.table)

    @property
    def rows(self) -> int:
        """The rows that it has, as far as anything has counted them."""
        return max(round(self.rows_estimate), self.live, 0)

    @property
    def seen(self) -> float | None:
        """When VACUUM or ANALYZE last looked at it."""
        return max((time for time in (self.vacuumed, self.analyzed) if time is not None), default=None)

    @property
    def traceless(self) -> bool:
        """Whether nothing at all is known of it: it is empty, or nobody has ever counted it."""
        return self.rows_estimate <= 0 and not self.pages and not self.inserted and self.seen is None

    def option(self, name: str) -> str | None:
        """Return a storage parameter of its own."""
        found = [text.partition("=")[2] for text in self.options or () if text.partition("=")[0] == name]
        return found[0] if found else None


@dataclass
class Counters:
    """The relations with their counters, how the server counts, and the oids of those whose counters were lost.

    `naptime` is after how many seconds autovacuum looks again.
    """

    relations: Sequence[Relation]
    settings: Mapping[str, Any]
    since: str | None
    since_epoch: float | None
    vacuuming: Set[int]
    naptime: float
    lost: Set[int] = field(default_factory=set)
    told: bool = False

    @property
    def tables(self) -> List[Relation]:
        """Tables and materialised views."""
        return [relation for relation in self.relations if relation.kind != "t"]

    @property
    def known(self) -> List[Relation]:
        """Tables whose counters tell the truth."""
        return [relation for relation in self.tables if relation.oid not in self.lost]

    @property
    def window(self) -> str:
        """Since when the counters count, as a message ends."""
        return f" since {moment(self.since)}" if self.since else ""

    def unknown(self) -> List[Reading]:
        """Return the reading of the tables whose counters were lost, if any; a second check that says so is no finding of its own."""
        if not self.lost:
            return []
        lost: Dict[int, Relation] = {relation.main: relation for relation in self.relations if relation.oid in self.lost}
        names = sorted(str(RelationName(each.schema, each.table)) for each in lost.values())
        listed = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
        were = f"{counted(len(lost), 'table')} were lost or never kept"
        targets = ", ".join(sorted(each.target for each in lost.values()))
        hint = f"As their owner: ANALYZE {targets};" if len(lost) <= NAMED else "As their owner: ANALYZE;"
        if any(relation.kind == "t" and relation.oid in self.lost for relation in self.relations):
            hint = hint.replace("ANALYZE", "VACUUM (ANALYZE)")
        return self._tell(RunbookError(f"the counters of {were}, as by a crash, an upgrade or a copy: {listed}", hint=hint))

    def uncounted(self) -> List[Reading]:
        """Return the reading of a server that counts nothing."""
        hint = "As a superuser: ALTER SYSTEM SET track_counts = on; then reload. Autovacuum does not work without it either."
        return self._tell(Unseen("the server does not count rows (track_counts is off)", hint=hint))

    def _tell(self, error: RunbookError) -> List[Reading]:
        reading = replace(unknown(error), told=self.told)
        self.told = True
        return [reading]


def read_counters(look: Look) -> Counters:
    """Return the counters of all tables in the system's schemas, or of the database; for `Look.seen`."""
    facts, sql = look.fact(COUNTING), look.sql
    has = set(facts["has"])
    statement = sql.SQL(_RELATIONS).format(
        frozen=sql.SQL("c.relallfrozen" if "relallfrozen" in has else "NULL::int"),
        new_rows=sql.SQL("pg_stat_get_ins_since_vacuum(c.oid)" if "pg_stat_get_ins_since_vacuum" in has else "NULL"),
        new_pages=sql.SQL("pg_stat_get_tuples_newpage_updated(c.oid)" if "pg_stat_get_tuples_newpage_updated" in has else "NULL"),
    )
    relations = [Relation._make(row) for row in look.row(statement, scope(look))["relations"]]
    counters = Counters(relations, facts["settings"], facts["since"], facts["since_epoch"], set(facts["vacuuming"]), facts["naptime"])
    if not look.database.in_recovery:
        counters.lost.update(relation.oid for relation in relations if _lost(relation))
        counters.lost.update(_holding(look, [relation.oid for relation in relations if relation.kind != "t" and relation.traceless]))
    return counters


def _lost(relation: Relation) -> bool:
    """Return whether rows were counted once that the counters know nothing of."""
    return relation.seen is None and relation.inserted < ESTIMATE * relation.rows_estimate


def _holding(look: Look, oids: Sequence[int]) -> List[int]:
    """Return those that hold something. One that is locked is left for the next run."""
    chosen = sorted(oids, reverse=True)[:MEASURED]
    if not chosen:
        return []
    found: List[int]
    try:
        found = look.row(_HOLDING, {"relations": chosen, "careful": False})["holding"]
    except DatabaseError as error:
        if error.sqlstate != LOCK_NOT_AVAILABLE:
            raise
        found = look.row(_HOLDING, {"relations": chosen, "careful": True})["holding"]
    return found


def with_counters(look: Look, what: str, read: Callable[[Counters], List[Reading]]) -> List[Reading]:
    """Return what `read` makes of the counters, with what they do not know; `what` a standby does not count."""
    if look.database.in_recovery:
        return skipped(f"a standby does not count {what}: ask the primary")
    counters = look.seen(read_counters)
    if not counters.tables:
        return skipped("there is no table in the system's schemas" if look.system else "there is no table")
    if counters.settings["track_counts"] != "on":
        return counters.uncounted()
    return read(counters) + counters.unknown()
