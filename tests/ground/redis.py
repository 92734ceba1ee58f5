"""A throwaway Redis: a real server on a free port and a socket, gone when its owner is."""

from __future__ import annotations

import atexit
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import folders, process
from .account import server_account
from .cluster import ServerCertificate
from .errors import StartFailed
from .front import Front
from .ports import HIGHEST, free_port
from .redis_program import find

START_SECONDS = 30.0
CLUSTER_BUS = 10_000  # how far above its own port a node of a cluster listens for the others


class RedisServer:
    """One server that keeps nothing on disk unless `settings` say so.

    `password` is what every client must give (requirepass), `users` are lines of ACL rules such as `remover on >secret ~session:* +unlink`.
    With `tls` the port `tls_port` speaks TLS; a front of our own does it, since the wheel's server is built without.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        password: str | None = None,
        users: Sequence[str] = (),
        tls: ServerCertificate | None = None,
    ) -> None:
        self.folder = folders.claim(None)
        self.log = self.folder / "log" / "server.log"
        self.socket = folders.socket_folder(self.folder) / "redis.sock"
        self.settings = {"save": '""', "appendonly": "no", **(settings or {})}
        self.password = password
        self.users = users
        self.host = "127.0.0.1"
        self.port = 0
        self._tls = tls
        self._front: Front | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    @property
    def tls_port(self) -> int:
        """The port that speaks TLS."""
        assert self._front is not None, "the server was made without tls"
        return self._front.port

    @property
    def connection(self) -> dict[str, Any]:
        """The collection's options for this server, by its port."""
        given = {"host": self.host, "port": self.port}
        return {**given, "password": self.password} if self.password else given

    def start(self, *, loading: bool = False) -> None:
        """Start the server on the same port as before, if any. Unless `loading`, wait until it has read its data. Raises StartFailed."""
        atexit.register(self.remove)
        for _attempt in range(10):
            self.port = self.port or free_port(HIGHEST - CLUSTER_BUS if self.settings.get("cluster-enabled") == "yes" else HIGHEST)
            if self._try_start(loading=loading):
                if self._tls is not None and self._front is None:
                    self._front = Front((self.host, self.port), self._tls)
                return
            self.port = 0
        raise StartFailed(f"no free port on {self.host} after ten attempts\n{self.log_tail()}")

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the server be silent for a while."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop the server and remove what it wrote."""
        atexit.unregister(self.remove)
        if self._front is not None:
            self._front.close()
            self._front = None
        self.kill()
        folders.release(self.folder, self.socket.parent)

    def client(self, **options: Any) -> redis.Redis:
        """Return a client with every right, which tries once."""
        given = {"host": self.host, "port": self.port, "password": self.password, "protocol": 2}
        return redis.Redis(**{**given, "retry": Retry(NoBackoff(), 0), **options})

    def log_tail(self, characters: int = 2000) -> str:
        """Return the end of the server's log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:] if self.log.exists() else ""

    def _try_start(self, *, loading: bool) -> bool:
        """Start the server; False when its port was taken meanwhile."""
        self.log.parent.mkdir(exist_ok=True)
        before = self.log.stat().st_size if self.log.exists() else 0
        self._process = process.spawn([find(), self._configured()], self.folder, self.log, detached=False)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                said = self.log.read_bytes()[before:].decode("utf-8", "replace")
                if "Address already in use" in said:
                    return False
                raise StartFailed(f"the server ended with code {self._process.returncode}\n{said[-2000:]}")
            if self._answers(loading=loading):
                return True
            time.sleep(0.02)
        raise StartFailed(f"the server was not ready after {START_SECONDS:g} s\n{self.log_tail()}")

    def _answers(self, *, loading: bool) -> bool:
        try:
            with self.client() as client:
                client.ping()
        except redis.BusyLoadingError:
            return loading
        except redis.ConnectionError:
            return False
        return True

    def _configured(self) -> Path:
        """Write the configuration; nothing secret stands in the list of processes."""
        lines = [f"bind {self.host}", f"port {self.port}", f"dir {self.folder}", f"unixsocket {self.socket}", "unixsocketperm 777"]
        lines += [f"{name} {value}" for name, value in self.settings.items()]
        lines += [f"requirepass {self.password}"] if self.password else []
        lines += [f"user {rules}" for rules in self.users]
        target = self.folder / "redis.conf"
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        server_account().own(self.folder)
        return target
