# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of a drill: one sealed JSON file for each, for whoever asks later whether the backups could be restored."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import sealed, write_document
from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import account_name
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

FORMAT = "pgops.drill/1"
_TIME = "%Y%m%dT%H%M%SZ"


def prepare(folder: Path) -> None:
    """Make the folder of the evidence, for its owner alone, and see that it can be written to. Raises InvalidValue.

    A drill without evidence would be for nothing, so that this comes before everything else.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(str(folder), os.W_OK | os.X_OK):
            raise PermissionError(0, "this account may not write there")
    except OSError as error:
        raise _refused(folder, error) from None


def write(folder: Path, began: datetime, document: Mapping[str, Any]) -> str:
    """Write the evidence of a drill that `began` then, whole or not at all, and return its path. Raises InvalidValue."""
    path = folder / f"drill.{began.astimezone(timezone.utc).strftime(_TIME)}.{secrets.token_hex(3)}.json"
    try:
        write_document(path, sealed({"format": FORMAT, **document}))
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(f".{path.name}.new").unlink()
        raise _refused(folder, error) from None
    return str(path)


def who(environment: Mapping[str, str]) -> Dict[str, Any]:
    """Return who lets the drill happen: the account, whoever became it, the host, and the job of AWX where there is one."""
    return {
        "user": account_name(os.geteuid()),
        "on_behalf_of": environment.get("SUDO_USER") or None,
        "host": socket.gethostname(),
        "job": environment.get("JOB_ID") or environment.get("AWX_JOB_ID") or None,
    }


def _refused(folder: Path, error: OSError) -> InvalidValue:
    return InvalidValue(
        f"evidence: {folder} cannot be written to: {error.strerror}",
        object_name="evidence",
        hint="Name a folder that the account which runs the module may write to.",
    )
