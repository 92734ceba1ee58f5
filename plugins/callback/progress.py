# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the long runs are, while they run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Shows how far long tasks are while they run
version_added: 0.1.0
description:
  - Shows table, percentage, rows per second and time left of the modules of this collection that work for long, such as
    M(pgops.runbook.pg_cleanup), while they work.
  - On a terminal, one line per host below the output. It is rewritten in place and goes when the task ends.
  - Anywhere else, such as in a log of a pipeline or of AWX, a line per host every O(interval) seconds.
  - Of several hosts, those that will take the longest are shown.
  - The modules can be watched where they run on the control node, with C(ansible_connection=local). Elsewhere, give the task
    C(async) and C(poll), and every poll brings the news. The result of M(ansible.builtin.async_status) has them in the key
    C(progress) in any case, as long as the task runs on Linux. Without either, C(application_name) in C(pg_stat_activity) shows the same.
  - Tasks with C(no_log) are not shown.
options:
  view:
    description:
      - V(terminal) rewrites lines in place, V(log) adds lines, V(auto) chooses by what the output goes to.
    type: str
    choices: [auto, terminal, log]
    default: auto
    env:
      - name: PGOPS_RUNBOOK_PROGRESS_VIEW
    ini:
      - section: callback_pgops_progress
        key: view
  interval:
    description:
      - After how many seconds a log gets another line of a host. The first comes when a task has taken so long.
    type: int
    default: 30
    env:
      - name: PGOPS_RUNBOOK_PROGRESS_INTERVAL
    ini:
      - section: callback_pgops_progress
        key: interval
requirements:
  - Enable it with C(callbacks_enabled = pgops.runbook.progress) in the section C([defaults]) of the configuration, or
    with E(ANSIBLE_CALLBACKS_ENABLED).
author:
  - pgops.runbook contributors (@pgops)
