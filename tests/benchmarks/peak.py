"""How much memory the present process has held at most."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_kilobytes() -> int:
    """Return the most kilobytes of memory that this program has held at once.

    Linux says it of the program that runs; getrusage counts what the process held before it became this program as well.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
