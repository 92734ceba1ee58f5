"""Several ways to remove the same rows, measured in turns, each time on a fresh copy of one database."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tests.ground.cluster import Cluster

MEASURED = "measured"
# Removes rows from the database with the given connection options.
Way = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Times:
    """The seconds of one way, turn by turn, and how many rows went each time."""

    seconds: tuple[float, ...]
    rows: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, other: Times) -> float:
        """Return how many times as long as `other` it took: the median over the turns, so that noise that lasts hits both alike."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))


def fresh(cluster: Cluster, template: str) -> dict[str, Any]:
    """Replace the measured database by a copy of `template`, written to disk, and return its connection options."""
    cluster.drop_database(MEASURED)
    cluster.create_database(MEASURED, template)
    with cluster.connect() as connection:
        connection.execute("CHECKPOINT")
    return cluster.login(MEASURED)


def rows_of(cluster: Cluster, database: str, tables: Sequence[str]) -> tuple[int, ...]:
    """Return how many rows each of `tables` has."""
    counts = []
    with cluster.connect(database) as connection:
        for table in tables:
            statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table.split(".")))
            counts.append(int(connection.execute(statement).fetchone()[0]))  # type: ignore[index]
    return tuple(counts)


def in_turns(cluster: Cluster, template: str, tables: Sequence[str], ways: Mapping[str, Way], repeats: int) -> dict[str, Times]:
    """Run every way `repeats` times, each turn in the other order, and see that all leave the same number of rows in each table."""
    before, left = rows_of(cluster, template, tables), dict[str, tuple[int, ...]]()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in sorted(ways, key=list(ways).index, reverse=bool(turn % 2)):
            login = fresh(cluster, template)
            began = time.perf_counter()
            ways[name](login)
            seconds[name].append(time.perf_counter() - began)
            left[name] = rows_of(cluster, MEASURED, tables)
        if len(set(left.values())) > 1 or before in left.values():
            raise AssertionError(f"of {dict(zip(tables, before, strict=True))} there are left: {left}")
    return {name: Times(tuple(seconds[name]), sum(before) - sum(left[name])) for name in ways}


def print_times(times: Mapping[str, Times], base: str) -> None:
    """Print a line for each way: seconds, rows a second, and how many times as long as `base` it took."""
    for name, one in times.items():
        spread = f"{min(one.seconds):.2f} .. {max(one.seconds):.2f}"
        ratio = "" if name == base else f"{one.ratio(times[base]):8.2f}"
        print(f"  {name:58} {one.median:9.2f} s  {spread:>18} {one.rows / one.median:12,.0f} rows/s {ratio}", flush=True)


def print_title(text: str) -> None:
    """Print what comes next, with how busy the machine is."""
    print(f"\n{text}\n  (load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)", flush=True)
