# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which option an error is about, put into its message."""

from __future__ import annotations

from typing import Any, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName

_LOCK_TIMEOUT = "55P03"


class At:
    """Puts the path of an option in front of the message of an error that does not say it.

    The server does not say for which of the tables that are read a lock was waited for.
    """

    def __init__(self, path: str, reads: Sequence[RelationName] = ()) -> None:
        self.path, self.reads = path, reads

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: Any, _trace: Any) -> None:
        if isinstance(error, DatabaseError) and error.sqlstate == _LOCK_TIMEOUT and self.reads and not error.object_name:
            error.object_name = str(self.reads[0])
            _put(error, f"{error.message} while reading {', '.join(map(str, self.reads))}")
        if isinstance(error, (MissingObject, InvalidValue, DatabaseError)) and not error.message.startswith(self.path):
            _put(error, f"{self.path}: {error.message}")


def _put(error: RunbookError, message: str) -> None:
    error.message = message
    error.args = (message,)
