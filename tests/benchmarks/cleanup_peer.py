"""A management command of Django on the test ground's site, as cron would start it.

usage: python -m tests.benchmarks.cleanup_peer APPLICATION COMMAND ; the database is in GROUND_DATABASE, the answer is a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

from tests.benchmarks.peak import peak_kilobytes
from tests.ground.servers import CHECKOUT

SITE = CHECKOUT / "tests" / "ground" / "published" / "django_site"


def run_command(address: dict[str, Any], application: str, command: str) -> dict[str, Any]:
    """Run a management command in a process of its own; return the `peak` of its memory in kilobytes."""
    environment = {**os.environ, "GROUND_DATABASE": json.dumps(address), "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, "-m", "tests.benchmarks.cleanup_peer", application, command]
    done = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Do what the arguments say."""
    application, command = sys.argv[1:]
    sys.path.insert(0, str(SITE))
    # The site is a program of its own, outside the package.
    importlib.import_module("program").set_up(application)
    importlib.import_module("django.core.management").call_command(command, verbosity=0)
    print(json.dumps({"peak": peak_kilobytes()}))


if __name__ == "__main__":
    main()