"""

import atexit
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView
from ansible_collections.pgops.runbook.plugins.module_utils._progress.folder import VARIABLE, newest
from ansible_collections.pgops.runbook.plugins.module_utils._progress.job import KEY
from ansible_collections.pgops.runbook.plugins.plugin_utils._live_lines import LiveLines, size

LOOK_SECONDS = 0.5
# When a run stands still, what was measured before says nothing of it any more.
STILL_SECONDS = 30
MOST_LINES = 10
LOG_BYTES = 160
# A terminal that knows no control sequences; ansible-runner, which reads a terminal of its own for AWX.
PLAIN_TERMINALS = ("", "dumb")
RUNNER_VARIABLE = "AWX_ISOLATED_DATA_DIR"


class Work:
    """One host at its task: where its module may write, and what is known of it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.view: ProgressView | None = None
        self.changed = self.logged = time.monotonic()

    def look(self) -> None:
        """Read what the module wrote last."""
        if self.folder:
            self.learn(newest(self.folder))

    def learn(self, found: Any) -> None:
        """Take a view as it was published; what is none changes nothing."""
        view = ProgressView.from_mapping(found)
        if view and view != self.view:
            self.view, self.changed = view, time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Return for how long it will go on; before 0 if that cannot be told."""
        return -1.0 if self.view is None or self.view.seconds_left is None else self.view.seconds_left

    def line(self, host: str, room: int) -> str:
        """Return what a person sees of it."""
        still = int(time.monotonic() - self.changed)
        waits = f", still for {still // 60}:{still % 60:02}" if still >= STILL_SECONDS else ""
        head = f"progress: [{host}] "
        return head + (self.view.line(room - len(head.encode()) - len(waits)) + waits if self.view else "")


class CallbackModule(CallbackBase):
    """Gives every task a folder of its own to publish in, and shows what is in them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "pgops.runbook.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._before = os.environ.get(VARIABLE)
        self._top: Path | None = None
        self._count = 0
        self._at_work: dict[str, Work] = {}
        self._lines: LiveLines | None = None
        self._end = threading.Event()
        self._begun = False

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Say where the module may write: the process that runs it is forked from this one right after this call."""
        self._begin()
        os.environ.pop(VARIABLE, None)
        if not task.no_log:
            work = Work(self._new_folder())
            if work.folder:
                os.environ[VARIABLE] = str(work.folder)
            self._at_work[host.get_name()] = work
            self._watch()

    def v2_runner_on_async_poll(self, result: Any) -> None:
        """Take the news of a task that runs on another host, or that this one does not wait for."""
        work = self._at_work.get(_part(result, "host").get_name())
        if work:
            work.learn(_part(result, "result").get(KEY))

    v2_runner_retry = v2_runner_on_async_poll

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._ended(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._ended(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._finish()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        atexit.register(self._finish)
        try:
            self._top = Path(tempfile.mkdtemp(prefix="progress-", dir=C.DEFAULT_LOCAL_TMP))
        except OSError as error:
            self._display.vv(f"{self.CALLBACK_NAME} sees only what polls return: {error}")
        if self._on_terminal():
            self._lines = LiveLines(self._display._lock)
            self._lines.open()

    def _on_terminal(self) -> bool:
        view = self.get_option("view")
        if view == "auto":
            plain = os.environ.get("TERM", "") in PLAIN_TERMINALS or RUNNER_VARIABLE in os.environ
            return sys.stdout.isatty() and not plain
        return bool(view == "terminal" and sys.stdout.isatty())

    def _new_folder(self) -> Path | None:
        self._count += 1
        folder = self._top / str(self._count) if self._top else None
        try:
            if folder:
                folder.mkdir(mode=0o700)
        except OSError:
            return None
        return folder

    def _ended(self, result: Any) -> None:
        work = self._at_work.pop(_part(result, "host").get_name(), None)
        if work and work.folder:
            shutil.rmtree(work.folder, ignore_errors=True)
        if not self._at_work:
            self._rest()

    def _watch(self) -> None:
        if len(self._at_work) == 1:
            self._rest()
            self._end = threading.Event()
            threading.Thread(target=self._show_until, args=(self._end,), daemon=True, name=self.CALLBACK_NAME).start()

    def _rest(self) -> None:
        self._end.set()
        if self._lines:
            self._lines.erase()

    def _show_until(self, end: threading.Event) -> None:
        while not end.wait(LOOK_SECONDS):
            at_work = list(self._at_work.items())
            for _host, work in at_work:
                work.look()
            seen = [(host, work) for host, work in at_work if work.view]
            lines = self._lines
            try:
                if lines:
                    with self._display._lock:
                        lines.draw(() if end.is_set() else _drawn(seen))
                else:
                    self._log(seen)
            except (OSError, ValueError):
                # Whoever read the output has gone.
                return

    def _log(self, seen: list[tuple[str, Work]]) -> None:
        now = time.monotonic()
        due = [(host, work) for host, work in seen if now - work.logged >= self.get_option("interval")]
        for host, work in _slowest(due, MOST_LINES):
            self._display.display(work.line(host, LOG_BYTES))
        for _host, work in due:
            work.logged = now
        if due:
            # Ansible leaves the rest to the buffer, which would show it when the task is over.
            sys.stdout.flush()

    def _finish(self) -> None:
        self._at_work.clear()
        self._end.set()
        if self._lines:
            self._lines.close()
            self._lines = None
        if self._top:
            shutil.rmtree(self._top, ignore_errors=True)
        os.environ.pop(VARIABLE, None)
        if self._before is not None:
            os.environ[VARIABLE] = self._before


def _part(result: Any, name: str) -> Any:
    """Return a part of a task's result; ansible-core 2.19 gave them public names."""
    found = getattr(result, name, None)
    return getattr(result, f"_{name}") if found is None else found


def _slowest(seen: list[tuple[str, Work]], most: int) -> list[tuple[str, Work]]:
    """Return those of `seen` that will take the longest, as many as there is room for, in the order in which they stand."""
    slowest = sorted(seen, key=lambda one: one[1].seconds_left, reverse=True)[:most]
    return [one for one in seen if one in slowest]


def _drawn(seen: list[tuple[str, Work]]) -> list[str]:
    columns, rows = size()
    shown = _slowest(seen, max(1, min(MOST_LINES, rows - 2)))
    more = len(seen) - len(shown)
    return [work.line(host, columns - 1) for host, work in shown] + [f"progress: and {more} more"] * bool(more)
