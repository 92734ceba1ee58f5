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


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child() -> None:
        # SIGQUIT is PostgreSQL's immediate shutdown: the data is thrown away, so speed and certainty count.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: nothing of the caller's PG* variables, messages in English."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PG", "LC_")) and name != "HOME"}
    return {**kept, "LANG": "C", "LC_ALL": "C", "HOME": "/"}


def run(command: Sequence[str | Path], folder: Path, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's account in `folder` and wait for it."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [str(part) for part in command],
        cwd=folder,
        env={**environment(), **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with(os.getpid()),
        **server_account().popen_options(),
    )


def spawn(command: Sequence[str | Path], folder: Path, log: Path, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start a program as the server's account with its output in `log`, in a session of its own so that Ctrl-C does not reach it.

    Unless `detached`, it ends when the calling thread's process does: call this from a thread that lives as long as the server shall.
    """
    with log.open("ab") as output:
        server_account().own(log.parent)
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [str(part) for part in command],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if detached else _die_with(os.getpid()),
            **server_account().popen_options(),
        )
