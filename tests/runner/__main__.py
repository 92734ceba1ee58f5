"""usage: python -m tests.runner STAGE... ; see `make help`."""

from __future__ import annotations

import fcntl
import signal
import sys
import time

from tests.runner import matrix, stages, tree
from tests.runner.schedule import Run
from tests.runner.steps import Count

RESULT = tree.CACHE / "result.txt"


def main(names: list[str]) -> int:
    """Run the stages and print the count of checks as the last line."""
    unknown = [name for name in names if name not in (*stages.STAGES, "matrix")]
    if unknown or not names:
        print(f"unknown: {', '.join(unknown)}; stages are {', '.join([*stages.STAGES, 'matrix'])}", file=sys.stderr)
        return 2
    alone = (tree.CACHE / "run.lock").open("w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Both would write the one copy of the tree that the tools of the other are reading.
        print("waiting for another run in this checkout to end", flush=True)
        fcntl.flock(alone, fcntl.LOCK_EX)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    total = Count()
    try:
        tree.refresh()
        stages.remove_results()
        total = matrix.run() if "matrix" in names else Run(stages.plan(names)).go()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        total += Count(failed=1)
    print(f"in {time.monotonic() - began:.0f} s; what each step wrote is in {(tree.CACHE / 'log').relative_to(tree.ROOT)}")
    RESULT.write_text(f"{total}\n", encoding="utf-8")
    print(total, flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
