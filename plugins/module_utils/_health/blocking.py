# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits for whom: the sessions that wait for a lock, and at the root those who wait for nobody and hold them up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set, Tuple, Union

from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look

# The blockers of so many are asked for, of those first who have waited longest: each answer stops the lock manager for a moment.
ASKED = 200

# Only who waits for a lock is asked for, and the locks are read only where somebody does: everybody may see them, and those sessions of
# which the role sees nothing else as well. Since when is known from PostgreSQL 14 on (for a moment it is not); before, a wait is as long as
# the statement at most. Who waits for an advisory lock is queued by its own application.
WAITING = Fact(
    "waiting",
    """
WITH session AS MATERIALIZED (
    SELECT a.pid, a.datname, a.usename, a.application_name, a.state, a.backend_type, a.query_start, a.xact_start,
        coalesce(a.wait_event_type = 'Lock', false) AS waits,
        a.backend_type IS NULL AND a.usesysid IS NOT NULL AND a.datid IS NOT NULL AS hidden,
        CASE WHEN a.backend_type = 'parallel worker' THEN (to_jsonb(a) ->> 'leader_pid')::integer ELSE a.pid END AS client
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid()
), lock AS MATERIALIZED (
    SELECT l.*, CASE WHEN NOT l.granted THEN to_jsonb(l) END AS line
    FROM pg_locks l
    WHERE EXISTS (SELECT FROM session WHERE waits OR hidden)
        AND (NOT l.granted OR l.pid IS NULL OR l.locktype = 'tuple' OR l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock')
), waiter AS MATERIALIZED (
    SELECT s.pid, s.client, s.backend_type, q.locktype, q.mode,
        coalesce(q.database, t.database) AS database, coalesce(q.relation, t.relation) AS relation,
        extract(epoch FROM clock_timestamp() - CASE WHEN q.line -> 'waitstart' IS NULL THEN s.query_start
            ELSE coalesce((q.line ->> 'waitstart')::timestamptz, clock_timestamp()) END)::float8 AS seconds,
        q.line -> 'waitstart' IS NOT NULL AS exact
    FROM session s
    JOIN lock q ON q.pid = s.pid AND NOT q.granted
    LEFT JOIN LATERAL (
        SELECT t.relation, t.database FROM lock t WHERE t.pid = s.pid AND t.granted AND t.locktype = 'tuple' LIMIT 1
    ) t ON q.locktype = 'transactionid'
    WHERE (s.waits OR s.hidden) AND q.locktype <> 'advisory' AND s.client IS NOT NULL
), blocked AS MATERIALIZED (
    SELECT w.*, CASE WHEN row_number() OVER (ORDER BY w.seconds DESC NULLS FIRST, w.pid) <= 200 THEN pg_blocking_pids(w.pid) END AS blockers
    FROM waiter w
)
SELECT json_build_object(
    'advisory', (SELECT count(*) FROM lock q WHERE NOT q.granted AND q.locktype = 'advisory'),
    'waiters', (SELECT coalesce(json_agg(json_build_object(
        'pid', b.pid, 'client', b.client, 'counts', coalesce(b.backend_type IN ('client backend', 'parallel worker'), true),
        'type', b.locktype, 'mode', b.mode, 'seconds', b.seconds, 'exact', b.exact, 'blockers', b.blockers,
        'relation', CASE WHEN c.oid IS NOT NULL THEN quote_ident(n.nspname) || '.' || quote_ident(c.relname)
            WHEN b.relation IS NOT NULL THEN 'a relation of ' || coalesce(d.datname, 'the server') END)), '[]')
        FROM blocked b
        LEFT JOIN pg_database d ON d.oid = b.database
        LEFT JOIN pg_class c ON c.oid = b.relation AND (b.database = 0 OR d.datname = current_database())
        LEFT JOIN pg_namespace n ON n.oid = c.relnamespace),
    'blockers', (SELECT coalesce(json_agg(json_build_object(
        'pid', s.pid, 'database', s.datname, 'user', s.usename, 'application', s.application_name, 'state', s.state, 'what', s.backend_type,
        'seconds', extract(epoch FROM clock_timestamp() - s.xact_start)::float8,
        'exclusive', EXISTS (SELECT FROM lock h JOIN waiter w ON w.relation = h.relation AND w.database = h.database
            WHERE h.pid = s.pid AND h.granted AND h.locktype = 'relation' AND h.mode = 'AccessExclusiveLock'))), '[]')
        FROM session s WHERE s.pid IN (SELECT unnest(b.blockers) FROM blocked b)),
    'prepared', (SELECT coalesce(json_agg(json_build_object(
        'pid', b.pid, 'gid', p.gid, 'mode', h.mode, 'owner', p.owner, 'database', p.database,
        'seconds', extract(epoch FROM clock_timestamp() - p.prepared)::float8)), '[]')
        FROM blocked b
        JOIN lock q ON q.pid = b.pid AND NOT q.granted
        JOIN lock h ON h.pid IS NULL AND h.granted AND h.locktype = q.locktype
            AND (h.database, h.relation, h.page, h.tuple, h.transactionid::text, h.classid, h.objid, h.objsubid)
                IS NOT DISTINCT FROM (q.database, q.relation, q.page, q.tuple, q.transactionid::text, q.classid, q.objid, q.objsubid)
        JOIN lock x ON x.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = h.virtualtransaction
        JOIN pg_prepared_xacts p ON p.transaction::text = x.transactionid::text
        WHERE 0 = ANY (b.blockers)))
""",
)
_MODES = ("AccessShare", "RowShare", "RowExclusive", "ShareUpdateExclusive", "Share", "ShareRowExclusive", "Exclusive", "AccessExclusive")
# By the place of a mode: the places of those that it does not suffer beside it.
_CONFLICTS = ({7}, {6, 7}, {4, 5, 6, 7}, {3, 4, 5, 6, 7}, {2, 3, 5, 6, 7}, {2, 3, 4, 5, 6, 7}, {1, 2, 3, 4, 5, 6, 7}, set(range(8)))
_EXCLUSIVE = "AccessExclusiveLock"

