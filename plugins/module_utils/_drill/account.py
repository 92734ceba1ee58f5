# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account that runs a scratch server, and processes of it that end with this one and see no network."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

_libc = ctypes.PyDLL(None)  # loaded before any fork, and called there without letting go of the interpreter's lock
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000
# What is restored may run code. On a database host the files of postgres are those of production.
_DEFAULT_ACCOUNTS = ("nobody", "postgres")


@dataclass(frozen=True)
class Account:
    """Who runs the server. `switch` says whether this process is root and its children must become that account."""

    name: str
    uid: int
    gid: int
    switch: bool

    def own(self, path: Path) -> None:
        """Give `path` to the account."""
        if self.switch:
            os.chown(str(path), self.uid, self.gid)


def server_account(run_as: str | None) -> Account:
    """Return the account that runs the server: oneself, or for root `run_as`, else nobody, else that of postgres.

    Raises InvalidValue for an account that is not there, that is root, or that an ordinary user may not become.
    """
    me = os.geteuid()
    if me != 0:
        if run_as and _uid(run_as) != me:
            hint = "Leave run_as out, or run the module as root (become)."
            raise InvalidValue(f"run_as: only root can run a server as {run_as}", object_name="run_as", hint=hint)
        return Account(account_name(me), me, os.getegid(), switch=False)
    for name in (run_as,) if run_as else _DEFAULT_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise InvalidValue("run_as: a PostgreSQL server refuses to run as root; name another account", object_name="run_as")
        return Account(name, entry.pw_uid, entry.pw_gid, switch=True)
    missing = f"there is no account {run_as}" if run_as else f"there is none of the accounts {' and '.join(_DEFAULT_ACCOUNTS)}"
    raise InvalidValue(f"run_as: a PostgreSQL server refuses to run as root, and {missing} on this host; name one", object_name="run_as")


def spawn(command: Sequence[str], account: Account, folder: Path, output: Any, *, alone: bool = False) -> subprocess.Popen[bytes]:
    """Start a program as `account` in `folder`, in a session of its own, with what it says going to `output`.

    It ends when this process does, however that ends; so this must be called from the main thread. `alone` leaves it without a network
    where this process may do that. It gets nothing of the PG* variables, and writes messages in English.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=str(folder),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_in_child(account, alone),  # noqa: PLW1509  (it takes no lock and imports nothing)
    )


def sees_network(process: int) -> bool:
    """Return whether a process is in the same network as this one."""
    return os.readlink(f"/proc/{process}/ns/net") == os.readlink("/proc/self/ns/net")


def runs_a_server(account: Account, *, unless_in: str) -> bool:
    """Return whether `account` runs a server beside those whose working folder has `unless_in` in its path."""
    return any(_is_server(entry, account, unless_in) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _is_server(process: Path, account: Account, unless_in: str) -> bool:
    try:
        named = (process / "comm").read_text(encoding="utf-8", errors="replace").strip() == "postgres"
        return named and process.stat().st_uid == account.uid and unless_in not in os.readlink(str(process / "cwd"))
    except OSError:
        # It has ended, or is somebody else's.
        return False


def _in_child(account: Account, alone: bool) -> Callable[[], None]:
    """Return what the child runs before the program: what it needs is looked up here, before the fork."""
    prctl, unshare = _libc.prctl, _libc.unshare
    parent, quit_at_once = os.getpid(), int(signal.SIGQUIT)

    def prepare() -> None:
        if alone:
            # Refused without CAP_SYS_ADMIN, which changes nothing; `sees_network` tells.
            unshare(_CLONE_NEWNET)
        if account.switch:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        os.umask(0o077)
        # After the change of the account, which would clear it. Immediate shutdown: nothing of the data is kept.
        prctl(_PR_SET_PDEATHSIG, quit_at_once, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _environment() -> Dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "HOME": "/"}


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise InvalidValue(f"run_as: there is no account {name} on this host", object_name="run_as") from None


def account_name(uid: int) -> str:
    """Return what an account is called."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        # A container may run under a number that nobody has named.
        return str(uid)
