# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill from its options to its evidence. Whatever goes wrong on the way, what it made is gone and what it found is written down."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from ansible_collections.pgops.runbook.plugins.module_utils._drill import evidence
from ansible_collections.pgops.runbook.plugins.module_utils._drill.finding import Finding
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import CLUSTER, Options
from ansible_collections.pgops.runbook.plugins.module_utils._drill.place import Place, scratch_place
from ansible_collections.pgops.runbook.plugins.module_utils._drill.plan import choose, plan
from ansible_collections.pgops.runbook.plugins.module_utils._drill.rehearsal import rehearse
from ansible_collections.pgops.runbook.plugins.module_utils._drill.verdict import record
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._progress import Watch, unwatched
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup

OPERATION = "pg_recovery_drill"


class DrillFailed(RunbookError):
    """The drill has not passed. `result` is what the module returns all the same."""

    def __init__(self, message: str, result: Dict[str, Any], *, object_name: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, object_name=object_name, hint=hint)
        self.result = result

    def as_result(self) -> Dict[str, Any]:
        """Add what was found."""
        return {**self.result, **super().as_result()}


def drill(login: ConnectionOptions, options: Options, *, check_mode: bool, watch: Watch = unwatched) -> Dict[str, Any]:
    """Rehearse a recovery and return the result; in check mode only say what would be restored, and whether there is room.

    `watch` is called with a view of how far it is, about once a second. Raises DrillFailed where it does not pass; InvalidValue where
    the evidence could not be written, before anything else.
    """
    if check_mode:
        return plan(options)
    _require_folder(options)
    evidence.prepare(options.evidence)
    found = Finding(options, datetime.now(timezone.utc))
    try:
        found.backup = choose(options, found.notices)
        _rehearse(login, found, found.backup, watch)
    except RunbookError as error:
        found.error = error
    except OSError as error:
        found.error = RunbookError(f"the drill broke off: {error}")
    record(found)
    document = {"who": evidence.who(os.environ), "ended_at": datetime.now(timezone.utc).isoformat(), **found.as_result()}
    written = None
    try:
        written = evidence.write(options.evidence, found.began, document)
    except InvalidValue as error:
        # What was found is told all the same; without evidence nothing is proven.
        found.unwritten = error.message
    result = {"changed": True, **found.as_result(), "evidence": written}
    if not found.passed:
        raise DrillFailed(
            f"the drill has not passed: {found.reasons[0]}",
            result,
            object_name=found.error.object_name if found.error else None,
            hint=found.error.hint if found.error else None,
        )
    return result


def _require_folder(options: Options) -> None:
    """Refuse a folder that is mistyped, which the folder of the evidence in it would otherwise make."""
    folder = Path(str(options.restore.folder))
    try:
        there = folder.is_dir()
    except OSError:
        there = False
    if not there:
        raise InvalidValue(f"folder: {folder} is not there, or is no folder that this account can enter", object_name="folder")


def _rehearse(login: ConnectionOptions, found: Finding, backup: Backup, watch: Watch) -> None:
    """Restore in the place that was asked for, and clear up, however it ends."""
    place: Place = Place(login)
    try:
        with ExitStack() as stack:
            if found.options.place == CLUSTER:
                place = stack.enter_context(scratch_place(found.options, backup))
            rehearse(place, found, backup, watch)
    finally:
        found.notices += place.notices
        if found.ended is not None:
            found.phases.add("cleanup", found.ended, found.phases.passed - found.ended)
