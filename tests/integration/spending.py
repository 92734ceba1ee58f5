"""What work costs in processor time, which others on the same machine make no longer, as they do everything by the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ground.cluster import Cluster
from tests.integration.children import children, until
from tests.integration.leaving import ended


@dataclass
class Spent:
    """The seconds of this process, and of the server's processes that have come and gone in the block."""

    here: float = 0.0
    server: float = 0.0

    @property
    def seconds(self) -> float:
        """Return both together."""
        return self.here + self.server


@contextmanager
def spending(cluster: Cluster) -> Iterator[Spent]:
    """Measure a block that opens its own sessions and closes them."""
    assert cluster.pid is not None
    # All that a session has ever spent is counted when it ends.
    ended(cluster)
    own, spent = {process.pid for process in children(cluster.pid)}, Spent()
    here, server = time.process_time(), _of_ended_children(cluster.pid)
    yield spent
    spent.here = time.process_time() - here
    until(lambda: {process.pid for process in children(cluster.pid)} <= own)
    spent.server = _of_ended_children(cluster.pid) - server


def _of_ended_children(parent: int) -> float:
    # The name stands in brackets and may hold anything.
    fields = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
