"""usage: python -m tests.benchmarks.health [--tables N] [--repeats N] [--part NAME ...] [--pg-major N]

The tiers of pg_health on a database with very many tables; the hourly one against the same questions as tasks of community.postgresql; all
against check_pgactivity and check_postgres. Server ms are what the server's log says of every statement, see health_log; server CPU is what
its processes worked, the start of the session included, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import health_monitors, health_questions
from tests.benchmarks.health_database import DATABASE, counts, fill, settings
from tests.benchmarks.health_log import Work, watch
from tests.benchmarks.health_tier import look, look_as_process
from tests.benchmarks.turns import print_title, seconds_worked
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.errors import ProgramMissing
from tests.ground.runner import AnsibleRunner
from tests.tools import foreign_collections

TABLES, REPEATS, TOP = 10_000, 7, 10
# Milliseconds on the server, and round trips of an hourly look.
MOST_MS = {"hourly": 100.0, "daily": 1000.0}
MOST_TRIPS = 3
OURS = "pg_health"


@dataclass(frozen=True)
class Run:
    """One run of anything: its wall seconds, the processors' seconds on the server, what the server did, and the bytes that came out."""

    seconds: float
    cpu: float
    work: Work
    size: int


def once(cluster: Cluster, act: Callable[[], int]) -> Run:
    """Run `act`, which returns the bytes of its output."""
    before, began = seconds_worked(cluster), time.perf_counter()
    size, work = watch(cluster, act)
    seconds = time.perf_counter() - began
    return Run(seconds, seconds_worked(cluster) - before, work, size)


