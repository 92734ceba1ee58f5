"""usage: python -m tests.benchmarks.backup [--gigabytes N] [--jobs N] [--repeats N] [--part NAME ...] [--pg-major N]

A verified backup with its manifest against plain pg_dump of the same database, and the recovery drill against plain pg_restore: turn by
turn, each as a process of its own, with the newest client programs. Then the backup against community.postgresql's postgresql_db, as tasks.
"CPU" is what the processors worked for it, the client's programs and the server's sessions together.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.backup_database import DATABASE, SETTINGS, bytes_of, fill
from tests.benchmarks.turns import print_title, seconds_worked
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.runner import AnsibleRunner, collections_path
from tests.tools import foreign_collections

SCRATCH, RESTORED = "scratch", "restored"
TARGET = 1.25
MODULES = "ansible_collections.pgops.runbook.plugins.modules"


@dataclass(frozen=True)
class Ground:
    """Where it happens: the server, the client programs, a folder to write to, and the jobs that everybody gets."""

    cluster: Cluster
    bin_dir: Path
    folder: Path
    jobs: int

    def plain(self, program: str, *arguments: str | Path) -> None:
        """Run a client program as a person would, or raise CalledProcessError."""
        where = ["-h", self.cluster.host, "-p", str(self.cluster.port), "-U", self.cluster.superuser]
        environment = {**os.environ, "PGPASSWORD": self.cluster.password}
        command = [str(self.bin_dir / program), *where, *map(str, arguments)]
        subprocess.run(command, env=environment, capture_output=True, check=True)

    def module(self, name: str, arguments: Mapping[str, Any], database: str = DATABASE) -> dict[str, Any]:
        """Run a module as the process that Ansible would make of it, and return its result. Raises RuntimeError where it fails."""
        given = {**self.cluster.login(database), "bin_dir": str(self.bin_dir), "jobs": self.jobs, **arguments}
        file = self.folder / "arguments.json"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(collections_path())}
        command = [sys.executable, "-m", f"{MODULES}.{name}", str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stdout[-3000:]} {done.stderr[-1000:]}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def empty(self, name: str) -> Path:
        """Return a folder of that name that does not exist."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        return place


@dataclass(frozen=True)
class Run:
    """The seconds of a run by the clock and of the processors, and the bytes that it left."""

    seconds: float
    cpu: float
    size: int


Way = Callable[[], Path | None]


def once(ground: Ground, act: Way) -> Run:
    """Run `act`, which returns the folder or file that it has made, if it made one."""
    with ground.cluster.connect() as connection:
        connection.execute("CHECKPOINT")
    os.sync()
    server, client, began = seconds_worked(ground.cluster), _client_seconds(), time.perf_counter()
    made = act()
    seconds = time.perf_counter() - began
    cpu = seconds_worked(ground.cluster) - server + _client_seconds() - client
    return Run(seconds, cpu, _size(made) if made else 0)


def _client_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def in_turns(ground: Ground, ways: Mapping[str, Way], repeats: int) -> dict[str, list[Run]]:
    """Run every way `repeats` times, each turn in the other order."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in sorted(ways, key=list(ways).index, reverse=bool(turn % 2)):
            runs[name].append(once(ground, ways[name]))
    return runs


def print_runs(runs: Mapping[str, Sequence[Run]]) -> None:
    """Print a line for each way, with the median over the turns of how many times as much as the first it took."""
    base = next(iter(runs.values()))
    print(f"  {'':64} {'median':>9} {'from .. to':>18} {'ratio':>7} {'CPU':>9} {'ratio':>7} {'MB':>8}")
    for name, found in runs.items():
        seconds, cpu = [run.seconds for run in found], [run.cpu for run in found]
        spread = f"{min(seconds):.2f} .. {max(seconds):.2f}"
        ratio = statistics.median(mine.seconds / theirs.seconds for mine, theirs in zip(found, base, strict=True))
        work = statistics.median(mine.cpu / theirs.cpu for mine, theirs in zip(found, base, strict=True))
        numbers = f"{statistics.median(seconds):7.2f} s {spread:>18} {ratio:6.2f}x {statistics.median(cpu):7.2f} s {work:6.2f}x"
        print(f"  {name:64} {numbers} {found[-1].size / 1e6:8.1f}", flush=True)


# --- backup ---------------------------------------------------------------------------------------------------------------


def plain_dump(ground: Ground, *options: str) -> Path:
    """Dump as a person would."""
    place = ground.empty("plain")
    ground.plain("pg_dump", "-Fd", "-j", str(ground.jobs), *options, "-f", place, DATABASE)
    return place


def careful_dump(ground: Ground) -> Path:
    """Dump, read the dump back whole, and write down the hashes of its files: what the runbooks' authors meant by a verified backup."""
    place = plain_dump(ground)
    subprocess.run([str(ground.bin_dir / "pg_restore"), "-f", os.devnull, str(place)], check=True, capture_output=True)
    files = sorted(str(file) for file in place.iterdir())
    subprocess.run(["sha256sum", *files], check=True, capture_output=True)
    return place


def our_backup(ground: Ground, **options: Any) -> Path:
    """Make a verified backup with its manifest."""
    folder = ground.empty("ours")
    ground.module("pg_backup", {"folder": str(folder), "verify": "decode", **options})
    return folder


