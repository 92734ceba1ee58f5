# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs at work while this process' one thread with a database session measures: they are started and judged in another thread.

The thread lives as long as the programs that it starts, which end with the thread.
"""

from __future__ import annotations

import threading
from typing import Callable, Generic, List, TypeVar

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import hear_of_ends
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

Result = TypeVar("Result")


class _Stopped(Exception):
    """The work is not wanted any more."""


class Beside(Generic[Result]):
    """`work`, in a thread of its own; leaving the block ends it. `work` calls the function that it gets often, which may raise."""

    def __init__(self, work: Callable[[Tick], Result]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._results: List[Result] = []
        self._errors: List[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside[Result]:
        hear_of_ends()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what the work has raised, if it has ended with that."""
        if self._errors:
            raise self._errors[0]

    def result(self, tick: Tick, every: float) -> Result:
        """Wait for the end of the work and return its result; `tick` is called each `every` seconds. Raises what the work raises."""
        while self._thread.is_alive():
            self._thread.join(every)
            self.check()
            tick()
        self.check()
        return self._results[0]

    def _tick(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _run(self) -> None:
        try:
            self._results.append(self._work(self._tick))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the other thread raises it
            self._errors.append(error)
