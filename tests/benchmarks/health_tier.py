"""A tier of pg_health: in this process, or as a process of its own.

usage: python -m tests.benchmarks.health_tier TIER ; the connection options are in GROUND_LOGIN, the answer is the result as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.ground.runner import collections_path
from tests.ground.servers import CHECKOUT

sys.path.insert(0, str(collections_path()))  # the engine under test runs in this process

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect

# Longer than the module's own: on a busy machine the numbers must come, not an unknown.
CHECK_TIMEOUT = "2 min"


def look(login: dict[str, Any], tier: str) -> dict[str, Any]:
    """Do what pg_health does between its arguments and its result, for the server alone."""
    request = _health.Request.from_params({"tier": tier, "max_runtime": "10 min"})
    options = _health.session_options(ConnectionOptions.from_params(login), CHECK_TIMEOUT)
    return _health.run(lambda: connect(options, application_name="benchmark", read_only=True), request)


def look_as_process(login: dict[str, Any], tier: str) -> str:
    """Run the tier in a process of its own and return its result as JSON."""
    environment = {**os.environ, "GROUND_LOGIN": json.dumps(login)}
    words = [sys.executable, "-m", "tests.benchmarks.health_tier", tier]
    done = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the tier {tier} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    print(json.dumps(look(json.loads(os.environ["GROUND_LOGIN"]), sys.argv[1])))
