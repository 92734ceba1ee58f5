# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room that tables and indexes take and do not need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._duration import format_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health import bloat_estimate
from ansible_collections.pgops.runbook.plugins.module_utils._health.bloat_estimate import GRANTED, LARGEST, MOST, Estimate
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    SKIPPED,
    WARNING,
    Check,
    Limits,
    Reading,
    Unseen,
    judge,
    skipped,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import extension_function, file_bytes
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

# Each is read where its pages are not all visible, which takes a while.
CONFIRMED = 3
# What is critical wastes so many times the least waste that is judged.
CRITICAL_TIMES = 5
ROWS_IN_REPORT = 25
METRICS = 20
NAMED = 5

_MEASURED = """
SELECT table_len::float8 AS length, (dead_tuple_len + approx_free_space)::float8 AS unused
FROM {}.pgstattuple_approx(%(oid)s::oid::regclass)
"""


class _Kind(NamedTuple):
    """What differs between tables and indexes."""

    noun: str
    plural: str
    estimate: Callable[[Look, float], List[Estimate]]
    hint: Callable[[Estimate], str]


def _rewrite(found: Estimate) -> str:
    table = quoted(found.row["nspname"], found.row["relname"])
    return (
        "Look first what kept VACUUM from reusing the room (xmin.horizon, vac.dead_overdue). Rows to come will fill it; to give it back: "
        f"VACUUM (FULL, ANALYZE) {table}; which locks the table for as long as it is rewritten, or pg_repack, which does not."
    )


def _rebuild(found: Estimate) -> str:
    index = quoted(found.row["nspname"], found.row["relname"])
    return f"As the owner: REINDEX INDEX CONCURRENTLY {index}; needs room for a second index meanwhile."


TABLE = _Kind("table", "tables", bloat_estimate.tables, _rewrite)
INDEX = _Kind("index", "indexes", bloat_estimate.indexes, _rebuild)


def _tables(look: Look, limits: Limits) -> Iterable[Reading]:
    return _bloat(look, TABLE_CHECK, limits, TABLE)


def _indexes(look: Look, limits: Limits) -> Iterable[Reading]:
    return _bloat(look, INDEX_CHECK, limits, INDEX)


def _bloat(look: Look, check: Check, limits: Limits, kind: _Kind) -> Iterable[Reading]:
    least = limits.minimum or 0
    estimates = _with_files(look, kind.estimate(look, least))
    judged = sorted((each for each in estimates if each.wasted is not None), key=lambda each: -(each.wasted or 0))
    wide = [each for each in judged if (each.wasted or 0) >= max(least, 1) and judge(check, limits, each.percent)[0] != OK]
    exact = _confirmed(look, wide[:CONFIRMED]) if kind is TABLE else {}
    _tell(look, kind, judged, exact)
    readings = [_reading(check, limits, kind, each, exact.get(each.row["oid"])) for each in wide]
    # What is smaller than the waste that is judged cannot waste that much.
    left_out = [each for each in estimates if each.wasted is None and each.bytes >= least]
    readings += [_never(each) for each in left_out if each.unanalysed]
    readings += _not_seen(kind, estimates, least)
    return [*readings, _summary(kind, estimates, judged, [each for each in left_out if not each.unanalysed])]


def _with_files(look: Look, estimates: Sequence[Estimate]) -> List[Estimate]:
    """Return the estimates with the size of those files that the server has never counted; one that is locked has size 0."""
    sizes = file_bytes(look, [each.row["oid"] for each in estimates if not each.row["relpages"]])
    return [each if each.row["relpages"] else each._replace(bytes=sizes.get(each.row["oid"]) or 0) for each in estimates]


def _confirmed(look: Look, estimates: Sequence[Estimate]) -> Dict[int, Estimate]:
    """Return what pgstattuple_approx measures of a few tables by oid, where the role may call it and it answers in time."""
    function = extension_function(look, "pgstattuple", "pgstattuple_approx", "regclass") if estimates else None
    if not function or not function["allowed"]:
        return {}
    statement = look.sql.SQL(_MEASURED).format(look.sql.Identifier(function["schema"]))
    found = {}
    for each in estimates:
        try:
            row = look.row(statement, {"oid": each.row["oid"]})
        except DatabaseError:
            if look.database.closed:
                raise
            continue
        reserved = row["length"] * (100 - (each.row["fillfactor"] or 100)) / 100
        found[each.row["oid"]] = each._replace(bytes=int(row["length"]), wasted=max(0, int(row["unused"] - reserved)), doubt="")
    return found


def _reading(check: Check, limits: Limits, kind: _Kind, estimate: Estimate, exact: Estimate | None) -> Reading:
    found = exact or estimate
    how = "measured by pgstattuple_approx" if exact else "an estimate by the widths of its columns"
    doubt = f" ({found.doubt})" if found.doubt else ""
    room = f"{format_size(found.wasted or 0)} of {format_size(found.bytes)}"
    toast = ", its TOAST table left out" if kind is TABLE else ""
    message = f"{found.percent:g} % is room that its rows do not need, {room}: {how}{doubt}{toast}"
    reading = Reading(message, found.percent, found.name, action=kind.hint(found))
    least, wasted = limits.minimum or 0, found.wasted or 0
    if wasted < least:
        return replace(reading, status=OK)
    if judge(check, limits, found.percent)[0] == CRITICAL and wasted < CRITICAL_TIMES * least:
        return replace(reading, status=WARNING if limits.warning is not None else OK)
    return reading


