"""Health checks on servers that stream WAL to each other or archive it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils import _health
from ansible_collections.pgops.runbook.plugins.module_utils._connection import connect
from ansible_collections.pgops.runbook.plugins.module_utils._health.history import THERE, History, Snapshot
from ansible_collections.pgops.runbook.plugins.module_utils._health.limits import merge
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Expected, Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Limits, Reading
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import wal_bytes
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.errors import ProgramMissing
from tests.integration.watching import eventually, look, options

STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= pg_current_wal_flush_lsn()"


def check_of(result: Mapping[str, Any], check: str) -> dict[str, Any]:
    """Return what a result says of one check."""
    return dict(next(each for each in result["checks"] if each["id"] == check))


def looked(cluster: Cluster, *checks: str, user: str | None = None, tcp: bool = False, **params: Any) -> dict[str, Any]:
    """Run these checks on a server alone."""
    login: dict[str, Any] = {"login_user": user} if user else {}
    if tcp:
        login.update(login_host=cluster.host, login_unix_socket=None)
    return look(Database(cluster, "postgres"), None, system=None, checks=list(checks), login=login, **params)


def readings(
    cluster: Cluster,
    check: str,
    *,
    history: History = History(),  # noqa: B008
    limits: Limits | None = None,
    expected: Expected = Expected(),  # noqa: B008
) -> tuple[list[Reading], Look]:
    """Return what one check reads where there is this history."""
    known = _health.CHECKS[check]
    with connect(options(Database(cluster, "postgres")), application_name="pgops.runbook/pg_health", read_only=True) as session:
        seen = Look(session, None, expected, history)
        return list(known.run(seen, limits or merge(known, None, None))), seen


def earlier(
    seconds: float = 3600, kept: Mapping[str, Any] | None = None, series: Mapping[str, Sequence[tuple[float, float]]] | None = None
) -> History:
    """Return a history with a run so many seconds ago."""
    moment = datetime.fromtimestamp(datetime.now(UTC).timestamp() - seconds, UTC)
    return History(state=THERE, previous=Snapshot(time=moment, metrics={}, kept=kept or {}), series=series or {})


def write(cluster: Cluster, segments: int = 0) -> None:
    """Write a little WAL, and complete so many segments."""
    with cluster.connect() as session:
        session.execute("CREATE TABLE IF NOT EXISTS written (at timestamptz); INSERT INTO written VALUES (clock_timestamp())")
        for _one in range(segments):
            session.execute("SELECT pg_logical_emit_message(false, 'test', 'something')")
            session.execute("SELECT pg_switch_wal()")


@contextmanager
def standby_of(cluster: Cluster, **settings: Any) -> Iterator[Cluster]:
    """Give a server a standby for the block, or skip the test where no program can make one."""
    try:
        made = cluster.standby(settings=settings)
    except ProgramMissing as reason:
        pytest.skip(str(reason))
    try:
        yield made
    finally:
        made.remove()


def caught_up(cluster: Cluster, standbys: int = 1) -> None:
    """Wait until so many standbys have everything."""
    eventually(lambda: Database(cluster, "postgres").query(STREAMING) == [(standbys,)])


def rolled(cluster: Cluster, **settings: Any) -> None:
    """Change settings that a reload changes, and wait until it has."""
    with cluster.connect() as session:
        for name, text in settings.items():
            session.execute(f"ALTER SYSTEM SET {name} = '{text}'")  # type: ignore[call-overload]
        session.execute("SELECT pg_reload_conf()")
    for name, text in settings.items():

        def took(name: str = name, text: str = str(text)) -> bool:
            return bool(Database(cluster, "postgres").query(f"SHOW {name}") == [(text,)])

        eventually(took)


def flushed(cluster: Cluster) -> str:
    """Return the end of a primary's WAL."""
    ((position,),) = Database(cluster, "postgres").query("SELECT pg_current_wal_flush_lsn()::text")
    return str(position)


@contextmanager
def receiving(cluster: Cluster, name: str, slot: str | None = None, position: str | None = None) -> Iterator[Any]:
    """Be a program that keeps WAL, from now or a position on, and takes none of it."""
    extras = pytest.importorskip("psycopg2.extras")
    psycopg2 = pytest.importorskip("psycopg2")
    factory = extras.PhysicalReplicationConnection
    connection = psycopg2.connect(**cluster.address(), connection_factory=factory, application_name=name)
    cursor = connection.cursor()
    there = "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s"
    before = Database(cluster, "postgres").query(there, [name])
    try:
        position = position or flushed(cluster)
        cursor.start_replication(slot_name=slot, start_lsn=position)
        cursor.send_feedback(write_lsn=wal_bytes(position), force=True)
        yield cursor
    finally:
        cursor.close()
        connection.close()
        eventually(lambda: Database(cluster, "postgres").query(there, [name]) < before)
        used = "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = %s"
        eventually(lambda: Database(cluster, "postgres").query(used, [slot]) == [(0,)])
