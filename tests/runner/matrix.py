"""The integration tests on every supported major of PostgreSQL, one after the other."""

from __future__ import annotations

import os

from tests.runner import stages
from tests.runner.schedule import Run
from tests.runner.steps import Count

MAJORS = range(12, 19)


def majors() -> list[int]:
    """Return the majors to run: those in the variable MAJORS, or all."""
    return [int(word) for word in os.environ.get("MAJORS", "").replace(",", " ").split()] or list(MAJORS)


def run() -> Count:
    """Run, print a table, and return the count of all."""
    counts: dict[int, Count] = {}
    for major in majors():
        counts[major] = Run([stages.pytest(["tests/integration"], f"PostgreSQL {major}", major)]).go()
    print("\nmajor   passed  failed  skipped")
    for major, count in counts.items():
        print(f"{major:5}   {count.passed:6}  {count.failed:6}  {count.skipped:7}")
    return sum(counts.values(), Count())
