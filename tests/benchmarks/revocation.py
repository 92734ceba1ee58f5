"""usage: python -m tests.benchmarks.revocation [--repeats N] ; a mass revocation in TIM's tables against what a person would paste.

4 million tokens, 1 million of them denied already, 1.3 million to revoke. Prints seconds, ratios, latencies and memory.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from psycopg import errors

from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.runner import collections_path

sys.path.insert(0, str(collections_path()))  # the engine under test runs in this process

from ansible_collections.pgops.runbook.plugins.module_utils import _revocation
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from tests.ground import schema
from tests.ground.systems import description_of

TOKENS, DENIED, WANTED = 4_000_000, 1_000_000, 1_300_000
REPEATS = 3
# As in production: what the tests leave out is a good part of the cost of a change.
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "512MB", "autovacuum": "off", "max_wal_size": "8GB"}
FROM, TO = "2026-01-15 10:00:00", "2026-01-15 11:00:00"
QUIET_SECONDS = 10.0
WRITERS, PAUSE = 4, 0.01  # sessions of the application, and seconds between two transactions of each
BEST = f"""
INSERT INTO custom.denylist (jwt_uuid, denylisted_at, expires_at)
SELECT m.jwt_uuid, now() AT TIME ZONE 'UTC', m.expires_at FROM custom.jwt_metadata m
WHERE m.issued_at >= '{FROM}' AND m.issued_at < '{TO}' AND m.expires_at > now() AT TIME ZONE 'UTC'
  AND NOT EXISTS (SELECT FROM custom.denylist d WHERE d.jwt_uuid = m.jwt_uuid)
ORDER BY m.jwt_uuid ON CONFLICT DO NOTHING
"""
PASTED = f"""
INSERT INTO custom.denylist (jwt_uuid, denylisted_at, expires_at)
SELECT jwt_uuid, now(), expires_at FROM custom.jwt_metadata
WHERE issued_at BETWEEN '{FROM}' AND '{TO}' AND jwt_uuid NOT IN (SELECT jwt_uuid FROM custom.denylist)
"""
SELECT = {"issued_from": f"{FROM}Z", "issued_to": f"{TO}Z"}
# One token in three was issued in the window, and one in four of those is denied already.
FILL = f"""
INSERT INTO custom.jwt_metadata (jwt_uuid, claim_keys, issued_at, expires_at)
SELECT md5(i::text)::uuid, (ARRAY['sub,email', 'sub,role', 'sub,email,role', 'sub'])[1 + i %% 4],
    timestamp '{FROM}' + interval '1 second'
        * CASE WHEN i <= %(inside)s THEN 3599.0 * i / %(inside)s ELSE 3600 + 86400.0 * i / %(tokens)s END,
    now() AT TIME ZONE 'UTC' + interval '30 days' + i %% 1000 * interval '1 minute'
FROM generate_series(1, %(tokens)s) AS i;
INSERT INTO custom.denylist (jwt_uuid, denylisted_at, expires_at)
SELECT jwt_uuid, now() AT TIME ZONE 'UTC' - interval '1 day', expires_at FROM (
    (SELECT * FROM custom.jwt_metadata WHERE issued_at < '{TO}' ORDER BY jwt_uuid LIMIT %(inside)s - %(wanted)s)
    UNION ALL (SELECT * FROM custom.jwt_metadata WHERE issued_at >= '{TO}' ORDER BY jwt_uuid LIMIT %(denied)s - (%(inside)s - %(wanted)s))
) AS chosen;
"""


def fill(cluster: Cluster) -> None:
    """Make the tables of TIM with the rows of an incident."""
    cluster.create_database("incident")
    inside = WANTED + DENIED // 3
    with cluster.connect("incident") as connection:
        schema.create_system(connection, description_of("tim"))
        parameters = {"tokens": TOKENS, "inside": inside, "wanted": WANTED, "denied": DENIED}
        for statement in FILL.split(";\n")[:2]:
            connection.execute(statement, parameters)
        connection.execute("VACUUM ANALYZE")


def ours(login: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Do what pg_token_revoke does between its arguments and its result."""
    tim = description_of("tim")
    given = {
        "token_stores": tim["token_stores"],
        "stores": ["custom"],
        "revocation": tim["revocation"],
        "reason": "measured",
        "select": SELECT,
    }
    options = _revocation.read_options({**given, **more})
    with connect(
        ConnectionOptions.from_params({**login, "statement_timeout": "1 h"}), application_name="benchmark", read_only=False
    ) as database:
        return _revocation.run(database, options, check_mode=False)


def plain(cluster: Cluster, statement: str) -> int:
    """Run one statement as one pastes it and return how many rows it inserted."""
    with cluster.connect("measured") as connection:
        return connection.execute(statement).rowcount


