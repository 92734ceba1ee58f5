# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes views to where a watcher asked for them, at most once a second, and never fails the work because of it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._progress.folder import ProgressFile
from ansible_collections.pgops.runbook.plugins.module_utils._progress.job import JobStatus
from ansible_collections.pgops.runbook.plugins.module_utils._progress.view import ProgressView

_SECONDS_BETWEEN = 1.0


class Publisher:
    """Shows the views that it is called with in all `places`, each as far as it can be written to."""

    def __init__(self, places: Sequence[Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._next: float | None = None

    def __call__(self, view: ProgressView) -> None:
        now = self._clock()
        if self._next is not None and now < self._next:
            return
        self._next = now + _SECONDS_BETWEEN
        for place in self._places:
            _try(place.show, view.as_mapping())

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Take back what would look like work at hand."""
        for place in self._places:
            _try(place.close)
        self._places = ()


def publisher(operation: str, environment: Mapping[str, str] | None = None) -> Publisher:
    """Return what a module calls with its views; it looks for watchers once, now."""
    known = os.environ if environment is None else environment
    return Publisher([place for place in (ProgressFile.asked_for(known, operation), JobStatus.find(known)) if place is not None])


def _try(write: Callable[..., None], *arguments: Any) -> None:
    """Do it or leave it: a full disk, or a folder that its watcher has removed, is no reason to stop the work."""
    with contextlib.suppress(OSError, ValueError):
        write(*arguments)
