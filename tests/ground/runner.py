"""Run modules and playbooks of the collection through Ansible, as an operator does, and give back what they returned."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools import foreign_collections

from .account import owned_temporary_folder
from .errors import GroundError
from .process import run_interruptibly
from .servers import CHECKOUT
from .set_aside import SET_ASIDE
from .warm import Warm

COLLECTION = "pgops.runbook"
DRIVERS = ("psycopg2", "psycopg")
HERE = Path(__file__).resolve().parent


def collections_path() -> Path:
    """Return a folder to put on ANSIBLE_COLLECTIONS_PATH and sys.path: it holds `ansible_collections/pgops/runbook`."""
    if CHECKOUT.parts[-3:] == ("ansible_collections", *COLLECTION.split(".")):
        return CHECKOUT.parents[2]
    top = owned_temporary_folder() / ("collections-" + hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12])
    link = top / "ansible_collections" / Path(*COLLECTION.split("."))
    if link.resolve() != CHECKOUT:
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(f"{link.name}.{os.getpid()}")
        fresh.symlink_to(CHECKOUT, target_is_directory=True)
        fresh.replace(link)
    return top


@dataclass(frozen=True)
class TaskResult:
    """What one task gave on one host. `status` is ok, failed, ignored, skipped or unreachable; `result` is its JSON."""

    play: str
    host: str
    task: str
    action: str
    status: str
    result: dict[str, Any]


@dataclass(frozen=True)
class PlaybookResult:
    """The end of a run: the exit code, what it printed, every task's result, and the counts per host."""

    rc: int
    stdout: str
    stderr: str
    tasks: list[TaskResult]
    stats: dict[str, dict[str, int]] = field(default_factory=dict)

    def find(self, *, host: str | None = None, action: str | None = None, task: str | None = None) -> list[TaskResult]:
        """Return the results of `host`, of the module `action` (its short name will do), of the task named `task`."""
        return [
            one
            for one in self.tasks
            if host in (None, one.host)
            and task in (None, one.task)
            and (action is None or action in (one.action, one.action.rpartition(".")[2]))
        ]

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        return sum(counts.get("changed", 0) for counts in self.stats.values())


