# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole database: restored under a hidden name, compared with the manifest, and only then given its name, or another one's.

Until the last transaction nothing but the hidden database exists that was not there before; whatever goes wrong, it is dropped, by this
run or, where that was killed, by the next.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._lock import release_lock
from ansible_collections.pgops.runbook.plugins.module_utils._restore import databases, refuse
from ansible_collections.pgops.runbook.plugins.module_utils._restore.disconnect import sending_away
from ansible_collections.pgops.runbook.plugins.module_utils._restore.hidden import (
    analyzing,
    compare,
    compare_till_different,
    fill,
    hidden_database,
    rehearse_settings,
    settle,
)
from ansible_collections.pgops.runbook.plugins.module_utils._restore.options import NEW
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Compared
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import check_files
from ansible_collections.pgops.runbook.plugins.module_utils._restore.run import OPERATION, Run
from ansible_collections.pgops.runbook.plugins.module_utils._restore.tokens_back import (
    StoreCount,
    read_stores,
    require_none_back,
    tokens_back,
)

RESTORED, SWAPPED, PRESENT = "restored", "swapped", "present"
_TRIES = 3  # to find the databases without sessions, for which the server waits five seconds each time
_IN_USE, _DUPLICATE = ("55006", "55P03"), "42P04"


@dataclass
class Plan:
    """What a run does. `present` is how the target compares where it holds what the backup holds, so that nothing is to be done.

    `replaces` says that the target is there and has to make room; `kept` is the name that it has then.
    """

    present: Compared | None
    replaces: bool
    leftovers: List[str]
    kept: str | None
    stores: Sequence[Mapping[str, Any]] = ()
    tokens: List[StoreCount] = field(default_factory=list)


def restore_whole(run: Run) -> Dict[str, Any]:
    """Restore into a new database or in the place of one, and return the result; in check mode only say what would be done.

    Raises Busy, Refused, MissingObject and InvalidValue before anything was made, RunbookError after it was dropped again.
    """
    if run.check_mode:
        plan = _plan(run)
        if plan.present is None:
            check_files(run.backup, run.tick)
        return _result(run, plan, plan.present)
    operation = f"{OPERATION} of {run.target}"
    databases.take_target(run.database, operation)
    try:
        plan = _plan(run)
        if plan.present is None:
            with run.phase("fetch"):
                check_files(run.backup, run.tick)
        plan.leftovers, complaints = databases.drop_leftovers(run.database, run.sessions)
        run.warnings += complaints
        compared = plan.present or _restore(run, plan)
        return _result(run, plan, compared)
    finally:
        release_lock(run.database, operation)


def _plan(run: Run) -> Plan:
    stores = read_stores(run.options.token_stores)
    refuse.check_version(run)
    refuse.check_backup(run)
    there = databases.exists(run.database, run.target)
    present = _present(run) if there else None
    if present is None:
        refuse.check_server(run)
        if there:
            refuse.check_target(run)
    replaces = there and present is None
    kept = databases.kept_name(run.target, datetime.now(timezone.utc)) if replaces else None
    return Plan(present, replaces, databases.leftovers(run.database, run.sessions), kept, stores)


def _present(run: Run) -> Compared | None:
    """Return how the target compares where it holds exactly what the backup holds, else None."""
    try:
        compared = compare_till_different(run, run.target)
    except (ConnectError, DatabaseError) as error:
        if run.database.closed:
            raise
        if run.options.mode == NEW:
            raise refuse.there_already(run, f"and cannot be compared with the backup: {error.message}") from None
        # That it cannot be read may be why it is restored.
        run.warnings.append(f"{run.target} could not be compared with the backup before: {error.message}")
        return None
    if compared.same:
        return compared
    if run.options.mode == NEW:
        raise refuse.there_already(run, _why_not_present(compared))
    return None


def _why_not_present(compared: Compared) -> str:
    if compared.differences:
        return f"and holds something else than the backup: {compared.differences[0].message}"
    if compared.unseen:
        first = compared.unseen[0]
        return f"and cannot be compared with the backup: {first['what']} {first['object']}: {first['why']}"
    return "and cannot be compared with the backup, which does not tell its contents"


