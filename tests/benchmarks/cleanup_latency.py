"""How long an application's look-ups, inserts and renewals take while expired rows are removed from their table."""

from __future__ import annotations

import hashlib
import multiprocessing
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.benchmarks import cleanup_engine
from tests.benchmarks.cleanup_tables import DELETE, DENIED, RULE, TOKENS, fill_tokens
from tests.benchmarks.turns import MEASURED, fresh, print_title
from tests.ground.cluster import Cluster

CLIENTS, INTERVAL = 8, 0.02  # sessions, and seconds between two beats of each: by turns a look-up and an insert
RENEWAL_INTERVAL = 0.05  # of one more session, which gives expired tokens a new term, as an application does with sessions
WARM, QUIET = 1.0, 5.0  # seconds
LOOK_UP, INSERT, RENEWAL = "look-up", "insert", "renewal"
INSERTED = f"INSERT INTO {TOKENS} SELECT gen_random_uuid(), 'sub', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC' + interval '1 hour'"
RENEWED = f"UPDATE {TOKENS} SET expires_at = now() AT TIME ZONE 'UTC' + interval '1 hour' WHERE jwt_uuid = %s"
LOOKED_UP = f"SELECT (SELECT expires_at FROM {TOKENS} WHERE jwt_uuid = %(id)s), EXISTS (SELECT FROM {DENIED} WHERE jwt_uuid = %(id)s)"


@dataclass(frozen=True)
class Sample:
    """When something was due, by the machine's clock that never goes back, and how long after that it was done."""

    what: str
    due: float
    seconds: float


def compare(cluster: Cluster, rows: int, repeats: int) -> None:
    """Print the percentiles of a quiet run, of one DELETE, and of pg_cleanup with two lengths of a batch."""
    template = fill_tokens(cluster, "latency", rows, "at random")
    ways: dict[str, Callable[[dict[str, Any]], object]] = {
        "quiet": lambda _login: time.sleep(QUIET),
        "one DELETE": lambda _login: _delete(cluster),
        "pg_cleanup, batches of 200 ms": _engine("200 ms", "never"),
        "pg_cleanup, batches of 50 ms": _engine("50 ms", "never"),
        "pg_cleanup, batches of 200 ms, and its VACUUM": _engine("200 ms", "auto"),
    }
    beats = f"{CLIENTS} sessions, {CLIENTS / INTERVAL / 2:.0f} look-ups and inserts a second each, {1 / RENEWAL_INTERVAL:.0f} renewals"
    print_title(f"Latency in milliseconds from the moment when it was due, {rows // 2:,} of {rows:,} rows go; {beats}; {repeats} runs each")
    print(f"  {'':48}{'seconds':>8}" + "".join(f"{what:>10} p50    p99    max" for what in (LOOK_UP, INSERT, RENEWAL)))
    found: dict[str, list[Sample]] = {name: [] for name in ways}
    lasted: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in sorted(ways, key=list(ways).index, reverse=bool(turn % 2)):
            samples, seconds = _under_load(cluster, template, rows, ways[name])
            found[name] += samples
            lasted[name].append(seconds)
    for name, samples in found.items():
        _print(name, samples, statistics.median(lasted[name]), found["quiet"])
    cluster.drop_database(template)


def _engine(batch_time: str, vacuum: str) -> Callable[[dict[str, Any]], object]:
    parameters = {"rules": [RULE], "batch_time": batch_time, "vacuum": vacuum}
    return lambda login: cleanup_engine.clean_up(login, parameters)


def _delete(cluster: Cluster) -> None:
    with cluster.connect(MEASURED) as connection:
        connection.execute(DELETE)


def _under_load(cluster: Cluster, template: str, rows: int, act: Callable[[dict[str, Any]], object]) -> tuple[list[Sample], float]:
    """Return what the application felt while `act` ran, and how long that was. The application is a process of its own."""
    login = fresh(cluster, template)
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    application = context.Process(target=run_application, args=(cluster.address(MEASURED), rows, stop, answers), daemon=True)
    application.start()
    if answers.get(timeout=60) != "ready":
        raise AssertionError("the application did not start")
    time.sleep(WARM)
    began = time.monotonic()
    act(login)
    ended = time.monotonic()
    stop.set()
    samples: list[Sample] = answers.get(timeout=60)
    application.join()
    # What was due before it began and waited into it counts, and what was due in it and ended later.
    return [one for one in samples if one.due <= ended and one.due + one.seconds >= began], ended - began


def run_application(address: dict[str, Any], rows: int, stop: Any, answers: queue.Queue[Any]) -> None:
    """Be the application until `stop` is set: every beat at its time, whether or not the one before it was late."""
    samples: list[Sample] = []
    ready = threading.Barrier(CLIENTS + 2)
    beats = [((LOOK_UP, INSERT), INTERVAL, number) for number in range(CLIENTS)] + [((RENEWAL,), RENEWAL_INTERVAL, CLIENTS)]
    threads = [threading.Thread(target=_beat, args=(address, rows, *beat, ready, stop, samples)) for beat in beats]
    for thread in threads:
        thread.start()
    ready.wait()
    answers.put("ready")
    for thread in threads:
        thread.join()
    answers.put(samples)


def _beat(
    address: dict[str, Any],
    rows: int,
    what: tuple[str, ...],
    interval: float,
    number: int,
    ready: threading.Barrier,
    stop: Any,
    samples: list[Sample],
) -> None:
    chance = random.Random(number)
    with psycopg.connect(**address, autocommit=True, prepare_threshold=1) as connection:
        ready.wait()
        due = time.monotonic() + interval * number / CLIENTS
        count = 0
        while not stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            kind = what[count % len(what)]
            _act(connection, kind, rows, chance)
            samples.append(Sample(kind, due, time.monotonic() - due))
            count, due = count + 1, due + interval


def _act(connection: psycopg.Connection[Any], kind: str, rows: int, chance: random.Random) -> None:
    if kind == INSERT:
        connection.execute(INSERTED)
        return
    token = hashlib.md5(str(chance.randint(1, rows)).encode(), usedforsecurity=False).hexdigest()
    if kind == LOOK_UP:
        connection.execute(LOOKED_UP, {"id": token}).fetchone()
    else:
        connection.execute(RENEWED, [token])


def _print(name: str, samples: list[Sample], seconds: float, quiet: list[Sample]) -> None:
    columns = []
    for what in (LOOK_UP, INSERT, RENEWAL):
        p50, p99, most = _figures(samples, what)
        columns.append(f"{p50:14.2f} {p99:6.1f} {most:6.0f}")
    print(f"  {name:48}{seconds:8.2f}" + "".join(columns), flush=True)
    ratios = {what: _figures(samples, what)[1] / _figures(quiet, what)[1] for what in (LOOK_UP, INSERT)}
    if samples is not quiet:
        print(f"  {'':48}p99 against quiet: " + ", ".join(f"{what} {ratio:.2f} times" for what, ratio in ratios.items()), flush=True)


def _figures(samples: list[Sample], what: str) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the maximum in milliseconds."""
    found = sorted(1000 * one.seconds for one in samples if one.what == what)
    return statistics.median(found), found[min(len(found) - 1, int(0.99 * len(found)))], found[-1]
