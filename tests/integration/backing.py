"""A small database with something of everything in it, and backups of it made in this process."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._backup import engine
from ansible_collections.pgops.runbook.plugins.module_utils._backup.options import read_options
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions
from tests.ground import servers
from tests.ground.cluster import Cluster
from tests.ground.databases import Database

NEWEST = 18
# Two schemas, foreign keys, a partitioned table, an identity column, a view and a materialized one, a trigger, a policy, a large object.
SMALL = """
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, born date);
CREATE TABLE shop.orders (
    id bigserial PRIMARY KEY, customer integer NOT NULL REFERENCES shop.customers, at timestamptz NOT NULL, total numeric(12, 2), note jsonb
);
CREATE INDEX orders_by_customer ON shop.orders (customer, at);
CREATE TABLE shop.events (at timestamptz NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2025 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2026-01-01 00:00:00+00');
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2027-01-01 00:00:00+00');
CREATE TABLE public.empty (id integer);
CREATE VIEW shop.totals AS SELECT customer, sum(total) AS total FROM shop.orders GROUP BY customer;
CREATE MATERIALIZED VIEW shop.totals_kept AS SELECT * FROM shop.totals;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := coalesce(NEW.at, now()); RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch();
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone ON shop.customers USING (true);
INSERT INTO shop.customers (name, born) SELECT 'customer ' || n, date '1970-01-01' + n FROM generate_series(1, 200) n;
INSERT INTO shop.orders (customer, at, total, note)
    SELECT 1 + n % 200, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 minute', n / 7.0, jsonb_build_object('n', n)
    FROM generate_series(1, 1000) n;
INSERT INTO shop.events SELECT timestamptz '2025-12-01 00:00:00+00' + n * interval '1 hour', 'event ' || n FROM generate_series(1, 1500) n;
REFRESH MATERIALIZED VIEW shop.totals_kept;
SELECT lo_from_bytea(0, 'a large object');
"""
ROWS = {"shop.customers": 200, "shop.orders": 1000, "shop.events_2025": 743, "shop.events_2026": 757, "public.empty": 0}


def fill(database: Database) -> None:
    """Fill an empty database with `SMALL`."""
    with database.connect() as connection:
        connection.execute(SMALL)


def bin_dir(major: int = NEWEST) -> str:
    """Return the folder of the client programs of the newest major, or of the next newer one to `major`."""
    return str(servers.find(major).program("pg_dump").parent)


def login(database: Database, **changes: Any) -> ConnectionOptions:
    """Return how the engine reaches `database` as the superuser."""
    return ConnectionOptions.from_params({**database.login(), **changes})


def back_up(database: Database, folder: Path, *, check_mode: bool = False, as_role: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Run the engine of pg_backup with the newest client and return its result; `as_role` changes the login."""
    given = {"folder": str(folder), "bin_dir": bin_dir(), "min_free": "1 MB", **options}
    return engine.back_up(login(database, **(as_role or {})), read_options(given), check_mode=check_mode)


def made(database: Database, folder: Path, **options: Any) -> Path:
    """Make a backup and return the folder in which it stands."""
    result = back_up(database, folder, **options)
    assert [one["action"] for one in result["backups"]] == ["made"], result
    return Path(result["backups"][0]["path"])


def manifest(backup: Path) -> dict[str, Any]:
    """Return the manifest of a backup as it stands there."""
    document: dict[str, Any] = json.loads((backup / "manifest.json").read_text(encoding="utf-8"))
    return document


def verifications(backup: Path) -> list[tuple[str, bool]]:
    """Return what was written down about a backup after it was made."""
    path = backup / "verified.json"
    entries = json.loads(path.read_text(encoding="utf-8"))["entries"] if path.exists() else []
    return [(entry["how"], entry["ok"]) for entry in entries]


def row_counts(backup: Path) -> dict[str, int]:
    """Return the rows of each table that a manifest says."""
    return {table["name"]: table["rows"] for table in manifest(backup)["tables"]}


def modes(folder: Path) -> set[str]:
    """Return the modes of all files and folders below `folder`, as `file 600` and `folder 700`."""
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    return {f"{'folder' if path.is_dir() else 'file'} {mode:o}" for path, mode in found.items()}


def recording_bin_dir(folder: Path, script: str = "", *, every: str = "", after: str = "", real: Path | None = None) -> Path:
    """Return a folder of client programs, of those in `real`, that note each call in `calls` there.

    `script` is what pg_dump's does first and `every` what each of them does; `after` is what each does when the program has ended.
    """
    own, programs = folder / "bin", real or bin_dir()
    own.mkdir(exist_ok=True)
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql", "vacuumdb"):
        first = script if name == "pg_dump" else ""
        last = [f'{programs}/{name} "$@"', "code=$?", after, "exit $code"] if after else []
        lines = ["#!/bin/sh", 'if [ "$1" != --version ]; then', f'echo {name} "$@" >> {own}/calls', every, first, *last, "fi"]
        (own / name).write_text("\n".join([*lines, f'exec {programs}/{name} "$@"', ""]), encoding="utf-8")
        (own / name).chmod(0o755)
    return own


def noting(folder: Path) -> str:
    """Return what a script does to leave in `folder` what others on the host may see of it: its environment and its arguments."""
    return f"{{ env; tr '\\0' '\\n' < /proc/$$/cmdline; }} > {folder}/\"${{0##*/}}\".$$"


def waiting_for(file: Path) -> str:
    """Return what a program of `recording_bin_dir` does first so that it goes on when there is a certain file."""
    return f"while [ ! -e {file} ]; do sleep 0.02; done"


def calls(own: Path) -> list[str]:
    """Return the calls that the programs of `recording_bin_dir` have noted."""
    noted = own / "calls"
    return noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []


@contextmanager
def filled(cluster: Cluster, name: str) -> Iterator[Database]:
    """A database with `SMALL` in it, for the tests of a module to share."""
    with Database.create(cluster, name) as database:
        fill(database)
        yield database


def left_over(folder: Path) -> list[str]:
    """Return what stands in a folder of backups beside backups and the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock" and not (path / "manifest.json").is_file())