def _restore(run: Run, plan: Plan) -> Compared:
    with hidden_database(run) as hidden:
        rehearse_settings(run, hidden.name)
        fill(run, hidden.name)
        with analyzing(run, hidden.name) if run.options.analyze else nullcontext():
            compared = compare(run, hidden.name)
            if compared.differences:
                raise refuse.different(run, compared.differences)
        run.warnings += [f"not compared: {one['what']} {one['object']}: {one['why']}" for one in compared.unseen]
        if plan.replaces and plan.stores:
            plan.tokens = _tokens_back(run, plan, run.target, hidden.name)
            require_none_back(plan.tokens, accepted=run.options.accept_tokens_back)
        run.deadline.check()
        with run.phase("publish"):
            _publish(run, hidden.name, plan)
        hidden.kept = True
    if plan.kept and plan.stores:
        _count_again(run, plan, plan.kept)
    if plan.kept and not run.options.keep_old:
        _drop_old(run, plan, plan.kept)
    return compared


def _tokens_back(run: Run, plan: Plan, before: str, after: str) -> List[StoreCount]:
    """Return how many tokens of each store the database `after` accepts and `before` does not; unknown where one cannot be read."""
    try:
        with run.phase("compare"), run.open(before) as live, run.open(after) as restored:
            return tokens_back(live, restored, plan.stores)
    except (ConnectError, DatabaseError) as error:
        if run.database.closed:
            raise
        why = f"the two databases cannot be compared: {error.message}"
        return [StoreCount(str(store["name"]), str(store["revoke"]["how"]), unknown=why) for store in plan.stores]


def _count_again(run: Run, plan: Plan, old: str) -> None:
    """Count what came back once nobody could revoke anything in the old database any more.

    Raises RunbookError where there is more than was known before, or nobody knows, unless it is accepted: by then nothing but a person
    takes the swap back, who must not overlook it.
    """
    known = {count.store: count for count in plan.tokens}
    plan.tokens = _tokens_back(run, plan, old, run.target)
    said = []
    for count in plan.tokens:
        before = known[count.store]
        if count.back > before.back:
            late = f"{count.back - before.back} tokens of store {count.store} were revoked in {old} in the last moments before the swap"
            said.append(f"{late} and are accepted again: revoke them again")
        elif count.unknown and not before.unknown:
            said.append(f"nobody knows whether tokens of store {count.store} were revoked just before the swap: {count.unknown}")
    if said and not run.options.accept_tokens_back:
        raise RunbookError(
            f"{run.target} is the backup now, and what it was is kept as {old}, but {'; '.join(said)}",
            object_name="token_stores",
            hint="Revoke before the application is let in; or rename the two databases back, stop the application and restore again.",
        )
    run.warnings += said


def _drop_old(run: Run, plan: Plan, name: str) -> None:
    try:
        databases.drop_database(run.database, run.sessions, name)
        plan.kept = None
    except DatabaseError as error:
        # The restored one has its name all the same.
        run.warnings.append(f"the old database {name} could not be dropped and is kept: {error.message}")


def _publish(run: Run, hidden: str, plan: Plan) -> None:
    """Give the hidden database its name, and the one that has it another, in one transaction."""
    with ExitStack() as stack:
        if plan.replaces and run.options.disconnect:
            stack.enter_context(sending_away(run.sessions, run.client, run.database.name, run.target))
        for number in range(_TRIES):
            try:
                _rename(run, hidden, plan)
                return
            except DatabaseError as error:
                if error.sqlstate == _DUPLICATE:
                    raise refuse.there_already(run, "since the restore began") from None
                if error.sqlstate not in _IN_USE or number == _TRIES - 1:
                    raise
            if plan.replaces:
                refuse.require_leaving(run)


def _rename(run: Run, hidden: str, plan: Plan) -> None:
    databases.terminate(run.database, hidden, all_roles=False)
    with run.database.transaction():
        if plan.kept:
            databases.rename(run.database, run.target, plan.kept)
        databases.rename(run.database, hidden, run.target)
        settle(run, run.target)


def _result(run: Run, plan: Plan, compared: Compared | None) -> Dict[str, Any]:
    action = PRESENT if plan.present else SWAPPED if plan.replaces else RESTORED
    return {
        "changed": plan.present is None or bool(plan.leftovers),
        "mode": run.options.mode,
        "action": action,
        "backup": run.backup.summary(),
        "target": run.target,
        "kept": None if run.check_mode and not run.options.keep_old else plan.kept,
        "tables": compared.tables if compared else len(run.manifest.get("tables") or ()),
        "rows": compared.rows if compared else sum(int(table["rows"]) for table in run.manifest.get("tables") or ()),
        "left_out": list((run.manifest.get("coverage") or {}).get("left_out") or ()),
        "not_compared": compared.not_compared if compared else [],
        "tokens_back": [count.as_result() for count in plan.tokens],
        "dropped": plan.leftovers,
        "seconds": {**run.seconds},
        "warnings": list(run.warnings),
    }
