# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a cache."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError


class CacheClientMissing(RunbookError):
    """The client library of Redis cannot be imported by the interpreter that runs the module, or is too old."""


class CacheError(RunbookError):
    """The cache could not be reached, or refused a command.

    `reason` is one word for what it was; `deleted` how many keys were gone by then, None where nothing was being deleted.
    """

    def __init__(self, message: str, *, reason: str, object_name: str, hint: str | None = None, deleted: int | None = None) -> None:
        super().__init__(message, object_name=object_name, hint=hint)
        self.reason = reason
        self.deleted = deleted

    def as_result(self) -> dict[str, Any]:
        """Add the reason, and how many keys were deleted before it failed."""
        told = {} if self.deleted is None else {"deleted": self.deleted}
        return {**super().as_result(), "reason": self.reason, **told}
