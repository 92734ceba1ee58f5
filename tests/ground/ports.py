"""A port for a server."""

from __future__ import annotations

import socket

from .errors import GroundError

HIGHEST = 65535
_DRAWS = 1000


def free_port(highest: int = HIGHEST) -> int:
    """Return a port of this machine, `highest` at the most, that nobody listens on at the moment. Raises GroundError."""
    for _draw in range(_DRAWS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= highest:
            return port
    raise GroundError(f"{_DRAWS} ports that this machine gave were above {highest}")
