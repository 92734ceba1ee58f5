# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clean-up says in the end, in numbers that come from its statements; also when it did not get to its end."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import counting
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.dropping import kept_detached
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.pace import MAX_RUNTIME, THROTTLED, WINDOW
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.planned import Plan, PlannedRule
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.predicate import ARCHIVE, DROP
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.progress import DONE, LOCKED, VETOED, Progress
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.throttle import Throttle
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError

CHECK_MODE, ERROR, MAX_ROWS = "check_mode", "error", "max_rows"
_WORST = (ERROR, THROTTLED, WINDOW, MAX_RUNTIME, VETOED, LOCKED, DONE)
_SUMS = ("matched", "protected", "removed", "archived", "marked", "remaining")

# Commits do not wait for the disk one by one: what was done last is safe if the session can still say so.
_SAFE = ", which stay {what}"
_LOST = "; if the server crashed, the last of them may be back"

_NO_ROOM = ("53100", "58030")  # a disk that is full, and one that refuses to write
# A table or column, a function, a type, a schema that does not exist.
_NOT_FOUND = ("42P01", "42703", "42883", "42704", "3F000")


class Refused(RunbookError):
    """More rows would go than max_rows allows. The result holds the counts; nothing has changed."""

    def __init__(self, message: str, *, result: Mapping[str, Any], hint: str) -> None:
        super().__init__(message, object_name="max_rows", hint=hint)
        self.result = dict(result)

    def as_result(self) -> dict[str, Any]:
        """Add the keys of a result."""
        return {**super().as_result(), **self.result}


class Interrupted(DatabaseError):
    """The server refused a statement, or was lost, after the plan was made. The result says how far the run came."""

    def __init__(self, cause: DatabaseError, result: Mapping[str, Any], run: Progress, lasting: str) -> None:
        """`lasting` says, with `{what}` for what became of them, whether the rows that are done are done for good."""
        target = run.planned.target
        what = "removed" if target.removes else "marked"
        about = "about " if run.planned.estimated else ""
        planned = f"{about}{run.planned.to_remove} rows of this rule"
        came = f"{run.done} of {planned} were {what}, in {run.batches} batches{lasting.format(what=what)}"
        function = cause.context_function
        where = f", in {function}" if function else ""
        # The server does not always say which of the two it is about.
        tables = f"{target.relation.name}, archived to {target.archive.name}" if target.archive else str(target.relation.name)
        message = f"{target.path}: {tables}: {cause.message.rstrip('.')}{where} ({came})."
        hint = cause.hint or "Run it again when the cause is gone: it goes on where it stopped."
        if cause.sqlstate in _NO_ROOM:
            written = f"of {target.archive.name}, of the WAL" if target.archive else "of the WAL"
            hint = f"Make room on the disks {written} and of temporary files, then run it again: it goes on where it stopped."
        if function and cause.sqlstate in _NOT_FOUND:
            triggers = [*run.planned.triggers, *(target.archive.triggers if target.archive else ())]
            named = ", ".join(f'"{name}"' for name in triggers)
            hint = (
                "The search_path of this session is pinned, so that a trigger finds what it names without a schema in"
                f" {', '.join(run.search_path)} only: write the schema in that function, or give it SET search_path."
                f" The triggers of the table are {named or 'none, but those of tables that it cascades to fire too'}."
            )
        super().__init__(
            message,
            object_name=cause.object_name or str(target.relation.name),
            sqlstate=cause.sqlstate,
            hint=hint,
            context_function=function,
        )
        self.result = dict(result)

    def as_result(self) -> dict[str, Any]:
        """Add the keys of a result."""
        return {**super().as_result(), **self.result}


def preview(plan: Plan, stopped: str = CHECK_MODE) -> dict[str, Any]:
    """Return the result of check mode: what the run would do. With `stopped` "max_rows", of a refusal."""
    acts = stopped == CHECK_MODE
    rows = []
    for rule in plan.rules:
        done = rule.to_remove if acts else 0
        row = _rule(
            rule, done=done, archived=done, remaining=rule.to_remove - done, stopped=stopped, rows_left=_left(plan, rule, acts=acts)
        )
        rows.append({**row, "partitions": [str(due.name) for due in rule.target.due if due.free and acts]})
    return _result(plan, rows, stopped, None)


def outcome(database: Any, plan: Plan, progress: Sequence[Progress], throttle: Throttle, warnings: Sequence[str]) -> dict[str, Any]:
    """Return the result of a run that came to its end; counts the rows left in each table that lost some."""
    counted = _rows_after(database, progress)
    rows = []
    for run in progress:
        leaves = run.planned.target.relation.leaves
        known = run.planned.target.action != DROP and all(leaf.oid in counted for leaf in leaves)
        rows.append(_of_run(run, sum(counted[leaf.oid] for leaf in leaves) if known else None))
    result = _result(plan, rows, _worst(row["stopped"] for row in rows), throttle)
    return {**result, "warnings": [*result["warnings"], *_met(progress), *warnings]}