def in_turns(cluster: Cluster, ways: Mapping[str, Callable[[], int]], repeats: int) -> dict[str, list[Run]]:
    """Run every way `repeats` times, each turn in the other order."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in sorted(ways, key=list(ways).index, reverse=bool(turn % 2)):
            runs[name].append(once(cluster, ways[name]))
    return runs


def print_runs(runs: Mapping[str, Sequence[Run]], base: str) -> None:
    """Print a line for each way, with how many times as much as `base` it took: medians of the ratios, turn by turn."""
    head = f"{'wall s':>8} {'ratio':>7} {'sessions':>9} {'statements':>11} {'server ms':>10} {'ratio':>7} {'CPU ms':>8} {'bytes':>10}"
    print(f"  {'':52} {head}")
    figures = {name: [_figures(run) for run in found] for name, found in runs.items()}
    for name, found in runs.items():
        wall, server, cpu = (statistics.median(numbers) for numbers in zip(*figures[name], strict=True))
        pairs = list(zip(figures[name], figures[base], strict=True))
        ratios = [statistics.median(mine[place] / theirs[place] for mine, theirs in pairs) for place in (0, 1)]
        last = found[-1]
        print(
            f"  {name:52} {wall:8.2f} {ratios[0]:6.1f}x {last.work.sessions:9,} {len(last.work.statements):11,} {server:10.1f}"
            f" {ratios[1]:6.1f}x {cpu:8.0f} {last.size:10,}",
            flush=True,
        )


def _figures(run: Run) -> tuple[float, float, float]:
    return run.seconds, run.work.milliseconds, run.cpu * 1000


def tiers(cluster: Cluster, repeats: int) -> None:
    """Print what each tier costs, check by check where it may be too much."""
    for tier, times in (("hourly", repeats * 3), ("daily", repeats), ("weekly", max(1, repeats // 2)), ("monthly", 1)):
        print_title(f"{OURS}, tier {tier}, in process, medians of {times} runs")
        tier_once(cluster, tier, times)


def tier_once(cluster: Cluster, tier: str, times: int) -> None:
    """Print one tier: round trips, milliseconds, bytes; the checks and statements that take most."""
    login, results = cluster.login(DATABASE, tcp=False), list[dict[str, Any]]()

    def act() -> int:
        results.append(look(login, tier))
        return len(json.dumps(results[-1]))

    act()  # the caches of a server that is asked every hour are warm
    results.clear()
    began = time.process_time()
    runs = [once(cluster, act) for _turn in range(times)]
    client = (time.process_time() - began) / times * 1000
    walls, server, cpu = ([figures[place] for figures in map(_figures, runs)] for place in (0, 1, 2))
    last, result = runs[-1], results[-1]
    aside = len(last.work.statements) - result["round_trips"]
    print(f"  round trips     {result['round_trips']:9,}    and {aside} that prepare the session, {last.work.sessions} session")
    print(f"  wall            {statistics.median(walls) * 1000:9.1f} ms of {min(walls) * 1000:.1f} to {max(walls) * 1000:.1f}")
    print(f"  server          {statistics.median(server):9.1f} ms of {min(server):.1f} to {max(server):.1f}")
    print(f"  server CPU      {statistics.mean(cpu):9.1f} ms, the mean, with the start of the session")
    print(f"  this process    {client:9.1f} ms of CPU, the mean")
    found, unknown = len(result["findings"]), ", ".join(result["unknown"]) or "nothing"
    print(f"  result          {last.size:9,} bytes, {len(result['checks'])} checks, {found} findings named; unknown: {unknown}")
    if tier in MOST_MS:
        trips = f", {MOST_TRIPS} round trips" if tier == "hourly" else ""
        few = tier != "hourly" or result["round_trips"] <= MOST_TRIPS
        said = [
            f"{'met' if few and amount <= MOST_MS[tier] else 'MISSED'} by {what}"
            for what, amount in (("the server's CPU", statistics.mean(cpu)), ("the clock, load included", statistics.median(server)))
        ]
        print(f"  target          {MOST_MS[tier]:9.1f} ms on the server{trips}: {', '.join(said)}", flush=True)
    _print_most("ms by check", _medians([{check["id"]: check["timing_ms"] for check in each["checks"]} for each in results]))
    by_statement: list[dict[str, float]] = []
    for run in runs:
        summed: dict[str, float] = defaultdict(float)
        for statement in run.work.statements:
            summed[statement.text[:110]] += statement.milliseconds
        by_statement.append(summed)
    _print_most("ms by statement", _medians(by_statement))


def _medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each.get(name, 0.0) for each in found) for name in found[-1]}


def _print_most(title: str, amounts: Mapping[str, float]) -> None:
    print(f"  {title}")
    for name in sorted(amounts, key=lambda each: -amounts[each])[:TOP]:
        print(f"    {amounts[name]:8.1f}  {name}", flush=True)


def tasks(cluster: Cluster, repeats: int) -> None:
    """Print the hourly questions as a playbook of community.postgresql against the one task of ours."""
    try:
        foreign_collections.ensure()
    except ProgramMissing as error:
        print_title(f"NOT COMPARED with community.postgresql: {error}")
        return
    login = cluster.login(DATABASE)
    hourly = [check["id"] for check in look(login, "hourly")["checks"] if check["status"] != "skipped"]
    plays: dict[str, list[dict[str, Any]]] = {
        "one task of pg_health": health_questions.our_task(login),
        f"{len(health_questions.ASKED)} tasks of community.postgresql": health_questions.separate_tasks(login),
        "a playbook without a task": [{"name": "nothing", "ansible.builtin.meta": "noop"}],
    }
    times = max(1, repeats // 2)
    print_title(f"The hourly questions as playbooks, a process of ansible-playbook each, medians of {times} turns")
    with tempfile.TemporaryDirectory() as folder:
        runner = AnsibleRunner(Path(folder))

        def act(given: list[dict[str, Any]]) -> int:
            return health_questions.result_bytes(health_questions.play(runner, given))

        runs = in_turns(cluster, {name: functools.partial(act, given) for name, given in plays.items()}, times)
    print_runs(runs, next(iter(plays)))
    left_out = [name for name in hourly if name not in health_questions.ASKED]
    print(f"  answered by {OURS} here and asked by no task: {', '.join(left_out) or 'nothing'}", flush=True)


def monitors(cluster: Cluster, repeats: int) -> None:
    """Print the programs of Debian against the tiers that answer the same."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = health_monitors.monitors(cluster, DATABASE, Path(folder))
        except ProgramMissing as error:
            print_title(f"NOT COMPARED with check_pgactivity and check_postgres: {error}")
            return
        for kind, times in (("hourly", max(1, repeats // 2)), ("weekly", max(1, repeats // 3))):
            _compare(cluster, found, kind, times)
    for monitor in found:
        for service, said in monitor.unanswered.items():
            print(f"  no answer from {monitor.name} {service}: {said}", flush=True)
    print(f"  {health_monitors.MISSING}", flush=True)


def _compare(cluster: Cluster, found: Sequence[health_monitors.Monitor], kind: str, times: int) -> None:
    login = cluster.login(DATABASE, tcp=False)
    services = {monitor.name: [*monitor.hourly, *(monitor.weekly if kind == "weekly" else ())] for monitor in found}
    ways: dict[str, Callable[[], int]] = {
        f"{OURS}, tier {kind}, in process": lambda: len(json.dumps(look(login, kind))),
        f"{OURS}, tier {kind}, start of Python included": lambda: len(look_as_process(login, kind)),
        **{
            f"{monitor.name} {monitor.version}, {len(services[monitor.name])} services": functools.partial(
                monitor.run, services[monitor.name]
            )
            for monitor in found
        },
    }
    what = "the daily and the weekly tier, bloat included" if kind == "weekly" else f"the {kind} tier"
    print_title(f"Programs that answer parts of {what}, medians of {times} turns")
    print_runs(in_turns(cluster, ways, times), list(ways)[1])
    for monitor in found:
        print(f"  {monitor.name}: {', '.join(service[0] for service in services[monitor.name])}", flush=True)


PARTS: dict[str, Callable[[Cluster, int], None]] = {"tiers": tiers, "tasks": tasks, "monitors": monitors}


def main() -> None:
    """Start a server, fill it, measure every part that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.health", description=__doc__)
    parser.add_argument("--tables", type=int, default=TABLES, help=f"tables, with three indexes each (default {TABLES:,})")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"runs of the daily tier; all others follow (default {REPEATS})")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="only this part; may be given several times")
    parser.add_argument("--pg-major", type=int, help="major version of the server, 13 or newer (default: the newest installed)")
    given = parser.parse_args()
    wanted = given.part or list(PARTS)
    with Cluster(servers.with_features(given.pg_major), settings=settings(given.tables), checksums=True) as cluster:
        began = time.perf_counter()
        fill(cluster, given.tables)
        source = f"PostgreSQL {cluster.installation.major} ({cluster.installation.source})"
        print(f"{source}, filled in {time.perf_counter() - began:.0f} s: {counts(cluster)}", flush=True)
        for name in wanted:
            PARTS[name](cluster, given.repeats)
    left_out = [name for name in PARTS if name not in wanted]
    print(f"\nNot run: {', '.join(left_out) or 'nothing was left out'}. Load average {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main()
