# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clean-up says in the end, in numbers that come from its statements; also when it did not get to its end."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._cleanup import predicate
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.apply import DONE, LOCKED, MAX_RUNTIME, VETOED, Progress
from ansible_collections.pgops.runbook.plugins.module_utils._cleanup.plan import Plan, PlannedRule
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, RunbookError

CHECK_MODE, ERROR, MAX_ROWS = "check_mode", "error", "max_rows"
_WORST = (ERROR, MAX_RUNTIME, VETOED, LOCKED, DONE)


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

    def __init__(self, cause: DatabaseError, result: Mapping[str, Any], run: Progress) -> None:
        target = run.planned.target
        came = f"{run.removed} of {run.planned.to_remove} rows of this rule were removed, in {run.batches} batches"
        function = cause.context_function
        where = f", in {function}" if function else ""
        message = f"{target.path}: {target.relation.name}: {cause.message.rstrip('.')}{where} ({came}, which stay removed)."
        hint = cause.hint or "Run it again when the cause is gone: it goes on where it stopped."
        if function and cause.sqlstate in _NOT_FOUND:
            named = ", ".join(f'"{name}"' for name in run.planned.triggers)
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
    """Return the result of check mode: `removed` is what the run would remove. With `stopped` "max_rows", of a refusal."""
    rows = []
    for rule in plan.rules:
        removed = rule.to_remove if stopped == CHECK_MODE else 0
        rows_left = _left(plan, rule, acts=stopped == CHECK_MODE)
        rows.append(_rule(rule, removed=removed, remaining=rule.to_remove - removed, stopped=stopped, rows_left=rows_left))
    return _result(plan, rows, stopped)


def outcome(database: Any, plan: Plan, progress: Sequence[Progress]) -> dict[str, Any]:
    """Return the result of a run that came to its end; counts the rows left in each table that lost some."""
    touched = {oid for run in progress for oid, gone in run.removed_by_leaf.items() if gone}
    counted: dict[int, int] = {}
    rows = []
    for run in progress:
        for leaf in run.planned.target.relation.leaves:
            if leaf.oid not in counted:
                again = leaf.oid in touched
                found = predicate.count_by_leaf(database, run.planned.target.relation, leaves=[leaf]) if again else run.planned.rows_before
                counted[leaf.oid] = found[leaf.oid]
        rows.append(_of_run(run, sum(counted[leaf.oid] for leaf in run.planned.target.relation.leaves)))
    return _result(plan, rows, _worst(row["stopped"] for row in rows))


def broken_off(plan: Plan, progress: Sequence[Progress], cause: DatabaseError) -> Interrupted:
    """Return the error of a run that `cause` ended; nothing more is asked of the server, so the rows left are not known."""
    reached = {run.planned.target.index: run for run in progress}
    rows = [
        _of_run(reached[rule.target.index], None)
        if rule.target.index in reached
        else _rule(rule, removed=0, remaining=rule.to_remove, stopped=ERROR, rows_left=None)
        for rule in plan.rules
    ]
    return Interrupted(cause, _result(plan, rows, ERROR), progress[-1])


def _of_run(run: Progress, rows_left: int | None) -> dict[str, Any]:
    row = _rule(run.planned, removed=run.removed, remaining=run.remaining, stopped=run.stopped or ERROR, rows_left=rows_left)
    return {**row, "batches": run.batches, "skipped_locked": run.skipped_locked, "seconds": round(run.seconds, 3)}


def _rule(rule: PlannedRule, *, removed: int, remaining: int, stopped: str, rows_left: int | None) -> dict[str, Any]:
    target = rule.target
    return {
        "name": target.name,
        "table": str(target.relation.name),
        "column": target.time.column.name,
        "cutoff": str(target.cutoff),
        "matched": rule.matched,
        "protected": rule.protected,
        "removed": removed,
        "remaining": remaining,
        "rows_left": rows_left,
        "batches": 0,
        "skipped_locked": 0,
        "seconds": 0.0,
        "stopped": stopped,
        "references": [key.as_result() for key in rule.foreign_keys],
        "triggers": list(rule.triggers),
    }


def _left(plan: Plan, rule: PlannedRule, *, acts: bool) -> int:
    """Return how many rows the table of `rule` will have after all rules, leaf by leaf."""
    leaves = rule.rows_before
    going = sum(other.removable.get(oid, 0) for other in plan.rules for oid in leaves) if acts else 0
    return sum(leaves.values()) - going


def _result(plan: Plan, rows: list[dict[str, Any]], stopped: str) -> dict[str, Any]:
    """Return the whole result, with the rules as they were written."""
    order = [rule.target.index for rule in plan.rules]
    written = [row for _index, row in sorted(zip(order, rows), key=lambda pair: pair[0])]
    totals = {key: sum(row[key] for row in rows) for key in ("removed", "matched", "protected", "remaining")}
    return {"changed": totals["removed"] > 0, **totals, "rules": written, "stopped": stopped, "as_of": str(plan.as_of)}


def _worst(stops: Any) -> str:
    found = set(stops)
    return next((stop for stop in _WORST if stop in found), DONE)
