"""Runs of Ansible with the progress view, as a person or a log sees them."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ground.process import run_interruptibly
from tests.ground.runner import AnsibleRunner
from tests.integration.terminal import Seen, on_terminal

LIBRARY = Path(__file__).with_name("library")
LINE = re.compile(r"progress: \[(\w+)\] (\S+) (\d+)%( [\d.]+k?/s \d+:\d\d left)?$")
WITHOUT = {"ANSIBLE_CALLBACKS_ENABLED": "ground_results"}
Tasks = Sequence[Mapping[str, Any]]
Hosts = Mapping[str, Mapping[str, Any]]


class Watched:
    """Runs plays with the callback and without, on a terminal and into a file."""

    def __init__(self, runner: AnsibleRunner, folder: Path) -> None:
        self.folder = folder
        self.seen = folder / "seen"
        self._runner = runner
        own = {"ANSIBLE_LIBRARY": str(LIBRARY), "ANSIBLE_CALLBACKS_ENABLED": "pgops.runbook.progress", "TERM": "xterm"}
        own |= {"ANSIBLE_ASYNC_DIR": str(folder / "jobs"), "ANSIBLE_LOCAL_TEMP": str(folder / "local")}
        self.environment = {**runner.environment(), **own, "PGOPS_RUNBOOK_PROGRESS_INTERVAL": "1"}
        self.environment.pop("AWX_ISOLATED_DATA_DIR", None)

    def command(self, tasks: Tasks, hosts: Hosts, strategy: str = "linear") -> list[str]:
        play, inventory = self.folder / "play.json", self.folder / "hosts.json"
        play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "strategy": strategy, "tasks": list(tasks)}]), encoding="utf-8")
        inventory.write_text(json.dumps(self._runner.inventory(hosts)), encoding="utf-8")
        return [sys.executable, "-m", "ansible.cli.playbook", str(play), "-i", str(inventory)]

    def terminal(self, tasks: Tasks, hosts: Hosts, **options: Any) -> Seen:
        """Run on a terminal; the file `seen` is there once each host has stood on it with two numbers below all, or `look` made it."""
        environment = {**self.environment, **options.pop("env", {})}
        found: dict[str, set[int]] = {host: set() for host in hosts}

        def look(screen: list[str]) -> None:
            for host, numbers in found.items():
                numbers.update(number for number in percentages(screen, host) if 0 < number < 100)
            if all(len(numbers) >= 2 for numbers in found.values()):
                self.seen.touch()

        return on_terminal(self.command(tasks, hosts), self.folder, environment, **{"look": look, **options})

    def log(self, tasks: Tasks, hosts: Hosts, strategy: str = "linear", **env: str) -> list[str]:
        """Run into a file; the file `seen` is there once each host stands in it twice."""
        command = ["/bin/sh", "-c", '"$@" | tee log', "sh", *self.command(tasks, hosts, strategy)]
        with self._followed(self.folder / "log", hosts):
            done = run_interruptibly(command, self.folder, {**self.environment, **env})
        assert done.stderr == ""
        return done.stdout.rstrip("\n").split("\n")

    @contextmanager
    def _followed(self, log: Path, hosts: Hosts) -> Iterator[None]:
        over = threading.Event()

        def follow() -> None:
            while not over.wait(0.1):
                lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
                if all(len(percentages(lines, host)) >= 2 for host in hosts):
                    self.seen.touch()

        log.unlink(missing_ok=True)
        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def left_behind(self) -> list[Path]:
        """Return what the callback has made and not removed."""
        return list(self.folder.glob("local/**/progress-*"))


def percentages(lines: list[str], host: str = "one") -> list[int]:
    """Return what is shown of a host in `lines`."""
    return [int(found[3]) for found in map(LINE.match, lines) if found and found[1] == host]


def shown(seen: Seen, host: str = "one") -> list[int]:
    """Return what a terminal showed of a host, in order."""
    found = [number for screen in seen.screens for number in percentages(screen, host)]
    return list(dict.fromkeys(found))


def below_the_output(screen: list[str]) -> bool:
    """Tell whether the lines of the callback stand together at the end of a screen."""
    ours = [line.startswith("progress: ") for line in screen]
    return ours == sorted(ours)
