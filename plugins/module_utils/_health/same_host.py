# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this program runs on the server's own host, which alone knows of its disks, memory and load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.pgops.runbook.plugins.module_utils._health.control_groups import PROCESSES
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Unseen

HOST = Fact(
    "host",
    """
SELECT json_build_object('process', pg_backend_pid(), 'server', host(inet_server_addr()), 'client', host(inet_client_addr()),
    'data', (SELECT setting FROM pg_settings WHERE name = 'data_directory'))
""",
)
_HINT = (
    "Run the check on the server's own host, as the roles of the collection do, through its socket or an address of that host; "
    "or look there: df -h, free -m, uptime."
)


@dataclass(frozen=True)
class Host:
    """The host that the server and this program share: the process of this session, and the data directory (None: not to be seen)."""

    process: int
    data: str | None


def same_host(look: Look) -> Host:
    """Return the host. Raises Unseen where it is not proven that it is the server's own.

    Addresses prove nothing: behind a tunnel, a pooler or the wall of a container both ends look local. A process of the server under the
    number that the server gives does.
    """
    seen = look.fact(HOST)
    if seen["server"] != seen["client"]:
        raise Unseen(f"the server runs on another host ({seen['server']}) than this program ({seen['client']})", hint=_HINT)
    process, data = int(seen["process"]), seen["data"]
    if not _is_server(process):
        raise Unseen("nothing shows that the server runs on this host: its process cannot be seen from here", hint=_HINT)
    if data is not None and not _stands_in(process, data):
        raise Unseen(f"nothing shows that the server runs on this host: {data} is not its data directory here", hint=_HINT)
    return Host(process, data)


def _is_server(process: int) -> bool:
    try:
        return b"postgres" in (PROCESSES / str(process) / "cmdline").read_bytes()
    except OSError:
        return False


def _stands_in(process: int, data: str) -> bool:
    """Return whether the process stands in the data directory, as all of a server do; for all that this account may see."""
    try:
        if not Path(data).is_dir():
            return False
        return (PROCESSES / str(process) / "cwd").samefile(data)
    except OSError:
        # Not permitted.
        return True
