"""Sessions that were closed: a server ends them a moment after their client has gone, and keeps its counters until then."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import psycopg
import psycopg2.extensions

from tests.ground.cluster import Cluster
from tests.integration.children import children, until

_KINDS = (psycopg.Connection, psycopg2.extensions.connection)


def ended(cluster: Cluster) -> None:
    """Wait until no client's session is left at a server but those that this process has open."""
    # What else there is may run code when it is asked for its class.
    found = [each for each in gc.get_objects() if issubclass(type(each), _KINDS)]
    ours = {each.info.backend_pid for each in found if not each.closed}
    with cluster.connect() as witness:
        rows = witness.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchall()
    over(cluster, {pid for (pid,) in rows} - ours)


def over(cluster: Cluster, sessions: Iterable[int]) -> None:
    """Wait until the processes of these sessions are gone, and what they have counted is told."""
    gone = set(sessions)
    until(lambda: not gone & {process.pid for process in children(cluster.pid)})
