"""Ansible with its imports done: a process that forks for every run, because most of a short run is spent on what is the same in all.

What a run does is what `ansible-playbook` does with the same arguments. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import GroundError
from .process import die_with
from .servers import CHECKOUT


class Warm:
    """The parent's side: one process with a fixed environment, started when first asked."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = dict(environment)
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._busy = threading.Lock()

    @contextlib.contextmanager
    def free(self) -> Iterator[bool]:
        """Say whether a run may begin now: runs at the same time need a process each, and it would end with a thread that started it."""
        mine = threading.current_thread() is threading.main_thread() and self._busy.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                self._busy.release()

    def run(self, arguments: Sequence[str], changes: Mapping[str, str | None], scratch: Path) -> subprocess.CompletedProcess[str]:
        """Run ansible-playbook with `arguments`; `changes` are variables to set, or to unset where None. Call it inside `free`."""
        process = self._start()
        files = {name: scratch / name for name in ("stdout", "stderr")}
        asked = {
            "arguments": list(arguments),
            "changes": dict(changes),
            "folder": str(self.folder),
            **{name: str(path) for name, path in files.items()},
        }
        print(json.dumps(asked), file=process.stdin, flush=True)
        try:
            _answer(process)
            code = int(_answer(process)["code"])
        except BaseException:
            # Its end is the end of the run that it has forked.
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            self._process = None
            raise
        output = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in files.items()}
        return subprocess.CompletedProcess(list(arguments), code, **output)

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.ground.warm"],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=die_with(os.getpid(), signal.SIGTERM),  # noqa: PLW1509  (before any thread of this process)
            )
        return self._process


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise GroundError(f"the process that runs Ansible ended with code {process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


class _Ended(BaseException):
    """The process was told to end."""


def _serve() -> None:
    """Fork for every request on stdin until it closes."""
    from ansible.cli import playbook
    from ansible.executor import playbook_executor  # noqa: F401  (imported by every run)

    _load_plugins()

    def end(_number: int, _frame: object) -> None:
        raise _Ended

    signal.signal(signal.SIGTERM, end)
    child = 0
    try:
        for line in sys.stdin:
            child = os.fork()
            if child == 0:
                os._exit(_run(playbook.main, json.loads(line)))
            print(json.dumps({"pid": child}), flush=True)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            child = 0
            print(json.dumps({"code": code}), flush=True)
    except _Ended:
        if child:
            os.kill(child, signal.SIGINT)
            os.waitpid(child, 0)


def _load_plugins() -> None:
    """Load what every run loads: the metadata of the built-in plugins, and plugins with the options that they declare.

    It depends on nothing but Ansible's configuration, which does not change here.
    """
    from ansible import cli
    from ansible.executor.process import worker  # noqa: F401
    from ansible.playbook import included_file  # noqa: F401
    from ansible.plugins import loader

    loader.init_plugin_loader()
    # It is done, for every run.
    cli.init_plugin_loader = lambda *_paths: None
    for kind in ("callback", "connection", "shell", "become", "vars"):
        list(getattr(loader, f"{kind}_loader").all(class_only=True))
    for kind, names in _LOADED.items():
        for name in names:
            getattr(loader, f"{kind}_loader").get(name, class_only=True)
    # Every task that uses one would load them all, with what they import, in a fork of its own.
    for jinja in (loader.filter_loader, loader.test_loader):
        list(jinja.all())
    for path in sorted((CHECKOUT / "plugins" / "filter").glob("*.py")):
        loader.filter_loader.get(f"pgops.runbook.{path.stem}")


_LOADED = {
    "action": ("assert", "debug", "gather_facts", "normal", "set_fact"),
    "cache": ("memory",),
    "inventory": ("auto", "host_list", "ini", "script", "toml", "yaml"),
    "strategy": ("linear",),
}


def _run(main: Any, asked: dict[str, Any]) -> int:
    """Be the child: take over the run's environment and files, and return its exit code.

    The caller leaves without atexit handlers, which would remove the parent's temporary folder.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(asked["folder"])
    sys.path = [place for place in sys.path if place not in ("", str(CHECKOUT))]
    die_with(os.getppid(), signal.SIGINT)()
    os.setsid()
    for name, text in asked["changes"].items():
        os.environ.pop(name, None)
        if text is not None:
            os.environ[name] = text
    for descriptor, place in ((0, os.devnull), (1, asked["stdout"]), (2, asked["stderr"])):
        opened = os.open(place, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    try:
        main(["ansible-playbook", *asked["arguments"]])
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
