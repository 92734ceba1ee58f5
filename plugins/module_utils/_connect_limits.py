# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends the waiting for a server that says nothing any more, from the client's side.

`statement_timeout` works on the server. It ends nothing if the server's process is stopped, if its disk hangs, if a COMMIT
waits for a standby, or if the network drops every packet.
"""

from __future__ import annotations

import math
import select
import time
from typing import Any, Callable, Generator, Mapping

ANSWER_SLACK = 30.0  # seconds beyond statement_timeout: the way there and back, and a cancelled statement's cleaning up
# A connection on which nothing arrives is lost after 30 s + 3 * 10 s, and one on which nothing is confirmed after the same time.
KEEPALIVES = {"keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
TCP_USER_TIMEOUT = {"tcp_user_timeout": "60000"}  # milliseconds
_TCP_USER_TIMEOUT_SINCE = 120000
_LONGEST_POLL = 3600.0  # seconds; poll counts milliseconds in a C int


class Unanswered(Exception):
    """The deadline passed without an answer."""


def with_keepalives(parameters: Mapping[str, str], libpq_version: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's `parameters` with those that notice a dead network in front; a Unix socket ignores them.

    A parameter wins over the service file, which could not say another value: with a service, it has the word.
    """
    if parameters.get("service") or environment.get("PGSERVICE"):
        return dict(parameters)
    return {**KEEPALIVES, **(TCP_USER_TIMEOUT if libpq_version >= _TCP_USER_TIMEOUT_SINCE else {}), **parameters}


def await_ready(fileno: int, reading: bool, writing: bool, deadline: float) -> tuple[bool, bool]:
    """Wait until `fileno` can be read or written, and return which of the two. Raises Unanswered at `deadline` (of time.monotonic)."""
    poll = select.poll()
    poll.register(fileno, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
    while True:
        left = deadline - time.monotonic()
        ready = poll.poll(math.ceil(1000 * min(max(left, 0), _LONGEST_POLL)))
        if ready:
            event = ready[0][1]
            # A lost connection counts as ready for everything: the driver finds out by using it.
            lost = bool(event & ~(select.POLLIN | select.POLLOUT))
            return reading and (lost or bool(event & select.POLLIN)), writing and (lost or bool(event & select.POLLOUT))
        if left <= 0:
            raise Unanswered


def polled(connection: Any, states: Any, deadline: float) -> None:
    """Wait for psycopg2's `connection` as its wait callback; `states` is the module with POLL_OK, POLL_READ and POLL_WRITE."""
    while True:
        state = connection.poll()
        if state == states.POLL_OK:
            return
        await_ready(connection.fileno(), state == states.POLL_READ, state == states.POLL_WRITE, deadline)


def driven(generator: Generator[Any, Any, Any], fileno: int, ready: Callable[[int], Any], deadline: float) -> Any:
    """Run psycopg 3's `generator` to its end and return its value: it yields for what to wait (1 read, 2 write) and takes what came."""
    try:
        wanted = next(generator)
        while True:
            readable, writable = await_ready(fileno, bool(wanted & 1), bool(wanted & 2), deadline)
            wanted = generator.send(ready(readable | writable << 1))
    except StopIteration as end:
        return end.value
