# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill has found so far, and whether that is enough to pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, List

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import as_results
from ansible_collections.pgops.runbook.plugins.module_utils._drill import checks
from ansible_collections.pgops.runbook.plugins.module_utils._drill.options import Options
from ansible_collections.pgops.runbook.plugins.module_utils._drill.phases import Phases
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._first_few import faults_in_words
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Compared
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._restore.proof import unproven
from ansible_collections.pgops.runbook.plugins.module_utils._targets import Measure, readable

MOST_DIFFERENCES = 100
CLOCKS_APART = 60.0  # seconds by which the clock of the source may be ahead of that of the drill


@dataclass
class Finding:
    """What is known of a drill that `began` then. `compared` stays None where it did not come to comparing.

    `same_major` says whether the server of the drill is of the major version of the source; `broken` is the level of verification by which
    the backup was found broken, which `error` says in words; `unwritten` why there is no evidence; `ended` when, in seconds, there was
    nothing left but to clear up.
    """

    options: Options
    began: datetime
    phases: Phases = field(default_factory=Phases)
    backup: Backup | None = None
    versions: Dict[str, str] = field(default_factory=dict)
    settings: Dict[str, str] = field(default_factory=dict)
    has_network: bool | None = None
    same_major: bool = True
    compared: Compared | None = None
    checks: List[Dict[str, Any]] = field(default_factory=list)
    notices: List[str] = field(default_factory=list)
    error: RunbookError | None = None
    broken: str | None = None
    ended: float | None = None
    unwritten: str | None = None

    @property
    def rto(self) -> Measure:
        """How long it took until the database could be used; unknown where it never could."""
        return Measure(self.phases.usable, self.options.rto)

    @property
    def rpo(self) -> Measure:
        """How old what was restored was when the drill began: what is younger would be lost. Unknown where clocks are too far apart."""
        return Measure(None if self._age is None or self._ahead else max(0.0, self._age), self.options.rpo)

    @property
    def _age(self) -> float | None:
        return None if self.backup is None else (self.began - self.backup.taken_at).total_seconds()

    @property
    def _ahead(self) -> List[str]:
        """A sentence where the snapshot is of a time that has not come, by the clock of this host."""
        if self.backup is None or self._age is None or self._age >= -CLOCKS_APART:
            return []
        ahead = readable(-self._age)
        return [f"the age of the backup is unknown: its snapshot is {ahead} ahead of this host, so that one of the clocks is wrong"]

    @property
    def unproven(self) -> List[str]:
        """What should have been compared and was not, so that nothing shows that it came back."""
        if self.compared is None or self.backup is None:
            return []
        return unproven(self.compared, self.backup)

    @property
    def _counted(self) -> bool:
        """Whether the rows of tables were compared."""
        return self.compared is not None and self.backup is not None and self.backup.manifest.get("tables") is not None

    @property
    def reasons(self) -> List[str]:
        """Why the drill does not pass, the gravest first; none where it does."""
        found = [self.error.message] if self.error else []
        if self.compared is not None and self.compared.differences:
            found.append(faults_in_words([one.message for one in self.compared.differences]))
        found += self.unproven
        found += checks.failed(self.checks)
        for measure, what in ((self.rto, "the recovery time"), (self.rpo, "the age of the newest backup that could be used")):
            missed = measure.missed(what)
            found += [missed] if missed else []
        found += self._ahead if self.options.rpo is not None else []
        return found + ([self.unwritten] if self.unwritten else [])

    @property
    def passed(self) -> bool:
        """Whether everything came back as it was, in time."""
        return self.compared is not None and not self.reasons

    def as_result(self) -> Dict[str, Any]:
        """Return what a result and the evidence say alike."""
        differences = self.compared.differences if self.compared else []
        manifest = self.backup.manifest if self.backup else {}
        return {
            "passed": self.passed,
            "reasons": self.reasons,
            "in": self.options.place,
            "began_at": self.began.isoformat(),
            "backup": self.backup.summary() if self.backup else None,
            "server_version": self.versions.get("server"),
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "has_network": self.has_network,
            "phases": self.phases.as_result(),
            "total_seconds": round(self.phases.passed, 3),
            "rto": self.rto.as_result(),
            "rpo": self.rpo.as_result(),
            "tables": self.compared.tables if self.compared and self._counted else None,
            "rows": self.compared.rows if self.compared and self._counted else None,
            "differences": as_results(differences[:MOST_DIFFERENCES]),
            "differences_total": len(differences) if self.compared else None,
            "not_compared": list(self.compared.not_compared) if self.compared else [],
            "left_out": list((manifest.get("coverage") or {}).get("left_out") or ()),
            "checks": list(self.checks),
            "warnings": [*self.notices, *self._ahead, *checks.unseen(self.checks)],
        }
