"""usage: python -m tests.benchmarks.cleanup [--rows N] [--repeats N] [--part NAME ...] [--large] [--pg-major N]

pg_cleanup against one plain DELETE, against the janitors of two Django applications, against dropped partitions; what an application
feels meanwhile, and how much memory it takes. On a server that writes as a production server does.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from tests.benchmarks import cleanup_latency, cleanup_peers
from tests.benchmarks.cleanup_engine import clean_up, clean_up_in_process
from tests.benchmarks.cleanup_tables import (
    DELETE,
    DENIED,
    DIVIDED,
    GUARDED_DELETE,
    ORDERS,
    PARTITIONS,
    RULE,
    STORE,
    TOKENS,
    fill_divided,
    fill_tokens,
)
from tests.benchmarks.turns import MEASURED, Way, fresh, in_turns, print_times, print_title
from tests.ground import servers
from tests.ground.cluster import Cluster

ROWS, REPEATS, LARGE = 2_000_000, 5, 10_000_000
MOST_OF_A_DELETE = 1.15
# As in production: what the tests leave out is a good part of the cost of a change.
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "512MB", "autovacuum": "off", "max_wal_size": "8GB"}
ENGINE, PLAIN = "pg_cleanup, in process", "one DELETE"


def engine(rule: dict[str, Any] | None = None, *, stores: list[dict[str, Any]] | None = None, vacuum: str = "never") -> Way:
    """Return the collection's way, from the connection to the result."""
    parameters = {"rules": [rule or RULE], "token_stores": stores or [], "vacuum": vacuum}

    def act(login: dict[str, Any]) -> None:
        result = clean_up(login, parameters)
        if result["stopped"] != "done" or result["remaining"]:
            raise AssertionError(f"pg_cleanup stopped: {result['stopped']}, {result['remaining']} remain")

    return act


def by_hand(cluster: Cluster, *statements: str) -> Way:
    """Return what a person pastes, from the connection on."""

    def act(_login: dict[str, Any]) -> None:
        with cluster.connect(MEASURED) as connection:
            for statement in statements:
                connection.execute(statement)

    return act


def speed(cluster: Cluster, rows: int, repeats: int) -> None:
    """Print pg_cleanup against one DELETE of the same rows."""
    for number, order in enumerate(ORDERS):
        template = fill_tokens(cluster, f"tokens_{number}", rows, order)
        pairs = {
            f"{rows // 2:,} of {rows:,} rows with three indexes, expired {order}": {PLAIN: by_hand(cluster, DELETE), ENGINE: engine()},
            f"the same with a deny list that protects, expired {order}": {
                "one DELETE ... AND NOT EXISTS (a deny row that needs it)": by_hand(cluster, GUARDED_DELETE),
                "pg_cleanup with the token store": engine(stores=[STORE]),
            },
            f"the same and a VACUUM (ANALYZE), expired {order}": {
                "one DELETE, VACUUM (ANALYZE)": by_hand(cluster, DELETE, f"VACUUM (ANALYZE, TRUNCATE off) {TOKENS}"),
                "pg_cleanup with vacuum": engine(vacuum="auto"),
            },
        }
        for title, ways in pairs.items():
            print_title(f"{title}, medians of {repeats} turns; target {MOST_OF_A_DELETE:.2f}")
            print_times(in_turns(cluster, template, (TOKENS, DENIED), ways, repeats), next(iter(ways)))
        cluster.drop_database(template)


def partitions(cluster: Cluster, rows: int, repeats: int) -> None:
    """Print what dropped partitions cost against all the ways to remove the same rows one by one."""
    template = fill_divided(cluster, "divided", rows)
    rule = {**RULE, "table": DIVIDED}
    drops = [f"DROP TABLE {DIVIDED}_{number}" for number in range(PARTITIONS // 2)]
    ways = {
        "DROP TABLE of each partition": by_hand(cluster, *drops),
        "pg_cleanup, action drop_partitions": engine({**rule, "action": "drop_partitions"}),
        PLAIN: by_hand(cluster, DELETE.replace(TOKENS, DIVIDED)),
        "pg_cleanup, action delete": engine(rule),
    }
    print_title(f"{rows // 2:,} of {rows:,} rows, five of {PARTITIONS} partitions, three indexes, medians of {repeats} turns")
    print_times(in_turns(cluster, template, (DIVIDED,), ways, repeats), PLAIN)
    cluster.drop_database(template)


def memory(cluster: Cluster, rows: int, _repeats: int) -> None:
    """Print the most memory that a process with the engine held: for a tenth of the rows that can go, and for all of them."""
    template = fill_tokens(cluster, "memory", rows, "in the order of insertion")
    print_memory(cluster, template, rows)
    cluster.drop_database(template)


def print_memory(cluster: Cluster, template: str, rows: int) -> None:
    """Print it for a database that is filled already, in whichever order."""
    print_title(f"Most memory of a process with the engine, {rows:,} rows")
    # A row ends a second after the one before it, and the last of those that can go has ended a day ago.
    for age in (86400 + rows // 2 * 9 // 10, 0):
        login = fresh(cluster, template)
        done = clean_up_in_process(login, {"rules": [{**RULE, "older_than": f"{age} s"}], "vacuum": "never"})
        print(f"  {done['removed']:12,} removed {done['peak'] / 1024:8.1f} MB", flush=True)


def large(cluster: Cluster, rows: int, repeats: int) -> None:
    """Print how the cost grows with the table, in one piece and divided, and the memory."""
    for number, order in enumerate(ORDERS):
        template = fill_tokens(cluster, f"large_{number}", rows, order)
        print_title(f"{rows // 2:,} of {rows:,} rows with three indexes, expired {order}, medians of {repeats} turns")
        print_times(in_turns(cluster, template, (TOKENS,), {PLAIN: by_hand(cluster, DELETE), ENGINE: engine()}, repeats), PLAIN)
        print_memory(cluster, template, rows)
        cluster.drop_database(template)
    partitions(cluster, rows, repeats)


PARTS: dict[str, Callable[[Cluster, int, int], None]] = {
    "speed": speed,
    "partitions": partitions,
    "memory": memory,
    "latency": cleanup_latency.compare,
    "peers": cleanup_peers.compare,
    "large": lambda cluster, _rows, repeats: large(cluster, LARGE, max(1, repeats // 2)),
}


def main() -> None:
    """Start a server, measure every part that is asked for, say what was left out."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cleanup", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of a table, half of which have expired (default {ROWS:,})")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"turns of every comparison (default {REPEATS})")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="only this part; may be given several times")
    parser.add_argument("--large", action="store_true", help=f"{LARGE:,} rows against one DELETE and dropped partitions as well")
    parser.add_argument("--pg-major", type=int, help="major version of the server (default: the newest installed)")
    given = parser.parse_args()
    wanted = given.part or [name for name in PARTS if name != "large"]
    wanted += ["large"] if given.large and "large" not in wanted else []
    with Cluster(servers.find(given.pg_major), settings=DURABLE) as cluster:
        with cluster.connect() as connection:
            version = connection.execute("SHOW server_version").fetchone()[0]  # type: ignore[index]
        print(f"PostgreSQL {version} ({cluster.installation.source}), {', '.join(f'{key} {text}' for key, text in DURABLE.items())}")
        for name in wanted:
            PARTS[name](cluster, given.rows, given.repeats)
        left_out = [name for name in PARTS if name not in wanted]
        print(f"\nNot run: {', '.join(left_out) or 'nothing was left out'}. Load average {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main()
