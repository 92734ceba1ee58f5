# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: how far the ids of transactions and multixacts are from running out. They look at the whole server."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.horizon import CLOCK, HORIZON, holders
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import CRITICAL, OK, Check, Limits, Reading, judge

# Half of the ids lie ahead; the server stops giving new ones away three million before the end (one million before PostgreSQL 14).
IDS = 2**31
# Every database counts: one that takes no connections and template0 as well; but not one whose DROP was interrupted, which the server
# leaves out, too. From PostgreSQL 14 on a vacuum leaves out all else once an
# age is beyond the failsafe, which is never less than 105 percent of what autovacuum freezes at.
DATABASES = Fact(
    "frozen",
    """
SELECT json_build_object(
    'databases', (SELECT json_agg(json_build_object('name', d.datname, 'connects', d.datallowconn,
        'xid', age(d.datfrozenxid), 'mxid', mxid_age(d.datminmxid))) FROM pg_database d
        WHERE d.datconnlimit <> -2),
    'xid', json_build_object('freeze', current_setting('autovacuum_freeze_max_age')::bigint,
        'failsafe', current_setting('vacuum_failsafe_age', true)::bigint),
    'mxid', json_build_object('freeze', current_setting('autovacuum_multixact_freeze_max_age')::bigint,
        'failsafe', current_setting('vacuum_multixact_failsafe_age', true)::bigint))
""",
)
_OLDEST = {
    "xid": "SELECT oid::regclass, age(relfrozenxid) FROM pg_class WHERE relkind IN ('r', 'm', 't') ORDER BY 2 DESC LIMIT 10",
    "mxid": "SELECT oid::regclass, mxid_age(relminmxid) FROM pg_class WHERE relkind IN ('r', 'm', 't') ORDER BY 2 DESC LIMIT 10",
}
_FAILSAFE_LEAST = 1.05
_NAMED = 3


def _xid(look: Look, limits: Limits) -> Iterable[Reading]:
    return _age(look, limits, XID, "xid", "transaction ids")


def _mxid(look: Look, limits: Limits) -> Iterable[Reading]:
    return _age(look, limits, MXID, "mxid", "multixact ids")


def _age(look: Look, limits: Limits, check: Check, key: str, noun: str) -> Iterable[Reading]:
    facts = look.fact(DATABASES)
    databases = sorted(facts["databases"], key=lambda each: -each[key])
    oldest, settings = databases[0], facts[key]
    age, freeze = oldest[key], settings["freeze"]
    percent = age / IDS * 100
    message = f"{percent:.1f} % of the {noun} are in use, {age:,} since the oldest of {oldest['name']}"
    status = judge(check, limits, percent)[0]
    beyond = [each["name"] for each in databases[1:] if judge(check, limits, each[key] / IDS * 100)[0] != OK]
    if beyond:
        message += f"; {len(beyond)} more databases are beyond as well ({', '.join(beyond[:_NAMED])})"
    failsafe = None if settings["failsafe"] is None else max(settings["failsafe"], _FAILSAFE_LEAST * freeze)
    if failsafe is not None and age > failsafe:
        status, message = CRITICAL, f"{message}; beyond the failsafe of {failsafe:,.0f}: vacuums do nothing but freeze"
    elif age > freeze:
        message += f"; above the {freeze:,} at which autovacuum freezes, so it is at work or cannot finish"
    action = _action(oldest, key) if status != OK else None
    if status != OK or age > freeze:
        message += _held_by(look, age)
    return [Reading(message, percent, status=status, action=action)]


def _held_by(look: Look, age: int) -> str:
    """Return what the ids cannot be frozen for, where something that old is known."""
    try:
        found = look.seen(holders)
    except RunbookError:
        return ""  # xmin.horizon says why
    return f"; held back by {found[0].title}, {found[0].xids:,} transaction ids old" if found and found[0].xids * 2 > age else ""


def _action(oldest: Mapping[str, Any], key: str) -> str:
    if not oldest["connects"]:
        return f"No session can vacuum {oldest['name']}: let autovacuum do it, and end what xmin.horizon names."
    return f"End what xmin.horizon names, then in {oldest['name']}: VACUUM (FREEZE) the oldest tables, which are {_OLDEST[key]}."


_LOOKS_AT = (
    "as a share of 2^31, over all databases, also template0 and those that take no connections. "
    "The worst is named, with what holds it back where that is known, and whether autovacuum should be freezing already"
)
XID = Check(
    id="xid.age_pct",
    title="Transaction ids in use",
    tier="hourly",
    looks_at=f"The age of the oldest transaction id {_LOOKS_AT} (autovacuum_freeze_max_age).",
    action="End what xmin.horizon names, then VACUUM (FREEZE) the oldest tables of that database.",
    needs="nothing",
    run=_xid,
    facts=(DATABASES, HORIZON, CLOCK),
    unit="percent",
    warning=40,
    critical=60,
    decides={"critical": "also beyond vacuum_failsafe_age (PostgreSQL 14 and later)"},
)
MXID = Check(
    id="mxid.age_pct",
    title="Multixact ids in use",
    tier="hourly",
    looks_at=f"The age of the oldest multixact id {_LOOKS_AT} (autovacuum_multixact_freeze_max_age). How full the space of their "
    "members is no view tells.",
    action="End what xmin.horizon names, then VACUUM (FREEZE) the oldest tables of that database.",
    needs="nothing",
    run=_mxid,
    facts=(DATABASES, HORIZON, CLOCK),
    unit="percent",
    warning=40,
    critical=60,
    decides={"critical": "also beyond vacuum_multixact_failsafe_age (PostgreSQL 14 and later)"},
)
CHECKS: List[Check] = [XID, MXID]
