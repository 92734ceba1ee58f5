# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a backup compared with their hashes, beside what needs none of them: till that is over, nothing in them may be run."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._backup.beside import Beside
from ansible_collections.pgops.runbook.plugins.module_utils._backup.limits import Deadline
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import CHECKSUM, Verification
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verify import verify
from ansible_collections.pgops.runbook.plugins.module_utils._drill.finding import Finding
from ansible_collections.pgops.runbook.plugins.module_utils._errors import Refused
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

_EVERY = 1.0  # seconds between two looks at the time


class Fetching:
    """The look at the files of `backup`, in a thread of its own as long as the block lasts; what is wrong goes to `found`."""

    def __init__(self, found: Finding, backup: Backup, deadline: Deadline) -> None:
        self._found, self._backup, self._deadline = found, backup, deadline
        self._began = found.phases.passed
        self._work = Beside(self._verify)

    def __enter__(self) -> Fetching:
        # The first of the phases, also where another begins in the same moment.
        self._found.phases.add("fetch", self._began, 0.0)
        self._work.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._work.__exit__(*exception)

    def require_whole(self) -> None:
        """Wait for the end; more than once does no harm. Raises Refused where files are not those that were written, OutOfTime."""
        self._deadline.check()
        verdict = self._work.result(self._deadline.check, _EVERY)
        if not verdict.ok:
            self._found.broken = CHECKSUM
            raise Refused(
                f"the backup {self._backup.id} is broken: {verdict.message}",
                object_name=self._backup.id,
                hint="Nothing was restored. Take another one: pg_backup_info lists them.",
            )

    def _verify(self, tick: Tick) -> Verification:
        try:
            return verify(self._backup.path, self._backup.manifest, CHECKSUM, tick=tick)
        finally:
            self._found.phases.add("fetch", self._began, self._found.phases.passed - self._began)
