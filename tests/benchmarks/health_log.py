"""What a server did for somebody, read in its log: sessions, statements, and the milliseconds of each.

With log_min_duration_statement = 0 a server writes of every statement how long it worked on it: from its arrival, through parsing,
planning and running, to the last row. That is more than pg_stat_statements counts, which leaves parsing out, and less than what a
client waits, which has the network and its own work in it. Starting a session is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.ground.cluster import Cluster

Done = TypeVar("Done")
_DURATION = re.compile(r"LOG:  duration: ([\d.]+) ms  (statement|parse|bind|execute|fastpath)[^:]*: (.*)", re.DOTALL)
_SESSION = "LOG:  connection authorized"
_ERROR = re.compile(r"(?:ERROR|FATAL):  (.*)")
# An entry begins with its time; the further lines of a statement with a tab.
_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\d \d\d:)", re.MULTILINE)


@dataclass(frozen=True)
class Statement:
    """One statement and the milliseconds that the server worked on it."""

    text: str
    milliseconds: float


@dataclass(frozen=True)
class Work:
    """What a server did between two moments."""

    statements: tuple[Statement, ...]
    sessions: int
    errors: tuple[str, ...]

    @property
    def milliseconds(self) -> float:
        return sum(each.milliseconds for each in self.statements)

    def slowest(self, number: int) -> list[Statement]:
        return sorted(self.statements, key=lambda each: -each.milliseconds)[:number]


def watch(cluster: Cluster, act: Callable[[], Done]) -> tuple[Done, Work]:
    """Return what `act` returns and what the server did meanwhile. Nobody else may use the server."""
    before = cluster.log.stat().st_size
    done = act()
    with cluster.log.open("rb") as file:
        file.seek(before)
        return done, read(file.read().decode("utf-8", "replace"))


def read(text: str) -> Work:
    """Return what a part of a log tells."""
    statements: list[Statement] = []
    errors: list[str] = []
    sessions, before = 0, 0.0
    for entry in _ENTRY.split(text):
        sessions += _SESSION in entry
        found, error = _DURATION.search(entry), _ERROR.search(entry)
        if found is None:
            errors += [error.group(1)] if error else []
        elif found.group(2) in ("parse", "bind"):
            # Of a statement in steps the last step counts, with the time of all.
            before += float(found.group(1))
        else:
            statements.append(Statement(" ".join(found.group(3).split()), float(found.group(1)) + before))
            before = 0.0
    return Work(tuple(statements), sessions, tuple(errors))
