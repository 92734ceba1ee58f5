# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scratch server for one drill: behind a socket in a private folder, without anything of a production server, gone with its run.

What a backup holds may be code of whoever owned the source: the server runs it as an account of its own, without network where that can
be had, with event triggers off and no library loaded in advance, and archives nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterator, Mapping, Sequence, Type

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._drill.account import Account, sees_network, spawn
from ansible_collections.pgops.runbook.plugins.module_utils._drill.scratch import ScratchFolder
from ansible_collections.pgops.runbook.plugins.module_utils._drill.servers import ServerPrograms
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed

PORT = 5432
FIRST_SUPERUSER = "postgres"
START_SECONDS = 60.0
# What makes the scratch server faster than one that keeps its data: a result names it beside the time that was measured.
FASTER = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "autovacuum": "off",
    "data_checksums": "off",
}
_BY_INITDB = "data_checksums"
_CHECKSUMS_SINCE = 18  # initdb turns them on by itself
_ALONE = {
    "listen_addresses": "",
    "port": str(PORT),
    "archive_mode": "off",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "max_wal_senders": "0",
    "synchronous_standby_names": "",
    "cluster_name": "pgops_drill",
    "unix_socket_permissions": "0700",
    "log_destination": "stderr",
    "logging_collector": "off",
    "lc_messages": "C",
}
_TROUBLE = re.compile(r"\b(FATAL|PANIC|ERROR|error):")
_MEGABYTE = 1 << 20
_SHARED_MEMORY_ENOUGH = 1024 * _MEGABYTE


