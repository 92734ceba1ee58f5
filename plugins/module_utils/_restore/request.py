# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a backup goes into a live database, what became of it, and how it is tried without anybody noticing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Tuple, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._restore.stream import Archive
from ansible_collections.pgops.runbook.plugins.module_utils._restore.tokens_back import StoreCount
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Request:
    """What of a backup goes where: `archive` and `manifest` are the backup's, `tables` those that are wanted, `stores` normalised.

    `keep_old`: tables that are replaced stay, under other names. `key` are the columns that tell rows apart, none for the primary key.
    """

    archive: Archive
    manifest: Mapping[str, Any]
    tables: Tuple[RelationName, ...]
    stores: Tuple[Mapping[str, Any], ...] = ()
    accept_tokens_back: bool = False
    keep_old: bool = True
    key: Tuple[str, ...] = ()
    tick: Tick | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of each table, and of the tokens in them. Each of `tables` has `as_result`."""

    tables: Tuple[Any, ...]
    tokens: Tuple[StoreCount, ...]


class _Rehearsed(Exception):
    """It went well, and is taken back."""


def rehearsed(database: Any, work: Callable[[], _Result]) -> _Result:
    """Do `work` in a transaction that may write, take it back and return its result. Raises what `work` raises."""
    results = []
    try:
        with database.transaction():
            database.execute("SET TRANSACTION READ WRITE")
            results.append(work())
            raise _Rehearsed
    except _Rehearsed:
        return results[0]
