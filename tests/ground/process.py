"""A server process that never outlives its parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .account import server_account

PR_SET_PDEATHSIG = 1
# PostgreSQL's immediate shutdown: the data is thrown away, so speed and certainty count.
IMMEDIATE = signal.SIGQUIT


def die_with(parent: int, number: int = IMMEDIATE) -> Callable[[], None]:
    """Return what a child calls before it executes its program, so that it gets the signal when its parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: nothing of the caller's PG* variables, messages in English."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PG", "LC_")) and name != "HOME"}
    return {**kept, "LANG": "C", "LC_ALL": "C", "HOME": "/"}


def run(command: Sequence[str | Path], folder: Path, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's account in `folder` and wait for it."""
    return subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command],
        cwd=folder,
        env={**environment(), **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with(os.getpid()),
        **server_account().popen_options(),
    )


def run_interruptibly(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program as oneself and wait for it; when this process is interrupted or killed, so is the program, which may tidy up."""
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with(os.getpid(), signal.SIGINT),
    )
    try:
        output, errors = child.communicate()
    except BaseException:
        child.send_signal(signal.SIGINT)
        try:
            child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
        raise
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def spawn(command: Sequence[str | Path], folder: Path, log: Path, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start a program as the server's account with its output in `log`, in a session of its own so that Ctrl-C does not reach it.

    Unless `detached`, it ends when the calling thread's process does: call this from a thread that lives as long as the server shall.
    """
    with log.open("ab") as output:
        server_account().own(log.parent)
        return subprocess.Popen(  # type: ignore[call-overload]
            [str(part) for part in command],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if detached else die_with(os.getpid()),
            **server_account().popen_options(),
        )
