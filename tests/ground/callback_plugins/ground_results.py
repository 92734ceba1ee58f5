# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write every task result as one line of JSON to the file named in GROUND_RESULTS."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: ground_results
type: aggregate
short_description: Task results as JSON lines
description:
  - Writes every task result as one line of JSON to the file named in the environment variable E(GROUND_RESULTS).
author: pgops.runbook contributors
"""


class CallbackModule(CallbackBase):
    """Collects results for the tests; prints nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ground_results"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = os.environ.get("GROUND_RESULTS", os.devnull)
        self._play = ""

    def _write(self, entry: dict[str, Any]) -> None:
        with Path(self._path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, default=str) + "\n")

    def _task(self, status: str, result: Any) -> None:
        # ansible-core 2.20 gives the parts public names.
        host, task, found = (getattr(result, name, None) or getattr(result, "_" + name) for name in ("host", "task", "result"))
        entry = {"play": self._play, "host": host.get_name(), "task": task.get_name(), "action": task.action, "status": status}
        self._write({**entry, "result": dict(found)})

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play.get_name()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._task("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._task("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._task("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._task("unreachable", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._write({"stats": {host: stats.summarize(host) for host in stats.processed}})
