"""Runs steps side by side as far as the cores go, shows each as it ends, and counts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from tests.runner.environment import cpus
from tests.runner.steps import Count, Ended, Processes, Step

SIGN_OF_LIFE_SECONDS = 60.0


class Cores:
    """As many cores as the machine has; a step that wants more than all of them gets all."""

    def __init__(self, count: int) -> None:
        self._all = self._free = count
        self._changed = threading.Condition()

    def take(self, wanted: int) -> int:
        """Wait for `wanted` cores; return how many were taken."""
        wanted = min(wanted, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        return wanted

    def give(self, count: int) -> None:
        """Give `count` cores back."""
        with self._changed:
            self._free += count
            self._changed.notify_all()


def _give_back(cores: Cores, count: int, _ended: Future[None]) -> None:
    cores.give(count)


class Run:
    """One run over some steps; `total` is the sum of their counts so far."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.total = Count()
        self.counts: dict[str, Count] = {}
        self._processes = Processes()
        self._running: list[str] = []
        self._lock = threading.Lock()
        self._done = threading.Event()

    def go(self) -> Count:
        """Run all steps, whatever becomes of each; return the count of them all."""
        cores = Cores(cpus())
        threading.Thread(target=self._sign_of_life, daemon=True).start()
        pool = ThreadPoolExecutor(max(1, len(self.steps)))
        try:
            futures = []
            for step in self.steps:
                taken = cores.take(step.cores)
                futures.append(pool.submit(self._one, step))
                futures[-1].add_done_callback(partial(_give_back, cores, taken))
            for future in futures:
                future.result()
        finally:
            self._done.set()
            self._processes.close()
            pool.shutdown(cancel_futures=True)
        return self.total

    def _one(self, step: Step) -> None:
        with self._lock:
            self._running.append(step.name)
        began = time.monotonic()
        ended = self._processes.run(step)
        try:
            count = step.judge(ended)
        except Exception as error:  # noqa: BLE001  (a judge that fails must not hide the step's output or the other steps)
            ended = Ended(ended.code, f"{ended.output}\nits result cannot be read: {error!r}\n")
            count = Count(failed=1)
        with self._lock:
            self._running.remove(step.name)
            self.total += count
            self.counts[step.name] = count
            self._print(step, ended, count, time.monotonic() - began)

    def _print(self, step: Step, ended: Ended, count: Count, seconds: float) -> None:
        word = "FAILED" if count.failed else "ok"
        print(f"{word:6} {step.name:28} {seconds:6.1f} s   {count}", flush=True)
        if count.failed:
            print("\n".join(f"       | {line}" for line in step.explain(ended.output).splitlines()), flush=True)
        elif step.show:
            print(f"       | {step.show(ended.output)}", flush=True)

    def _sign_of_life(self) -> None:
        began = time.monotonic()
        while not self._done.wait(SIGN_OF_LIFE_SECONDS):
            with self._lock:
                names = ", ".join(self._running)
                print(f"       after {time.monotonic() - began:.0f} s still running: {names}", file=sys.stderr, flush=True)
