"""A throwaway database cluster: started on a free port, reachable by socket and TCP, gone when its owner is."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from . import blank, folders, process
from .account import server_account
from .errors import StartFailed
from .ports import free_port
from .servers import Installation

SUPERUSER = "postgres"
PASSWORD = "ground"
# Members of this role must give a password even where everybody else is trusted.
PASSWORD_ROLE = "password_required"
START_SECONDS = 60.0

# Nothing here survives a crash of the machine, and need not. All else stays as in production.
SETTINGS: dict[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": 100,
    "wal_level": "replica",
    "max_wal_senders": 10,
    "hot_standby": "on",
    # No server of the tests keeps UTC by chance: a wrong zone must show.
    "timezone": "Europe/Tallinn",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "lc_messages": "C",
}


@dataclass(frozen=True)
class ServerCertificate:
    """PEM files that make a server speak TLS; `authority` verifies client certificates."""

    certificate: Path
    key: Path
    authority: Path | None = None


class Cluster:
    """One server. `auth` is the pg_hba method of everybody: `trust`, or `scram-sha-256` (the superuser's password is `PASSWORD`).

    `checksums` are those of data pages, which PostgreSQL 18 has anyway. `detached` servers outlive the process; all others end with it.
    By their system identifier servers are clones of each other, unless one has an `own_identity`: that takes seconds.
    Without `folder` it takes one under the system's temporary directory, as it does where the account that runs the server cannot
    reach `folder`.
    """

    def __init__(
        self,
        installation: Installation,
        folder: Path | None = None,
        settings: Mapping[str, str | int] | None = None,
        *,
        auth: str = "trust",
        tls: ServerCertificate | None = None,
        detached: bool = False,
        checksums: bool = False,
        own_identity: bool = False,
    ) -> None:
        self.installation = installation
        self.folder = folders.claim(folder, detached=detached)
        self.data = self.folder / "data"
        self.log = self.folder / "log" / "server.log"
        self.socket_dir = folders.socket_folder(self.folder)
        self.settings = {**SETTINGS, **(settings or {})}
        self.auth = auth
        self.tls = tls
        self.detached = detached
        self.checksums = checksums
        self.own_identity = own_identity
        self.superuser = SUPERUSER
        self.password = PASSWORD
        self.host = "127.0.0.1"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._standbys: list[Cluster] = []

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Initialise the folder if it is empty, and start the server. Raises StartFailed."""
        if not self.detached:
            atexit.register(self.remove)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._configure()
        for _attempt in range(10):
            self.port = self.port or free_port()
            if self._try_start():
                return
            self.port = 0
        raise StartFailed(f"no free port on {self.host} after ten attempts\n{self.log_tail()}")

    def stop(self) -> None:
        """Shut the server down: fast, after a minute immediately, which loses its statistics. Standbys of it stop first."""
        for standby in self._standbys:
            standby.stop()
        if self._process is not None:
            _end(self._process)
            self._process = None

    def restart(self, settings: Mapping[str, str | int] | None = None) -> None:
        """Stop and start on the same port, with `settings` added."""
        self.settings.update(settings or {})
        self.stop()
        self.start()

    def crash(self) -> None:
        """End the server as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
            self._process = None

    def kill_session(self, pid: int) -> None:
        """End a session's process as a kernel does that is out of memory; return when the server has recovered and lets in again."""
        with self.connect() as witness:
            os.kill(pid, signal.SIGKILL)
            # The server still lets in until it has noticed; then it ends every session, this one too.
            with contextlib.suppress(psycopg.OperationalError):
                witness.execute("SELECT pg_sleep(%s)", [START_SECONDS])
                raise StartFailed(f"the server did not notice that process {pid} had ended\n{self.log_tail()}")
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.02)

    def remove(self) -> None:
        """Stop the server, immediately because its data is thrown away, and remove what it wrote."""
        atexit.unregister(self.remove)
        for standby in self._standbys:
            standby.remove()
        self._standbys.clear()
        if self._process is not None:
            _end(self._process, first=process.IMMEDIATE)
            self._process = None
        folders.release(self.folder, self.socket_dir)

    @property
    def pid(self) -> int | None:
        """The process id of the server, None when it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def log_tail(self, characters: int = 2000) -> str:
        """Return the end of the server's log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:] if self.log.exists() else ""

    # --- databases ----------------------------------------------------------------------------------------------------

    def address(self, database: str = "postgres", *, tcp: bool = False) -> dict[str, Any]:
        """Return libpq's parameters for `database` as the superuser."""
        host = self.host if tcp else str(self.socket_dir)
        return {"host": host, "port": self.port, "user": self.superuser, "password": self.password, "dbname": database}

    def conninfo(self, database: str = "postgres") -> str:
        """Return what client programs take for a database, as the superuser by socket; without a password."""
        return make_conninfo(host=str(self.socket_dir), port=self.port, user=self.superuser, dbname=database)

    def login(self, database: str = "postgres", *, tcp: bool = True) -> dict[str, Any]:
        """Return the collection's connection options for `database` as the superuser."""
        place = {"login_host": self.host} if tcp else {"login_unix_socket": str(self.socket_dir)}
        user = {"login_user": self.superuser, "login_password": self.password}
        return {**place, "login_port": self.port, **user, "login_db": database}

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Return an autocommit connection of psycopg 3 with its session in UTC."""
        given = {"application_name": "ground", "options": "-c timezone=UTC", **parameters}
        return psycopg.connect(**{**self.address(database), **given}, autocommit=True)

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, as a copy of `template` if given."""
        source = sql.Identifier(template or "template1")
        with self.connect() as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source)
            if self.installation.major >= 15:
                # Copied as files, as older majors do: WAL of every page costs more where nothing waits for a disk.
                statement += sql.SQL(" STRATEGY file_copy")
            connection.execute(statement)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending its sessions."""
        with self.connect() as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
            end = time.monotonic() + START_SECONDS
            # One that sends the changes of the database to somebody has its slot until it is gone, and then no force helps.
            while connection.execute(ended, [name]).fetchall() and time.monotonic() < end:
                time.sleep(0.01)
            force = sql.SQL(" WITH (FORCE)") if self.installation.major >= 13 else sql.SQL("")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)) + force)

    # --- replication --------------------------------------------------------------------------------------------------

    def standby(self, folder: Path | None = None, settings: Mapping[str, str | int] | None = None) -> Cluster:
        """Return a started streaming standby of this server. Raises ProgramMissing where no pg_basebackup is found."""
        program = self.installation.program("pg_basebackup")
        replica = Cluster(self.installation, folder, {**self.settings, **(settings or {})}, auth=self.auth, tls=self.tls)
        self._standbys.append(replica)
        where: list[str | Path] = ["-h", self.socket_dir, "-p", str(self.port), "-U", self.superuser, "-D", replica.data]
        command = [program, *where, "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        done = process.run(command, replica.folder, {"PGPASSWORD": self.password})
        if done.returncode != 0:
            raise StartFailed(f"pg_basebackup: {done.stderr.strip()}\n{self.log_tail()}")
        # Not pg_basebackup's own recovery settings: those of a newer one have connection options that this server's libpq lacks.
        (replica.data / "standby.signal").touch()
        place = f"host={self.socket_dir} port={self.port} user={self.superuser} password={self.password}"
        replica.settings["primary_conninfo"] = place
        replica.start()
        return replica

    def wait_for(self, standby: Cluster, seconds: float = START_SECONDS) -> None:
        """Wait until `standby` has replayed everything written here so far."""
        with self.connect() as here, standby.connect() as there:
            # A commit that waits for the disk takes with it what was committed without waiting; only then it can be sent.
            here.execute("SELECT pg_logical_emit_message(true, 'ground', '')")
            position = here.execute("SELECT pg_current_wal_lsn()").fetchone()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if there.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position).fetchone() == (True,):
                    return
                time.sleep(0.02)
        raise StartFailed(f"the standby did not replay {position} in {seconds} s\n{standby.log_tail()}")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        options = ["-U", SUPERUSER, "-A", self.auth, *["--data-checksums"] * self.checksums, "-E", "UTF8", "--locale=C", "--no-sync"]
        if self.own_identity:
            self._initdb(options)
        else:
            blank.fill(self.data, self.installation, [*options, PASSWORD], lambda: self._initdb(options))
        with (self.data / "pg_hba.conf").open("w", encoding="utf-8") as file:
            file.write(f"host all +{PASSWORD_ROLE} all scram-sha-256\nlocal all +{PASSWORD_ROLE} scram-sha-256\n")
            file.write(f"local all all {self.auth}\nhost all all all {self.auth}\nlocal replication all {self.auth}\n")
            file.write(f"host replication all all {self.auth}\n")

    def _initdb(self, options: Sequence[str]) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="ascii")
        server_account().own(self.folder)
        done = process.run([self.installation.program("initdb"), "-D", self.data, "--pwfile", secret, *options], self.folder)
        if done.returncode != 0:
            raise StartFailed(f"initdb: {done.stderr.strip() or done.stdout.strip()}")

    def _configure(self) -> None:
        settings: dict[str, str | int] = {
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.socket_dir),
            "password_encryption": "scram-sha-256",
            **self.settings,
        }
        if self.tls is not None:
            settings.update(self._install_certificates(self.tls))
        lines = [f"{name} = '{str(text).replace(chr(39), chr(39) * 2)}'\n" for name, text in settings.items()]
        target = self.data / "ground.conf"
        target.write_text("".join(lines), encoding="utf-8")
        main = self.data / "postgresql.conf"
        text = main.read_text(encoding="utf-8")
        if "include 'ground.conf'" not in text:
            main.write_text(text + "\ninclude 'ground.conf'\n", encoding="utf-8")
        server_account().own(self.folder)

    def _install_certificates(self, tls: ServerCertificate) -> dict[str, str]:
        copies = {"ssl_cert_file": tls.certificate, "ssl_key_file": tls.key, "ssl_ca_file": tls.authority}
        settings = {"ssl": "on"}
        for name, source in copies.items():
            if source is not None:
                settings[name] = f"{name}.pem"
                shutil.copyfile(source, self.data / settings[name])
                (self.data / settings[name]).chmod(0o600)
        return settings

    def _try_start(self) -> bool:
        """Start the server; False when its port was taken meanwhile."""
        self.log.parent.mkdir(exist_ok=True)
        before = self.log.stat().st_size if self.log.exists() else 0
        command: list[str | Path] = [self.installation.program("postgres"), "-D", self.data, "-p", str(self.port)]
        self._process = process.spawn(command, self.folder, self.log, detached=self.detached)
        status = self.data / "postmaster.pid"
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                said = self.log.read_bytes()[before:].decode("utf-8", "replace")
                if "Address already in use" in said or "could not bind" in said:
                    return False
                raise StartFailed(f"the server ended with code {self._process.returncode}\n{said[-2000:]}")
            # The eighth line of this file is the server's state; the first its process id. A server that ends takes it away.
            lines: list[str] = []
            with contextlib.suppress(FileNotFoundError):
                lines = status.read_text(encoding="utf-8").split("\n")
            if len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() in ("ready", "standby"):
                return True
            time.sleep(0.02)
        _end(self._process)
        raise StartFailed(f"the server was not ready after {START_SECONDS:g} s\n{self.log_tail()}")


def _end(server: subprocess.Popen[bytes], first: signal.Signals = signal.SIGINT) -> None:
    for number, seconds in ((first, START_SECONDS), (signal.SIGQUIT, 15.0), (signal.SIGKILL, 5.0)):
        if server.poll() is not None:
            return
        server.send_signal(number)
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
