# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server a run looked at, and whether its counters may have been set back since."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact

# After a crash the counters begin anew, and only pg_stat_bgwriter says when.
IDENTITY = Fact(
    "identity",
    """SELECT json_build_object(
        'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
        'counters', concat_ws(' ', (SELECT stats_reset FROM pg_stat_bgwriter),
                              (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database())))""",
)


@dataclass(frozen=True)
class Server:
    """One server of a system. `id` tells it from those that see other things: another cluster, a standby, another database.

    `mark` changes with everything that may set counters back.
    """

    id: str
    mark: str
    facts: Mapping[str, Any]


def identify(server: Mapping[str, Any], answer: Mapping[str, Any] | None) -> Server:
    """Return who it is, from what the run knows of the server and the answer to IDENTITY (None where it was refused)."""
    known = (answer or {}).get("system_identifier")
    role = "standby" if server["in_recovery"] else "primary"
    name = "/".join([known or "unknown", role, str(server["database"])])
    counters = (answer or {}).get("counters")
    mark = hashlib.sha256("|".join([name, str(server["started"]), str(counters)]).encode("utf-8", "replace")).hexdigest()[:8]
    facts: Dict[str, Any] = {"id": name, "mark": mark, "system_identifier": known}
    facts.update({key: server[key] for key in ("in_recovery", "database", "version", "started")})
    return Server(name, mark, facts)
