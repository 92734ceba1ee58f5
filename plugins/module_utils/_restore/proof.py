# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored backup, compared with its manifest, says of the backup: that it is whole, that it is not, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Compared
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import WITH_ROWS, Backup

_WHAT_IT_HOLDS = ("rows", "sequence_state", "large_objects")


@dataclass(frozen=True)
class Proof:
    """Whether the backup is `whole`, None where the restore says nothing of it; in words what differs, and what nothing was seen of."""

    whole: bool | None
    differences: List[str]
    unproven: List[str]

    @property
    def told(self) -> str | None:
        """What differs and what is not proven, in words; None where all is."""
        found = [*self.differences, *self.unproven]
        return faults_in_words(found) if found else None


def prove(compared: Compared, backup: Backup, *, same_major: bool) -> Proof:
    """Return what the comparison of the restored `backup` says of it. `same_major`: its server is of the source's major version.

    Where something was not compared, nothing is proven. A server of another major version may be what made a definition another one.
    """
    differences, lacking = compared.differences, unproven(compared, backup)
    blamed = same_major or any(one.kind in _WHAT_IT_HOLDS for one in differences)
    whole = None if lacking or (differences and not blamed) else not differences
    return Proof(whole, [one.message for one in differences], lacking)


def unproven(compared: Compared, backup: Backup) -> List[str]:
    """Return what should have been compared and was not, so that nothing shows that it came back."""
    untold = ["rows"] if backup.kind in WITH_ROWS and backup.manifest.get("tables") is None else []
    untold += ["objects"] if any(one["what"] == "structure" for one in compared.not_compared) else []
    lacking = [f"the backup does not say which {what} there were, so that nothing shows that they came back" for what in untold]
    # A dump does not carry the version of an extension; what is in it was compared.
    unseen = [f"{one['what']} {one['object']}: {one['why']}" for one in compared.unseen if one["what"] != "extension"]
    return [*lacking, *([f"not everything could be compared: {faults_in_words(unseen)}"] if unseen else [])]
