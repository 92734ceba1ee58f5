"""Several ways to remove the same rows, measured in turns, each time on a fresh copy of one database."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from tests.ground.cluster import Cluster

MEASURED = "measured"
# Removes rows from the database with the given connection options.
Way = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Times:
    """The seconds of one way, turn by turn, those that the server's processors worked for it, and how many rows went each time."""

    seconds: tuple[float, ...]
    worked: tuple[float, ...]
    rows: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, other: Times) -> float:
        """Return how many times as long as `other` it took: the median over the turns, so that noise that lasts hits both alike."""
        return _ratio(self.seconds, other.seconds)

    def work_ratio(self, other: Times) -> float:
        """Return the same for the work of the server's processors, which other programs disturb far less; nan where it is not known."""
        return _ratio(self.worked, other.worked)


def _ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other if other else math.nan for one, other in zip(mine, theirs, strict=True))


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
    worked: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in sorted(ways, key=list(ways).index, reverse=bool(turn % 2)):
            login = fresh(cluster, template)
            before_it, began = seconds_worked(cluster), time.perf_counter()
            ways[name](login)
            seconds[name].append(time.perf_counter() - began)
            worked[name].append(seconds_worked(cluster) - before_it)
            left[name] = rows_of(cluster, MEASURED, tables)
        if len(set(left.values())) > 1 or before in left.values():
            raise AssertionError(f"of {dict(zip(tables, before, strict=True))} there are left: {left}")
    return {name: Times(tuple(seconds[name]), tuple(worked[name]), sum(before) - sum(left[name])) for name in ways}


def seconds_worked(cluster: Cluster) -> float:
    """Return the seconds that processors worked for sessions of the server that have ended, with their parallel workers; Linux only."""
    time.sleep(0.1)  # the server has to notice that the last session has ended
    try:
        fields = Path(f"/proc/{cluster.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # cutime and cstime


def print_times(times: Mapping[str, Times], base: str) -> None:
    """Print a line for each way: seconds, rows a second, how many times as long as `base` it took; the same for the server's work."""
    print(f"  {'':58} {'median':>9}    {'from .. to':>18} {'rows/s':>12} {'ratio':>8} {'server CPU':>12} {'ratio':>8}")
    for name, one in times.items():
        spread = f"{min(one.seconds):.2f} .. {max(one.seconds):.2f}"
        ratio, work_ratio = (f"{number:8.2f}" for number in (one.ratio(times[base]), one.work_ratio(times[base])))
        work = f"{statistics.median(one.worked):10.2f} s"
        print(f"  {name:58} {one.median:9.2f} s  {spread:>18} {one.rows / one.median:12,.0f} {ratio} {work} {work_ratio}", flush=True)


def print_title(text: str) -> None:
    """Print what comes next, with how busy the machine is."""
    print(f"\n{text}\n  (load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)", flush=True)
