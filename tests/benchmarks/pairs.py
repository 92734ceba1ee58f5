"""Two ways to do the same work, measured in turns on copies of one database."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.ground.cluster import Cluster

# What a person runs, or the collection runs, on the database with the given connection options; returns what was done, as a number.
Way = Callable[[dict[str, Any]], int]


@dataclass(frozen=True)
class Pair:
    """`ours` against `plain`, both on a copy of database `template`. They must return the same number."""

    name: str
    template: str
    ours: Way
    plain: Way


@dataclass(frozen=True)
class Measured:
    """The medians in seconds, and the median of the ratios of neighbouring runs: noise that lasts hits both alike."""

    name: str
    ours: float
    plain: float
    ratio: float

    def __str__(self) -> str:
        return f"{self.name:48} {self.ours * 1000:9.1f} ms {self.plain * 1000:9.1f} ms {self.ratio:6.2f}"


HEADER = f"{'':48} {'ours':>12} {'plain SQL':>12} {'ratio':>6}"


def measure(cluster: Cluster, pair: Pair, repeats: int) -> Measured:
    """Run both ways in turns, each time on a fresh copy, and in the other order each time."""
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(repeats):
        results = {}
        for word in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            results[word], seconds = _once(cluster, pair.template, getattr(pair, word))
            times[word].append(seconds)
        if results["ours"] != results["plain"]:
            raise AssertionError(f"{pair.name}: ours did {results['ours']}, plain SQL {results['plain']}")
    ratios = [ours / plain for ours, plain in zip(times["ours"], times["plain"], strict=True)]
    return Measured(pair.name, statistics.median(times["ours"]), statistics.median(times["plain"]), statistics.median(ratios))


def _once(cluster: Cluster, template: str, way: Way) -> tuple[int, float]:
    cluster.drop_database("measured")
    cluster.create_database("measured", template)
    with cluster.connect() as connection:
        connection.execute("CHECKPOINT")
    began = time.perf_counter()
    result = way(cluster.login("measured"))
    return result, time.perf_counter() - began