# A session by its process, a prepared transaction by its gid.
Key = Union[int, str]


@dataclass
class Waiter:
    """A session that waits. `seconds` is None where the role may not see since when; `exact` is whether it is more than a bound.

    `counts` is whether it is a client's; `relation` the table, or None where it waits for something else (`type`).
    """

    type: str
    mode: str
    seconds: float | None
    exact: bool
    counts: bool
    relation: str | None
    blockers: Set[Key] = field(default_factory=set)

    @property
    def queued_exclusively(self) -> bool:
        """Whether it asks for a whole table, so that everybody behind it waits as well."""
        return self.mode == _EXCLUSIVE and self.type == "relation"


@dataclass(frozen=True)
class Root:
    """Somebody who waits for nobody and holds others up, and the clients among those, by process. `facts` say who it is.

    `ddl` is "held" where it has a whole table for itself, "queued" where one of those who wait wants to and makes others wait behind it.
    """

    facts: Mapping[str, Any]
    waiters: Mapping[int, Waiter]
    ddl: str | None

    @property
    def longest(self) -> float | None:
        """The seconds for which the first of them has waited."""
        return max((each.seconds for each in self.waiters.values() if each.seconds is not None), default=None)

    @property
    def locked(self) -> List[str]:
        """What they wait for."""
        return sorted({each.relation or each.type for each in self.waiters.values()})

    def waiting_for(self, seconds: float) -> int:
        """Return how many have waited for longer than that."""
        return sum(each.seconds is not None and each.seconds > seconds for each in self.waiters.values())


@dataclass(frozen=True)
class Blocking:
    """All who wait, by process, those who hold them up, worst first, and how many wait for advisory locks."""

    waiters: Mapping[int, Waiter]
    roots: Sequence[Root]
    advisory: int

    @property
    def clients(self) -> List[Waiter]:
        """The clients among those who wait."""
        return [each for each in self.waiters.values() if each.counts]


def blocking(look: Look) -> Blocking:
    """Return who waits for whom on the whole server."""
    facts = look.fact(WAITING)
    waiters = _waiters(facts)
    known: Dict[Key, Mapping[str, Any]] = {each["pid"]: each for each in facts["blockers"]}
    known.update({each["gid"]: each for each in facts["prepared"]})
    behind: Dict[Key, Set[int]] = {}
    for pid, waiter in waiters.items():
        for blocker in waiter.blockers:
            behind.setdefault(blocker, set()).add(pid)
    roots = [_root(known.get(key, {"pid": key}), key, behind, waiters) for key in behind if key not in waiters]
    found = sorted((root for root in roots if root.waiters), key=lambda root: (-(root.longest or 0.0), -len(root.waiters)))
    return Blocking(waiters, found, facts["advisory"])


def _waiters(facts: Mapping[str, Any]) -> Dict[int, Waiter]:
    """Return one entry a session: the workers of a parallel statement wait as one."""
    prepared: Dict[int, List[Mapping[str, Any]]] = {}
    for each in facts["prepared"]:
        prepared.setdefault(each["pid"], []).append(each)
    found: Dict[int, Waiter] = {}
    for row in facts["waiters"]:
        if row["blockers"] == []:
            continue  # it has got the lock meanwhile
        new = Waiter(row["type"], row["mode"], row["seconds"], row["exact"], row["counts"], row["relation"])
        waiter = found.setdefault(row["client"], new)
        waiter.seconds = max((each for each in (waiter.seconds, row["seconds"]) if each is not None), default=None)
        waiter.blockers.update(_keys(row, prepared.get(row["pid"], ())))
        waiter.blockers.discard(row["client"])
    return found


def _keys(row: Mapping[str, Any], prepared: Iterable[Mapping[str, Any]]) -> Iterable[Key]:
    """Yield who holds one session up; the process 0 is a prepared transaction."""
    for pid in set(row["blockers"] or ()):
        if pid:
            yield pid
            continue
        gids = [each["gid"] for each in prepared if _conflict(each["mode"], row["mode"])]
        yield from gids or ["(prepared)"]


def _conflict(held: str, wanted: str) -> bool:
    places: Tuple[int, ...] = tuple(_MODES.index(mode[: -len("Lock")]) for mode in (held, wanted) if mode[: -len("Lock")] in _MODES)
    return len(places) < 2 or places[0] in _CONFLICTS[places[1]]


def _root(facts: Mapping[str, Any], key: Key, behind: Mapping[Key, Set[int]], waiters: Mapping[int, Waiter]) -> Root:
    reached: Set[int] = set()
    ahead: List[Key] = [key]
    while ahead:
        new = behind.get(ahead.pop(), set()) - reached
        reached |= new
        ahead += new
    queued = any(waiters[pid].queued_exclusively and behind.get(pid) for pid in reached)
    ddl = "held" if facts.get("exclusive") else "queued" if queued else None
    return Root(facts, {pid: waiters[pid] for pid in sorted(reached) if waiters[pid].counts}, ddl)