def _rows_after(database: Any, progress: Sequence[Progress]) -> dict[int, int]:
    """Return how many rows each leaf has after the run: what was counted since something last went, before anything did, or now.

    A large table is not read for that alone.
    """
    counted: dict[int, int] = {}
    unsure: set[int] = set()
    # Rows that went along by a cascade are in nobody's numbers.
    cascaded = any(run.done and not key.holds for run in progress for key in run.planned.foreign_keys)
    for run in progress:
        for leaf in run.planned.target.relation.leaves:
            if run.done_by_leaf.get(leaf.oid):
                counted.pop(leaf.oid, None)
            if leaf.oid in run.counted and not cascaded:
                counted[leaf.oid] = run.counted[leaf.oid]
        unsure |= run.planned.unsure
    counted = {oid: rows for oid, rows in counted.items() if oid not in unsure}
    counted.update({oid: 0 for run in progress for oid in run.dropped})
    lost = {oid for run in progress for oid, gone in run.done_by_leaf.items() if gone}
    for run in progress:
        if run.planned.target.action == DROP:
            continue
        missing = [leaf for leaf in run.planned.target.relation.leaves if leaf.oid not in counted and leaf.oid not in unsure]
        before = [leaf for leaf in missing if leaf.oid not in lost and not run.planned.estimated and not cascaded]
        counted.update({leaf.oid: run.planned.rows_before[leaf.oid] for leaf in before})
        asked = [leaf for leaf in missing if leaf not in before]
        found = counting.with_rows(database, run.planned.target, database.sql.SQL("false"), asked, joined=False)
        counted.update(found.rows)
    return counted


def broken_off(database: Any, plan: Plan, progress: Sequence[Progress], cause: DatabaseError, throttle: Throttle) -> Interrupted:
    """Return the error of a run that `cause` ended; nothing more is asked of the server, so the rows left are not known."""
    reached = {run.planned.target.index: run for run in progress}
    rows = [
        _of_run(reached[rule.target.index], None)
        if rule.target.index in reached
        else _rule(rule, done=0, archived=0, remaining=rule.to_remove, stopped=ERROR, rows_left=None)
        for rule in plan.rules
    ]
    result = _result(plan, rows, ERROR, throttle)
    whole = {**result, "warnings": [*result["warnings"], *_met(progress)]}
    return Interrupted(cause, whole, progress[-1], _LOST if database.closed else _SAFE)


def _met(progress: Sequence[Progress]) -> list[str]:
    return [warning for run in progress for warning in run.warnings]


def _of_run(run: Progress, rows_left: int | None) -> dict[str, Any]:
    stopped = run.stopped or ERROR
    row = _rule(run.planned, done=run.done, archived=run.archived, remaining=run.remaining, stopped=stopped, rows_left=rows_left)
    # The run has counted what the plan has not.
    counted = {"matched": run.done + run.remaining, "protected": 0} if run.planned.estimated else {}
    return {
        **row,
        **counted,
        "batches": run.batches,
        "skipped_locked": run.skipped_locked,
        "partitions": list(run.partitions),
        "bytes_freed": run.bytes_freed,
        "seconds": round(run.seconds + run.paused_seconds, 3),
        "paused_seconds": round(run.paused_seconds, 3),
        "rows_per_second": round(run.done / run.seconds) if run.done and run.seconds else None,
        "vacuumed": list(run.vacuumed),
    }


def _rule(rule: PlannedRule, *, done: int, archived: int, remaining: int, stopped: str, rows_left: int | None) -> dict[str, Any]:
    target = rule.target
    return {
        "name": target.name,
        "table": str(target.relation.name),
        "column": target.time.column.name,
        "action": target.action,
        "cutoff": str(target.cutoff),
        "matched": rule.matched,
        "protected": rule.protected,
        "removed": done if target.removes else 0,
        "archived": archived if target.action == ARCHIVE else 0,
        "marked": 0 if target.removes else done,
        "remaining": remaining,
        "rows_left": rows_left,
        "batches": 0,
        "skipped_locked": 0,
        "partitions": [],
        "bytes_freed": None,
        "seconds": 0.0,
        "paused_seconds": 0.0,
        "rows_per_second": None,
        "vacuumed": [],
        "stopped": stopped,
        "references": [key.as_result() for key in rule.foreign_keys],
        "triggers": list(rule.triggers),
    }


def _left(plan: Plan, rule: PlannedRule, *, acts: bool) -> int | None:
    """Return how many rows the table of `rule` will have after all rules, leaf by leaf; not where they were not counted."""
    leaves = rule.rows_before
    if rule.target.action == DROP or any(oid in other.unsure for other in plan.rules for oid in leaves):
        return None
    removing = [other for other in plan.rules if other.target.removes] if acts else []
    return sum(leaves.values()) - sum(other.removable.get(oid, 0) for other in removing for oid in leaves)


def _result(plan: Plan, rows: list[dict[str, Any]], stopped: str, throttle: Throttle | None) -> dict[str, Any]:
    """Return the whole result, with the rules as they were written."""
    order = [rule.target.index for rule in plan.rules]
    written = [row for _index, row in sorted(zip(order, rows), key=lambda pair: pair[0])]
    totals = {key: sum(row[key] for row in rows) for key in _SUMS}
    freed = [row["bytes_freed"] for row in rows if row["bytes_freed"] is not None]
    return {
        "changed": totals["removed"] + totals["marked"] > 0 or any(row["partitions"] for row in rows),
        **totals,
        "bytes_freed": sum(freed) if freed else None,
        "rules": written,
        "stopped": stopped,
        "as_of": str(plan.as_of),
        "throttle": {
            "paused_seconds": round(throttle.paused_seconds, 3) if throttle else 0.0,
            "reasons": list(throttle.reasons) if throttle else [],
            "unknown": list(throttle.unknown) if throttle else [],
        },
        "warnings": [warning for rule in plan.rules for warning in (*rule.warnings, *kept_detached(rule.target))],
    }


def _worst(stops: Any) -> str:
    found = set(stops)
    return next((stop for stop in _WORST if stop in found), DONE)