def backups(ground: Ground, repeats: int) -> None:
    """Print the backup against plain dumps."""
    ways: dict[str, Way] = {
        f"pg_dump -Fd -j {ground.jobs}": functools.partial(plain_dump, ground),
        f"pg_dump -Fd -j {ground.jobs} -Z1": functools.partial(plain_dump, ground, "-Z1"),
        "the first, then pg_restore -f /dev/null and sha256sum": functools.partial(careful_dump, ground),
        f"pg_backup: decoded, rows hashed, manifest (target {TARGET}x)": functools.partial(our_backup, ground),
        "pg_backup with verify: checksum": functools.partial(our_backup, ground, verify="checksum"),
        "pg_backup with contents: false": functools.partial(our_backup, ground, contents=False),
    }
    print_title(f"Backup of {bytes_of(ground.cluster) / 1e9:.2f} GB (indexes included), {repeats} turns")
    print_runs(in_turns(ground, ways, repeats))


# --- drill ----------------------------------------------------------------------------------------------------------------


def plain_restore(ground: Ground, dump: Path, *, analyze: bool = False) -> None:
    """Restore as a person would, into an empty database."""
    ground.cluster.drop_database(RESTORED)
    ground.cluster.create_database(RESTORED, "template0")
    # A newer client sets a parameter that an older server does not know, and says so by its exit code.
    with_errors = ground.cluster.installation.major < 17
    try:
        ground.plain("pg_restore", "-j", str(ground.jobs), "-d", RESTORED, dump)
    except subprocess.CalledProcessError:
        if not with_errors:
            raise
    if analyze:
        ground.plain("vacuumdb", "--analyze-only", "-j", str(ground.jobs), RESTORED)
    ground.cluster.drop_database(RESTORED)


def our_drill(ground: Ground, backup: Path, place: str) -> None:
    """Rehearse the recovery."""
    arguments = {"folder": str(backup), "source_database": DATABASE, "in": place, "evidence": str(ground.empty("evidence"))}
    if place == "cluster":
        arguments |= {"server_bin_dir": str(ground.cluster.installation.bin_dir)}
    ground.module("pg_recovery_drill", arguments, "postgres")


def drills(ground: Ground, repeats: int) -> None:
    """Print the drill against plain restores."""
    dump, backup = plain_dump(ground), our_backup(ground)
    ways: dict[str, Way] = {
        f"pg_restore -j {ground.jobs}": functools.partial(plain_restore, ground, dump),
        "the same, then vacuumdb --analyze-only": functools.partial(plain_restore, ground, dump, analyze=True),
        f"pg_recovery_drill, in: database (target {TARGET}x)": functools.partial(our_drill, ground, backup, "database"),
        f"pg_recovery_drill, in: cluster (target {TARGET}x)": functools.partial(our_drill, ground, backup, "cluster"),
    }
    print_title(f"Recovery drill, {repeats} turns")
    print_runs(in_turns(ground, ways, repeats))


# --- beside community.postgresql --------------------------------------------------------------------------------------------


def as_tasks(ground: Ground, repeats: int) -> None:
    """Print the backup against the dump of community.postgresql, both as one task of a playbook."""
    foreign_collections.ensure()
    runner = AnsibleRunner(ground.folder / "ansible")
    path = {"PATH": os.pathsep.join([str(ground.bin_dir), os.environ["PATH"]])}

    def task(module: str, arguments: dict[str, Any]) -> None:
        result = runner.module(module, arguments, env=path)
        if result["failed"]:
            raise RuntimeError(f"{module}: {result}")

    def theirs(suffix: str) -> Path:
        target = ground.empty(f"theirs.{suffix}")
        target.unlink(missing_ok=True)
        login = ground.cluster.login(DATABASE)
        task("community.postgresql.postgresql_db", {**_theirs(login), "state": "dump", "target": str(target)})
        return target

    def ours(**options: Any) -> Path:
        folder = ground.empty("ours")
        arguments = {
            **ground.cluster.login(DATABASE),
            "folder": str(folder),
            "bin_dir": str(ground.bin_dir),
            "jobs": ground.jobs,
            **options,
        }
        task("pgops.runbook.pg_backup", arguments)
        return folder

    ways: dict[str, Way] = {
        "community.postgresql.postgresql_db state=dump target=*.sql.gz": functools.partial(theirs, "sql.gz"),
        "community.postgresql.postgresql_db state=dump target=*.dir": functools.partial(theirs, "dir"),
        "pgops.runbook.pg_backup, directory": ours,
        "pgops.runbook.pg_backup, custom": functools.partial(ours, format="custom"),
    }
    print_title(f"As one task each, {repeats} turns")
    print_runs(in_turns(ground, ways, repeats))


def _theirs(login: Mapping[str, Any]) -> dict[str, Any]:
    """Return our connection options as theirs."""
    return {"name": login["login_db"], **{key: value for key, value in login.items() if key != "login_db"}}


PARTS: dict[str, Callable[[Ground, int], None]] = {
    "backups": backups,
    "drills": drills,
    "tasks": lambda ground, repeats: as_tasks(ground, max(1, repeats // 2)),
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.backup", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="how large the database is, its indexes included (default 1)")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="jobs of every program (default: at most 4)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of every comparison (default 5)")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="only this part; may be given several times")
    parser.add_argument("--pg-major", type=int, help="major version of the server (default: the newest installed)")
    wanted = parser.parse_args()
    bin_dir = servers.find(18).program("pg_dump").parent
    with Cluster(servers.find(wanted.pg_major), settings=SETTINGS) as cluster, tempfile.TemporaryDirectory() as folder:
        fill(cluster, wanted.gigabytes)
        ground = Ground(cluster, bin_dir, Path(folder), wanted.jobs)
        print(f"server {cluster.installation.major}, client programs of 18, {wanted.jobs} jobs")
        for name in wanted.part or PARTS:
            PARTS[name](ground, wanted.repeats)


if __name__ == "__main__":
    main()