def _never(estimate: Estimate) -> Reading:
    row = estimate.row
    table = (row["table_schema"], row["table_name"]) if "table_name" in row else (row["nspname"], row["relname"])
    message = f"{format_size(estimate.bytes)}, and nothing can be said of them: {estimate.obstacle}"
    return unknown(Unseen(message, hint=f"As the owner: ANALYZE {quoted(*table)};"), estimate.name)


def _not_seen(kind: _Kind, estimates: Sequence[Estimate], least: float) -> List[Reading]:
    """Return a reading where there are more that could waste enough than are looked at."""
    worth = max((each.row["worth"] for each in estimates), default=0)
    seen = sum(each.bytes >= least or not each.row["relpages"] for each in estimates)
    if seen >= worth:
        return []
    message = f"{counted(worth - seen, kind.noun)} of {format_size(int(least))} or more not looked at: there are too many"
    hint = "Raise the minimum of the check, or look at each schema by itself; ANALYZE tables that were never counted."
    return [unknown(Unseen(message, hint=hint), f"{kind.plural} not seen")]


def _summary(kind: _Kind, estimates: Sequence[Estimate], judged: Sequence[Estimate], left_out: Sequence[Estimate]) -> Reading:
    total = max((each.row["total"] for each in estimates), default=0)
    if not judged and not left_out:
        return skipped(f"no {kind.noun} is large enough for an estimate")[0]
    seen = sum(bool(each.row["relpages"]) for each in estimates)
    which = f"the {seen} largest of {total} {kind.plural} of at least 1 MB" if total > seen else counted(len(judged), kind.noun)
    if total <= seen and len(judged) > 1:
        which = f"{len(judged)} {kind.plural}"
    wasted = sum(each.wasted or 0 for each in judged)
    listed = "; ".join(f"{each.name}: {each.obstacle}" for each in left_out[:NAMED])
    more = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    said = f". Not judged: {listed}{more}" if left_out else ""
    metrics: Dict[str, float | None] = {f"bloat.{kind.noun}_bytes": float(wasted)} if judged else {}
    metrics.update({f"bloat.{kind.noun}[{each.name}]": each.percent for each in judged[:METRICS]})
    message = f"{which} looked at, about {format_size(wasted)} that their rows do not need{said}"
    return Reading(message, status=OK if judged else SKIPPED, metrics=metrics)


def _tell(look: Look, kind: _Kind, judged: Sequence[Estimate], exact: Dict[int, Estimate]) -> None:
    rows = look.details.setdefault("bloat", [])
    for each in judged[:ROWS_IN_REPORT]:
        found = exact.get(each.row["oid"], each)
        if found.wasted:
            rows.append(_row(kind, found, each.row["oid"] in exact))


def _row(kind: _Kind, found: Estimate, measured: bool) -> Dict[str, Any]:
    return {
        "object": found.name,
        "kind": kind.noun,
        "bytes": found.bytes,
        "bloat_bytes": found.wasted,
        "bloat_pct": found.percent,
        "is_estimate": not measured,
        "reliable": not found.doubt,
        "why": "measured by pgstattuple_approx" if measured else found.doubt or "estimated by the widths of its columns",
    }


_NEEDS = "SELECT on the columns " + GRANTED + " of pg_catalog.pg_statistic"

TABLE_CHECK = Check(
    id="bloat.table",
    title="Room that tables do not need",
    tier="weekly",
    looks_at=f"The pages of the {LARGEST} largest tables and partitions of the system's schemas (all schemas where no system is given) and "
    f"of all that are as large as the minimum (where those are more than {MOST:,}, the rest is unknown), against those that "
    "their rows need by the widths of columns that ANALYZE has seen, fillfactor and padding counted, TOAST tables left out. It is an "
    "estimate; where the extension pgstattuple is installed and may be called, the three worst are measured by pgstattuple_approx. "
    "Critical from five times the minimum. A table with a column of the type name is not judged and said so; one that was "
    "never analysed is unknown.",
    action="Look what keeps VACUUM from reusing the room; give it back with VACUUM FULL, or pg_repack where the table may not be locked.",
    needs=_NEEDS,
    run=_tables,
    unit="percent",
    warning=30,
    critical=60,
    minimum=1 << 30,
    minimum_of="bytes that are not needed",
)
INDEX_CHECK = Check(
    id="bloat.index",
    title="Room that indexes do not need",
    tier="weekly",
    looks_at=f"The pages of the {LARGEST} largest btree indexes and of all that are as large as the minimum, against those that "
    "their entries need, as for tables. An index that stores equal keys once (PostgreSQL 13) may waste more than the "
    "estimate says. Indexes of other methods, on expressions and on "
    "columns of the type name are not judged and said. Critical from five times the minimum.",
    action="Rebuild the index with REINDEX INDEX CONCURRENTLY.",
    needs=_NEEDS,
    run=_indexes,
    unit="percent",
    warning=30,
    critical=60,
    minimum=1 << 30,
    minimum_of="bytes that are not needed",
)
CHECKS: List[Check] = [TABLE_CHECK, INDEX_CHECK]