class AnsibleRunner:
    """Runs Ansible in `folder`, apart from the caller's configuration, with the modules' interpreter that runs this."""

    def __init__(self, folder: Path, *, python: str = sys.executable, verbosity: int = 0) -> None:
        self.folder = folder
        self.python = python
        self.verbosity = verbosity
        folder.mkdir(parents=True, exist_ok=True)
        # Ansible looks every millisecond whether a task has ended; runs beside each other keep a core busy with that.
        (folder / "ansible.cfg").write_text("[defaults]\ninternal_poll_interval = 0.005\n", encoding="ascii")
        self._warm = Warm(self.environment(), folder)

    def module(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        connection: Mapping[str, Any] | None = None,
        check: bool = False,
        diff: bool = False,
        driver: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run one module on the local host and return its JSON; `failed` is always in it. `connection` holds login_* options."""
        full = name if "." in name else f"{COLLECTION}.{name}"
        task = {"name": full, full: {**(connection or {}), **(arguments or {})}}
        play = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
        done = self.play(play, {"localhost": {}}, check=check, diff=diff, driver=driver, env=env)
        if len(done.tasks) != 1:
            raise GroundError(f"{full} gave {len(done.tasks)} results (exit code {done.rc})\n{done.stdout}\n{done.stderr}")
        return {"failed": done.tasks[0].status != "ok", "changed": False, **done.tasks[0].result}

    def play(self, plays: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]], **options: Any) -> PlaybookResult:
        """Run plays given as data. The options are those of `playbook`."""
        with tempfile.NamedTemporaryFile("w", suffix=".yml", dir=self.folder, encoding="utf-8") as file:
            json.dump(plays, file)
            file.flush()
            return self.playbook(file.name, hosts, **options)

    def playbook(
        self,
        name: str,
        hosts: Mapping[str, Mapping[str, Any]],
        *,
        check: bool = False,
        diff: bool = False,
        extra_vars: Mapping[str, Any] | None = None,
        driver: str | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> PlaybookResult:
        """Run a playbook, by its short name in the collection, its full name or a path, over `hosts` (host variables by name).

        The hosts form the group `databases`. `driver` hides every other driver; `none` hides all.
        """
        known = name if "." in name or "/" in name else f"{COLLECTION}.{name}"
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            inventory = Path(scratch) / "inventory.json"
            inventory.write_text(json.dumps(self.inventory(hosts)), encoding="utf-8")
            command = [known, "-i", str(inventory), *arguments]
            command += ["--check"] * check + ["--diff"] * diff + ["-" + "v" * self.verbosity] * bool(self.verbosity)
            if extra_vars:
                variables = Path(scratch) / "extra.json"
                variables.write_text(json.dumps(extra_vars), encoding="utf-8")
                command += ["-e", f"@{variables}"]
            results = Path(scratch) / "results"
            results.touch()
            environment = {**self.environment(driver), "GROUND_RESULTS": str(results), **(env or {})}
            done = self._run(command, environment, Path(scratch))
            entries = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
        tasks = [TaskResult(**entry) for entry in entries if "stats" not in entry]
        stats: dict[str, dict[str, int]] = next((entry["stats"] for entry in entries if "stats" in entry), {})
        return PlaybookResult(done.returncode, done.stdout, done.stderr, tasks, stats)

    def _run(self, command: Sequence[str], environment: Mapping[str, str], scratch: Path) -> subprocess.CompletedProcess[str]:
        """Run ansible-playbook, in the process that has it imported already where that process's own environment will do."""
        base = self._warm.environment
        changes = {name: environment.get(name) for name in {*base, *environment} if base.get(name) != environment.get(name)}
        with self._warm.free() as mine:
            # Ansible reads its own variables when it is imported, and the locale with them.
            if mine and not any(name.startswith(("ANSIBLE_", "LC_", "LANG", "HOME", "PATH", "TZ")) for name in changes):
                return self._warm.run(command, changes, scratch)
        return run_interruptibly([sys.executable, "-m", "ansible.cli.playbook", *command], self.folder, environment)

    def inventory(self, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return an inventory in Ansible's YAML form: the group `databases`, every host reached locally."""
        shared = {"ansible_connection": "local", "ansible_python_interpreter": self.python, **SET_ASIDE}
        return {"databases": {"hosts": {name: dict(variables) for name, variables in hosts.items()}, "vars": shared}}

    def environment(self, driver: str | None = None) -> dict[str, str]:
        """Return the environment of a run: no configuration and no PG* variable of the caller's."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("ANSIBLE_", "PG", "PYTHON", "JOB_ID"))}
        hidden = [str(self._hiding(name)) for name in DRIVERS if driver not in (None, name)]
        own = {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "home" / "local"),
            "ANSIBLE_REMOTE_TMP": str(self.folder / "home" / "remote"),
            # Those of others are there once a test has asked for them.
            "ANSIBLE_COLLECTIONS_PATH": f"{collections_path()}{os.pathsep}{foreign_collections.PATH}",
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "ground_results",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "PYTHONPATH": os.pathsep.join([*hidden, str(HERE / "compiled")]),
            "LC_ALL": "C.UTF-8",
        }
        return {**kept, **own}

    def _hiding(self, driver: str) -> Path:
        """Return a folder that, first on the module search path, makes `import driver` fail as if it were not installed."""
        folder = self.folder / f"without-{driver}"
        if not folder.is_dir():
            (folder / driver).mkdir(parents=True, exist_ok=True)
            text = f'raise ModuleNotFoundError("No module named {driver!r}", name={driver!r})\n'
            (folder / driver / "__init__.py").write_text(text, encoding="utf-8")
        return folder