def fresh(cluster: Cluster) -> dict[str, Any]:
    """Return the login of a new copy of the database."""
    cluster.drop_database("measured")
    cluster.create_database("measured", "incident")
    with cluster.connect("measured") as connection:
        connection.execute("CHECKPOINT")
    return cluster.login("measured")


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `act` returns and its seconds."""
    began = time.perf_counter()
    result = act()
    return result, time.perf_counter() - began


def speed(cluster: Cluster, repeats: int) -> None:
    """Print the first and the second run against the best plain statement, in turns."""
    first: list[tuple[float, float]] = []
    again: list[tuple[float, float]] = []
    for turn in range(repeats):
        seconds: dict[str, float] = {}
        for word in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            act = functools.partial(ours, fresh(cluster))
            if word == "ours":
                result, seconds["ours"] = timed(act)
                repeated, seconds["ours again"] = timed(act)
                counts = (result["revoked"], repeated["revoked"])
            else:
                done, seconds["plain"] = timed(lambda: plain(cluster, BEST))
                done_again, seconds["plain again"] = timed(lambda: plain(cluster, BEST))
                expected = (done, done_again)
        if counts != expected:
            raise AssertionError(f"ours revoked {counts}, plain SQL {expected}")
        first.append((seconds["ours"], seconds["plain"]))
        again.append((seconds["ours again"], seconds["plain again"]))
        print(
            f"  run {turn + 1}: {seconds['ours']:.1f} s against {seconds['plain']:.1f} s, again {seconds['ours again']:.2f} s"
            f" against {seconds['plain again']:.2f} s, {counts[0]:,} revoked",
            flush=True,
        )
    for name, times in (("revoke", first), ("revoke again, nothing left", again)):
        print(f"{name:32} {_medians(times)}")


def _medians(times: list[tuple[float, float]]) -> str:
    ratio = statistics.median(mine / other for mine, other in times)
    mine, other = (statistics.median(pair[side] for pair in times) for side in (0, 1))
    return f"{mine:8.2f} s ours {other:8.2f} s plain, ratio {ratio:.2f}"


def pasted(cluster: Cluster) -> None:
    """Print what becomes of the statement of the runbook in a minute."""
    fresh(cluster)
    with cluster.connect("measured") as connection:
        connection.execute("SET statement_timeout = '60s'")
        try:
            _done, seconds = timed(lambda: connection.execute(PASTED))
            print(f"the runbook's NOT IN              {seconds:8.2f} s")
        except errors.QueryCanceled:
            print("the runbook's NOT IN              stopped after 60 s, nothing revoked")


class Application:
    """Sessions that issue a token and look one up, again and again, and note how long each took."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self._stop = cluster, threading.Event()
        self.seconds: list[float] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _number in range(WRITERS)]

    def __enter__(self) -> Application:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with self.cluster.connect("measured") as connection:
            while not self._stop.wait(PAUSE):
                began = time.perf_counter()
                row = connection.execute(
                    "INSERT INTO custom.jwt_metadata SELECT gen_random_uuid(), 'sub', now() AT TIME ZONE 'UTC',"
                    " now() AT TIME ZONE 'UTC' + interval '1 hour' RETURNING jwt_uuid"
                ).fetchone()
                connection.execute("SELECT FROM custom.denylist WHERE jwt_uuid = %s", row)
                self.seconds.append(time.perf_counter() - began)

    def p99(self) -> float:
        """Return the 99th percentile in milliseconds."""
        return 1000 * statistics.quantiles(self.seconds, n=100)[98]


def latency(cluster: Cluster, repeats: int) -> None:
    """Print the p99 of concurrent inserts and look-ups: quiet, under ours, under the plain statement."""
    ways: dict[str, Callable[[dict[str, Any]], Any]] = {
        "quiet": lambda _login: time.sleep(QUIET_SECONDS),
        "ours": ours,
        "plain": lambda _login: plain(cluster, BEST),
    }
    found: dict[str, list[float]] = {word: [] for word in ways}
    for _turn in range(repeats):
        for word, act in ways.items():
            login = fresh(cluster)
            with Application(cluster) as application:
                act(login)
            found[word].append(application.p99())
    for word in ("ours", "plain"):
        ratio = statistics.median(one / quiet for one, quiet in zip(found[word], found["quiet"], strict=True))
        p99, quiet = statistics.median(found[word]), statistics.median(found["quiet"])
        print(f"p99 of the application, {word:9} {p99:8.1f} ms, quiet {quiet:.1f} ms, ratio {ratio:.2f}")


def memory(cluster: Cluster) -> None:
    """Print the most memory that a process with the engine took for a tenth of the tokens and for all of them."""
    for part, end in (("a tenth", "2026-01-15 10:06:00"), ("all", TO)):
        login = fresh(cluster)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            revoked, most = pool.apply(_measured, (login, f"{end}Z"))
        print(f"memory, {part:24} {most / 1024:8.1f} MB for {revoked:,} tokens")


def _measured(login: dict[str, Any], end: str) -> tuple[int, int]:
    result = ours(login, select={**SELECT, "issued_to": end})
    return result["revoked"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Start a server, fill it, print every figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.revocation", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"turns of every comparison (default {REPEATS})")
    repeats = parser.parse_args().repeats
    with Cluster(servers.find(None), settings=DURABLE) as cluster:
        print(f"PostgreSQL {cluster.installation.major} from {cluster.installation.source}")
        print(f"{TOKENS:,} tokens, {DENIED:,} denied, {WANTED:,} to revoke", flush=True)
        fill(cluster)
        speed(cluster, repeats)
        pasted(cluster)
        latency(cluster, repeats)
        memory(cluster)


if __name__ == "__main__":
    main()
