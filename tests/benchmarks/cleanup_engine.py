"""What pg_cleanup does between its arguments and its result: in this process, or in one of its own.

usage: python -m tests.benchmarks.cleanup_engine JSON ; JSON has `login` and `parameters`, the answer is a line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.ground.runner import collections_path
from tests.ground.servers import CHECKOUT

sys.path.insert(0, str(collections_path()))  # the engine under test

from ansible_collections.pgops.runbook.plugins.module_utils import _cleanup
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from tests.benchmarks.peak import peak_kilobytes


def clean_up(login: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Connect, clean up and return the result."""
    options = _cleanup.read_options(parameters)
    with connect(
        ConnectionOptions.from_params({**login, "statement_timeout": "1 h"}), application_name="benchmark", read_only=False
    ) as database:
        result: dict[str, Any] = _cleanup.clean_up(database, options, check_mode=False)
    return result


def clean_up_in_process(login: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Do the same in a new interpreter; return how many rows were `removed` and the `peak` of its memory in kilobytes."""
    given = json.dumps({"login": login, "parameters": parameters})
    command = [sys.executable, "-m", "tests.benchmarks.cleanup_engine", given]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the engine's process ended with {done.returncode}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Do what the argument says."""
    given = json.loads(sys.argv[1])
    removed = clean_up(given["login"], given["parameters"])["removed"]
    print(json.dumps({"removed": removed, "peak": peak_kilobytes()}))


if __name__ == "__main__":
    main()
