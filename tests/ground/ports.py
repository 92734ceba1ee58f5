"""A port for a server."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from .account import owned_temporary_folder
from .errors import GroundError

HIGHEST = 65535
# Below those that systems give to whoever names none, so that nobody gets one by chance while its server is stopped; and so that ports
# 10000 above, where nodes of a Redis cluster listen too, are neither.
_LOWEST, _EACH, _PROCESSES = 11_000, 200, 45


def free_port(highest: int = HIGHEST) -> int:
    """Return a port of this machine, `highest` at the most, that nobody listens on at the moment. Raises GroundError.

    As long as this process lives no other one that asks here is given it, and this one itself not soon again.
    """
    for port in itertools.islice(_own_ports(), _EACH):
        if port <= highest and _is_free(port):
            return port
    raise GroundError(f"none of the {_EACH} ports of this process is free and no higher than {highest}")


@functools.cache
def _own_ports() -> Iterator[int]:
    """Return the ports that are this process's until it ends, again and again."""
    folder = owned_temporary_folder() / "ports"
    folder.mkdir(exist_ok=True)
    # More processes than that share; whether a port is free is seen in any case.
    number = next((one for one in range(_PROCESSES) if _locked(folder / str(one))), os.getpid() % _PROCESSES)
    return itertools.cycle(range(_LOWEST + number * _EACH, _LOWEST + (number + 1) * _EACH))


def _locked(file: Path) -> bool:
    """Lock `file` for as long as this process lives; False where another one has done so."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection that was closed just now keeps none from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