class ScratchCluster:
    """One server in a folder of its own."""

    def __init__(self, programs: ServerPrograms, folder: ScratchFolder, account: Account, *, jobs: int) -> None:
        self.programs = programs
        self.superuser = FIRST_SUPERUSER
        self.data = folder.server / "data"
        self.log = folder.server / "server.log"
        self._folder = folder.server
        self._account = account
        # What a backup says of the roles of the source (no login, another default) cannot touch this one.
        self._user = f"pgops_drill_{secrets.token_hex(4)}"
        faster = {name: text for name, text in FASTER.items() if name != _BY_INITDB}
        self._settings = {**_ALONE, **faster, **_measured(jobs), "unix_socket_directories": str(folder.server)}
        if programs.major >= 17:
            self._settings["event_triggers"] = "off"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ScratchCluster:
        return self

    def __exit__(self, kind: Type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def begin(self) -> None:
        """Let initdb start to make the data folder; other work can go on meanwhile. Raises ProgramFailed."""
        options = ["-D", str(self.data), "-U", FIRST_SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        options += ["--no-data-checksums"] if self.programs.major >= _CHECKSUMS_SINCE else []
        with self._output() as output:
            self._process = self._spawned("initdb", [self.programs.program("initdb"), *options], output)

    def start(self) -> None:
        """Wait for initdb and start the server. Raises ProgramFailed."""
        code = self._begun().wait()
        if code != 0:
            raise self._failed("initdb", code)
        # Not in a file: root would write it where another account can put a link, and what is restored could change it (ALTER SYSTEM).
        settings = [word for name, text in sorted(self._settings.items()) for word in ("-c", f"{name}={text}")]
        with self._output() as output:
            command = [self.programs.program("postgres"), "-D", str(self.data), *settings]
            self._process = self._spawned("postgres", command, output)
        self._wait_until_ready()

    def stop(self) -> None:
        """End the server, or initdb, at once: nothing of the data is kept. More than once does no harm."""
        if self._process is None:
            return
        for number, seconds in ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 10.0)):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                try:
                    self._process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        self._process = None

    def name_superuser(self, name: str, application_name: str) -> None:
        """Make the drill's own login, and call the server's first superuser `name`, as that of the source. Raises DatabaseError."""
        with connect(self._login(FIRST_SUPERUSER, "postgres"), application_name=application_name, read_only=False) as database:
            database.execute(database.sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(database.sql.Identifier(self._user)))
        if name != FIRST_SUPERUSER:
            with connect(self._login(self._user, "postgres"), application_name=application_name, read_only=False) as database:
                names = map(database.sql.Identifier, (FIRST_SUPERUSER, name))
                database.execute(database.sql.SQL("ALTER ROLE {} RENAME TO {}").format(*names))
        self.superuser = name

    def login(self) -> ConnectionOptions:
        """Return how to reach it after `name_superuser`, acting as the first superuser so that what a restore makes belongs to that."""
        return self._login(self._user, "postgres", self.superuser)

    def _login(self, user: str, database: str, role: str | None = None) -> ConnectionOptions:
        return ConnectionOptions(
            login_unix_socket=str(self._folder), login_port=str(PORT), login_user=user, login_db=database, session_role=role
        )

    @property
    def has_network(self) -> bool:
        """Whether what runs in the server could reach a network."""
        return self._process is None or sees_network(self._process.pid)

    def log_tail(self, characters: int = 1500) -> str:
        """Return the end of what the server said."""
        try:
            # It stands in a folder of the server's account, which may have put a link there to what only root can read.
            handle = os.open(str(self.log), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return ""
        with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
            return file.read()[-characters:].strip()

    def _spawned(self, name: str, command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        try:
            return spawn(command, self._account, self._folder, output, alone=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise ProgramFailed(
                f"{name} cannot be started as {self._account.name} in {self._folder}: {said}",
                program=name,
                code=-1,
                hint="That account has to be able to enter scratch_folder and to run the programs of the server.",
            ) from None

    @contextmanager
    def _output(self) -> Iterator[int]:
        handle = os.open(str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    def _begun(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ValueError("begin comes first")
        return self._process

    def _wait_until_ready(self) -> None:
        server = self._begun()
        status = self.data / "postmaster.pid"
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if server.poll() is not None:
                raise self._failed("postgres", server.returncode)
            # The eighth line of this file is the server's state.
            lines = status.read_text(encoding="utf-8").split("\n") if status.exists() else []
            if len(lines) > 7 and lines[7].strip() == "ready":
                return
            time.sleep(0.01)
        raise self._failed("postgres", -1, f"was not ready after {START_SECONDS:g} s")

    def _failed(self, program: str, code: int, how: str | None = None) -> ProgramFailed:
        said = self.log_tail()
        lines = said.splitlines() or ["it said nothing"]
        told = next((line for line in reversed(lines) if _TROUBLE.search(line)), lines[-1])
        message = f"the scratch server's {program} {how or f'ended with code {code}'}: {told}"
        return ProgramFailed(message, program=program, code=code, said=said, hint="Look at server_bin_dir, run_as and scratch_folder.")


@contextmanager
def without_libpq_environment() -> Iterator[None]:
    """Hide libpq's variables for the block: one of them (PGHOSTADDR, PGSERVICE) could lead to another server."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG") and not name.startswith("PGOPS_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _measured(jobs: int) -> Mapping[str, str]:
    """Return the settings that depend on this host: memory for loading and building indexes, within what is free now."""
    free = _free_memory()
    settings: Dict[str, str] = {
        "max_connections": str(jobs + 20),
        "max_wal_size": "4GB",
        "checkpoint_timeout": "1h",
        "max_locks_per_transaction": "256",
        "shared_buffers": _megabytes(free // 8, 128, 1024),
        "maintenance_work_mem": _megabytes(free // (4 * max(jobs, 1)), 64, 1024),
    }
    if _shared_memory() < _SHARED_MEMORY_ENOUGH:
        # A container often has 64 MB of it, in which no index is built in parallel.
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _shared_memory() -> int:
    place = Path("/dev/shm")
    if not place.is_dir():
        return 0
    space = os.statvfs(str(place))
    return space.f_bavail * space.f_frsize


def _megabytes(size: int, least: int, most: int) -> str:
    return f"{min(max(size // _MEGABYTE, least), most)}MB"
