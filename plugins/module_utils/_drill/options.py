# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill is asked to do, read and checked before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._backup.option_values import one_of
from ansible_collections.pgops.runbook.plugins.module_utils._backup.places import absolute_path, folder_of_backups
from ansible_collections.pgops.runbook.plugins.module_utils._drill.checks import request
from ansible_collections.pgops.runbook.plugins.module_utils._duration import time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._restore import options as _restoring

CLUSTER, DATABASE = PLACES = ("cluster", "database")
SCRATCH_FOLDER = "/var/tmp"
EVIDENCE = "drills"


@dataclass(frozen=True)
class Options:
    """A drill as asked for. `restore` says of which backup and how it is loaded; `rto` and `rpo` are seconds, None for no target."""

    restore: _restoring.Options
    evidence: Path
    place: str = CLUSTER
    scratch_folder: Path = Path(SCRATCH_FOLDER)
    server_bin_dir: str | None = None
    run_as: str | None = None
    checks: _health.Request | None = None
    rto: float | None = None
    rpo: float | None = None


def read_options(parameters: Mapping[str, Any], application_name: str) -> Options:
    """Return the options among a module's `parameters`. Raises InvalidValue and DescriptionError."""
    place = one_of(parameters, "in", PLACES, CLUSTER)
    if place == DATABASE:
        for option in ("server_bin_dir", "run_as"):
            if parameters.get(option):
                raise InvalidValue(f"{option}: in=database starts no server; leave it out, or use in=cluster", object_name=option)
    restore = _restoring.read_options({name: parameters.get(name) for name in _OF_RESTORE}, application_name)
    return Options(
        restore=restore,
        evidence=absolute_path(parameters, "evidence") or folder_of_backups(parameters) / EVIDENCE,
        place=place,
        scratch_folder=absolute_path(parameters, "scratch_folder") or Path(SCRATCH_FOLDER),
        server_bin_dir=parameters.get("server_bin_dir") or None,
        run_as=parameters.get("run_as") or None,
        checks=request(parameters.get("checks"), parameters.get("system") or None),
        rto=_target(parameters, "rto"),
        rpo=_target(parameters, "rpo"),
    )


_OF_RESTORE = (
    "folder", "backup", "source_database", "name", "jobs", "identity", "gpg_home", "scratch_folder", "max_runtime", "bin_dir",
)  # fmt: skip


def _target(parameters: Mapping[str, Any], option: str) -> float | None:
    value = parameters.get(option)
    return None if value in (None, "") else time_to_wait(value, option)
