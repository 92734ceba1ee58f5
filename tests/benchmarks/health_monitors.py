"""The monitoring programs that Debian packages, and which of their services ask what pg_health asks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.ground import fetched
from tests.ground.cluster import Cluster
from tests.ground.errors import ProgramMissing
from tests.ground.process import environment
from tests.ground.servers import cache_folder
from tests.tools import debian_programs

PACKAGES = {"check-pgactivity": "usr/lib/nagios/plugins/check_pgactivity", "check-postgres": "usr/bin/check_postgres"}
# What Debian, PyPI and npm do not have: nothing to compare with.
MISSING = "pgmetrics: neither Debian nor PyPI nor npm packages it; not compared"
SHARE, LATE = ("-w", "70%", "-c", "85%"), ("-w", "30d", "-c", "60d")
# Each with its thresholds: those of our checks where the program takes them.
PGACTIVITY_HOURLY: tuple[tuple[str, ...], ...] = (
    ("connection",),
    ("is_master",),
    ("backends", "-w", "90%", "-c", "95%"),
    ("backends_status",),
    ("oldest_idlexact", "-w", "5m", "-c", "15m"),
    ("longest_query", "-w", "30m", "-c", "1h"),
    ("locks", "-w", "60%", "-c", "80%"),
    ("oldest_2pc", "-w", "5m", "-c", "1h"),
    ("oldest_xmin",),
    ("max_freeze_age",),
    ("replication_slots",),
    ("streaming_delta",),
    ("archiver",),
    ("wal_files",),
    ("checksum_errors",),
)
PGACTIVITY_WEEKLY: tuple[tuple[str, ...], ...] = (
    ("sequences_exhausted", *SHARE),
    ("last_vacuum", *LATE),
    ("last_analyze", *LATE),
    ("invalid_indexes",),
    ("hit_ratio", "-w", "90%", "-c", "50%"),
    ("database_size",),
    ("temp_files",),
    ("commit_ratio",),
    ("configuration",),
    ("extensions_versions",),
    ("table_bloat", "-w", "30%", "-c", "60%"),
    ("btree_bloat", "-w", "30%", "-c", "60%"),
)
POSTGRES_HOURLY: tuple[tuple[str, ...], ...] = (
    ("connection",),
    ("backends", "-w", "90%", "-c", "95%"),
    ("txn_idle", "-w", "5min", "-c", "15min"),
    ("txn_time", "-w", "30min", "-c", "1h"),
    ("query_time", "-w", "30min", "-c", "1h"),
    ("locks",),
    ("prepared_txns", "-w", "300", "-c", "3600"),
    ("txn_wraparound",),
    ("replication_slots", "-w", "1GB", "-c", "10GB"),
    ("archive_ready",),
    ("wal_files", "-w", "100", "-c", "200"),
)
POSTGRES_WEEKLY: tuple[tuple[str, ...], ...] = (
    ("sequence", *SHARE),
    ("last_vacuum", *LATE),
    ("last_analyze", *LATE),
    ("hitratio", "-w", "90%", "-c", "50%"),
    ("database_size", "-w", "10GB", "-c", "20GB"),
    ("bloat", "-w", "30%", "-c", "60%"),
)
UNKNOWN = 3


@dataclass(frozen=True)
class Monitor:
    """One program with the services of ours that it has, and how it is started for one of them."""

    name: str
    version: str
    hourly: Sequence[Sequence[str]]
    weekly: Sequence[Sequence[str]]
    command: Callable[[Sequence[str]], list[str]]
    psql: Path
    unanswered: dict[str, str] = field(default_factory=dict)

    def run(self, services: Sequence[Sequence[str]]) -> int:
        """Run a process for every service and return how many bytes they wrote; `unanswered` keeps what those said that saw nothing."""
        size = 0
        path = f"{self.psql.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        for service in services:
            done = subprocess.run(
                self.command(service), capture_output=True, text=True, check=False, env={**environment(), "PATH": path, "TMPDIR": "/tmp"}
            )
            size += len(done.stdout)
            if done.returncode >= UNKNOWN or done.returncode < 0:
                said = (done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
                self.unanswered[service[0]] = said[:100]
        return size


def monitors(cluster: Cluster, database: str, scratch: Path) -> list[Monitor]:
    """Return the programs, ready to ask `database`. Raises ProgramMissing."""
    if shutil.which("perl") is None:
        raise ProgramMissing("this machine has no perl")
    folder = fetched.kept(cache_folder() / "debian-monitors", _fetch)
    versions = dict(line.split(" ", 1) for line in (folder / "versions.txt").read_text(encoding="utf-8").splitlines())
    psql = cluster.installation.program("psql")
    place = [str(cluster.socket_dir), str(cluster.port), cluster.superuser]

    def pgactivity(service: Sequence[str]) -> list[str]:
        words = [
            "perl",
            str(folder / PACKAGES["check-pgactivity"]),
            "--service",
            *service,
            "--dbname",
            database,
            "--dbinclude",
            f"^{database}$",
        ]
        words += ["--host", place[0], "--port", place[1], "--username", place[2], "--psql", str(psql)]
        return [*words, "--status-file", str(scratch / "check_pgactivity.data")]

    def postgres(service: Sequence[str]) -> list[str]:
        words = ["perl", str(folder / PACKAGES["check-postgres"]), f"--action={service[0]}", *service[1:], f"--dbname={database}"]
        return [*words, f"--host={place[0]}", f"--port={place[1]}", f"--dbuser={place[2]}", "--timeout=120"]

    return [
        Monitor("check_pgactivity", versions["check-pgactivity"], PGACTIVITY_HOURLY, PGACTIVITY_WEEKLY, pgactivity, psql),
        Monitor("check_postgres", versions["check-postgres"], POSTGRES_HOURLY, POSTGRES_WEEKLY, postgres, psql),
    ]


def _fetch(part: Path) -> Path:
    made = debian_programs.unpack(PACKAGES, part)
    asked = ["dpkg-deb", "--show", "--showformat=${Package} ${Version}\n"]
    lines = [subprocess.run([*asked, one], check=True, capture_output=True, text=True).stdout for one in part.glob("*.deb")]
    (made / "versions.txt").write_text("".join(lines), encoding="utf-8")
    return made
