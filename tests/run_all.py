"""usage: run_all.py STAGE... : prepare .venv, run the stages with it; the last line counts passed and failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.tools import bootstrap


def main() -> None:
    """Replace this process by the runner, or say that it could not be prepared."""
    try:
        python = bootstrap.ensure("test")
    except bootstrap.SetupError as error:
        print(error, "0 passed, 1 failed", sep="\n", flush=True)
        sys.exit(1)
    os.chdir(bootstrap.ROOT)
    os.execve(python, [str(python), "-m", "tests.runner", *sys.argv[1:]], bootstrap.environment())


if __name__ == "__main__":
    main()
