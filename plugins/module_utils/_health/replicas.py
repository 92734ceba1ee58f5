# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says of its WAL, of who streams it, and of where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Unseen
from ansible_collections.pgops.runbook.plugins.module_utils._wal_position import wal_bytes

MEGABYTE = 1 << 20

# A standby's position is what it has received, or replayed from an archive. Of commands and connections, which may hold passwords,
# only whether there is one; null where the role may not see that, as where the version has no such setting.
WAL = Fact(
    "wal",
    """
SELECT json_build_object(
    'standby', pg_is_in_recovery(),
    'position', CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                     ELSE pg_current_wal_lsn() END,
    'settings', (SELECT json_object_agg(name, CASE
        WHEN name IN ('archive_command', 'archive_library', 'primary_conninfo', 'restore_command')
        THEN (setting <> '' AND setting <> '(disabled)')::text ELSE setting END)
        FROM pg_settings WHERE name IN ('archive_command', 'archive_library', 'archive_mode', 'data_checksums', 'max_slot_wal_keep_size',
            'max_wal_size', 'primary_conninfo', 'recovery_min_apply_delay', 'restore_command', 'wal_keep_segments', 'wal_keep_size',
            'wal_receiver_status_interval', 'wal_receiver_timeout', 'wal_segment_size', 'wal_sender_timeout')))
""",
)
# A program that only keeps WAL replays nothing: what it has written counts. It may flush no more than each file as a whole, and the lag
# of that grows for as long as it takes to fill one.
SENDERS = Fact(
    "wal_senders",
    """
SELECT coalesce(json_agg(json_build_object(
    'application', r.application_name, 'address', host(r.client_addr), 'state', r.state, 'sync', r.sync_state,
    'slot', CASE WHEN NOT s.temporary THEN s.slot_name END, 'kind', s.slot_type,
    'replayed', r.replay_lsn, 'taken', coalesce(r.replay_lsn, r.write_lsn, r.flush_lsn),
    'lag', extract(epoch FROM CASE WHEN r.replay_lsn IS NULL THEN coalesce(r.write_lag, r.flush_lag) ELSE r.replay_lag END)::float8,
    'silence', extract(epoch FROM clock_timestamp() - r.reply_time)::float8) ORDER BY r.application_name, r.client_addr, r.pid), '[]')
FROM pg_stat_replication AS r LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid
""",
)
# Outside recovery, the functions still tell of a standby that this server once was.
RECEIVER = Fact(
    "wal_receiver",
    """
SELECT json_build_object(
    'there', (SELECT pid FROM pg_stat_wal_receiver) IS NOT NULL,
    'status', (SELECT status FROM pg_stat_wal_receiver),
    'silence', (SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8 FROM pg_stat_wal_receiver),
    'replayed', pg_last_wal_replay_lsn(),
    'received', pg_last_wal_receive_lsn(),
    'sent', (SELECT latest_end_lsn FROM pg_stat_wal_receiver),
    'paused', CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END,
    'age', extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8)
""",
)
_COMES_FROM = ("startup", "backup", "stopping")


@dataclass(frozen=True)
class Sender:
    """One receiver of this server's WAL, seen from here. `name` stays the same from run to run; lags are None where not known.

    `hidden` says that the role may see that there is one, and nothing of it.
    """

    name: str
    application: str
    address: str | None
    state: str | None
    sync: str | None
    slot: str | None
    logical: bool
    replays: bool
    behind: int | None
    lag: float | None
    silence: float | None

    @property
    def hidden(self) -> bool:
        """Whether the role may not see how it is."""
        return self.state is None

    @property
    def streams(self) -> bool:
        """Whether it takes WAL, and not a copy of the files."""
        return self.state is not None and self.state not in _COMES_FROM

    @property
    def is_standby(self) -> bool:
        """Whether it is a standby, rather than a subscriber or a program that keeps WAL."""
        return self.streams and self.replays and not self.logical

    def as_row(self) -> Dict[str, Any]:
        """Return it as a report shows it."""
        row = {"name": self.name, "address": self.address, "state": self.state, "sync": self.sync, "slot": self.slot}
        return {**row, "lag_bytes": self.behind, "lag_seconds": self.lag}


def setting(look: Look, name: str) -> str | None:
    """Return a setting of the WAL as text in its own unit; None where this version lacks it or the role may not see it."""
    found: Mapping[str, str] = look.fact(WAL)["settings"]
    return found.get(name)


def number(look: Look, name: str, default: int = 0) -> int:
    """Return a setting of the WAL as a number in its own unit."""
    return int(setting(look, name) or default)


def behind(look: Look, position: str | None) -> int | None:
    """Return how many bytes `position` lies before the end of this server's WAL; None for no position."""
    here = look.fact(WAL)["position"]
    return None if position is None or here is None else max(0, wal_bytes(here) - wal_bytes(position))


def senders(look: Look) -> List[Sender]:
    """Return everybody who takes WAL from this server. Raises DatabaseError."""
    rows = look.fact(SENDERS)
    applications = [row["application"] or "" for row in rows]
    found = [_sender(look, row, applications.count(row["application"] or "") > 1) for row in rows]
    look.details["standbys"] = [each.as_row() for each in found if not each.logical]
    return found


def hidden(look: Look, message: str) -> Unseen:
    """Return the error that says that the role may not see how replication goes."""
    hint = f"As a superuser: GRANT pg_read_all_stats TO {quoted(look.role)};"
    return Unseen(f"{message}: the role {look.role} may not see more than that it is connected", hint=hint)


def _sender(look: Look, row: Mapping[str, Any], shared: bool) -> Sender:
    return Sender(
        name=_name(row, shared),
        application=row["application"] or "",
        address=row["address"],
        state=row["state"],
        sync=row["sync"],
        slot=row["slot"],
        logical=row["kind"] == "logical",
        replays=row["replayed"] is not None,
        behind=behind(look, row["taken"]),
        lag=row["lag"],
        silence=row["silence"],
    )


def _name(row: Mapping[str, Any], shared: bool) -> str:
    """Return a name that no other receiver has and that does not change when others come and go, as far as that can be.

    An application's name is unique where somebody chose it. The server's own are not: walreceiver, or 15/main, which Debian calls
    every cluster.
    """
    name = row["application"] or "unnamed"
    chosen = bool(row["application"]) and name != "walreceiver" and not name[:2].isdecimal()
    if chosen and not shared:
        return str(name)
    where = row["slot"] or row["address"]
    return f"{name} {where}" if where else str(name)
