# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_dump: how it is called for a scope and a format, and what it leaves on the disk."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import (
    Compression,
    Encryption,
    decoders,
    encoders,
    member_compressors,
)
from ansible_collections.pgops.runbook.plugins.module_utils._client.line import Tap
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import ClientLogin
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import Written, run_all, write_stream
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope, Table
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, ProgramFailed, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

DIRECTORY = "database"
_NAMES = {"custom": "database.dump", "plain": "database.sql"}
_EVERY = 0.25  # seconds between two looks at whether the run goes on
# A member that is smaller is not worth a compressor; pg_restore takes both kinds beside each other.
_WORTH_COMPRESSING = 4096
_RAW = ".dat"
_TRAILER_LINES = "12"

# Every table is locked already, so that pg_dump only ever waits behind somebody who waits for the end of the backup: to no purpose.
LOCK_PATIENCE = 1.0

_ROW_SECURITY = "query would be affected by row-level security policy"
_SPELLED = """
SELECT pg_catalog.encode(pg_catalog.convert_to(g.given, pg_catalog.getdatabaseencoding()), 'hex') AS spelled
FROM pg_catalog.unnest(%s::text[]) WITH ORDINALITY AS g(given, number) ORDER BY g.number
"""
_QUEUED = ("could not obtain lock on relation", "Query was: LOCK TABLE")


class Blocked(DatabaseError):
    """Somebody waits to change the form of a table, and pg_dump behind them. A new snapshot lets them through first."""


# What pg_dump of this major and newer writes of a subscription, no older server takes.
_SUBSCRIPTIONS_OF = 16


@dataclass(frozen=True)
class Recipe:
    """How a database of a server of `server_major` is written: by which programs, into what, for whom."""

    client: Client
    format: str
    compression: Compression
    encryption: Encryption | None
    jobs: int
    server_major: int

    @property
    def with_subscriptions(self) -> bool:
        """Whether subscriptions are in the dump: those of which the server that was backed up could not make one again are not."""
        return not self.client.major >= _SUBSCRIPTIONS_OF > self.server_major

    @property
    def target(self) -> str:
        """The name of what pg_dump's output becomes, in the folder of the backup."""
        if self.format == "directory":
            return DIRECTORY
        return f"{_NAMES[self.format]}{self.compression.suffix}{self.encryption.suffix if self.encryption else ''}"

    @property
    def raw_first(self) -> bool:
        """Whether everything stands on the disk uncompressed before it is compressed."""
        return self.format == "directory" and self.compression.by == "program"


@dataclass
class Dumped:
    """What was written and hashed at once, by path, and what pg_dump said that is no error."""

    known: Dict[str, Written] = field(default_factory=dict)
    said: str = ""


def dump(
    recipe: Recipe,
    login: ClientLogin,
    arguments: Sequence[str],
    partial: Path,
    environment: Mapping[str, str],
    tick: Tick,
) -> Dumped:
    """Run pg_dump into the folder `partial`; for a directory, its members stay as pg_dump wrote them.

    `tick` is called several times a second and ends everything by raising. Raises DatabaseError, ProgramFailed, RunbookError.
    """
    command = [recipe.client.program("pg_dump"), *login.arguments, *login.role, *arguments]
    known = {**login.environment, **environment}
    try:
        if recipe.format == "directory":
            target = partial / DIRECTORY
            with Child([*command, f"--file={target}"], environment=known, secrets=login.secrets) as child:
                child.check(tick, _EVERY)
                return Dumped(said=child.said())
        commands = [command, *encoders(recipe.compression, recipe.encryption, recipe.jobs)]
        written = write_stream(
            commands,
            partial / recipe.target,
            environment=known,
            tick=tick,
            tap=_tap(recipe, len(commands)),
            secrets=login.secrets,
            every=_EVERY,
        )
        return Dumped({recipe.target: written})
    except ProgramFailed as error:
        raise _readable(error) from None


def dump_arguments(recipe: Recipe, scope: Scope, tables: Sequence[Table], snapshot: str, lock_seconds: float) -> List[str]:
    """Return pg_dump's arguments: the scope by exact names, the snapshot, and no waiting for locks without an end."""
    patience = math.ceil(1000 * min(lock_seconds, LOCK_PATIENCE))
    form = [f"--format={recipe.format}", *recipe.compression.dump_arguments(recipe.client)]
    if recipe.format == "plain":
        form = ["--format=plain"]
    if recipe.format == "directory":
        # Flushed with everything else, several files at once.
        form += [f"--jobs={recipe.jobs}", "--no-sync"]
    form += [] if recipe.with_subscriptions else ["--no-subscriptions"]
    kind = {"schema_only": ["--schema-only"], "data_only": ["--data-only"]}.get(scope.kind, [])
    named = [f"--schema={_exactly(schema)}" for schema in scope.schemas]
    if scope.tables:
        # With all that is below a named table by partitioning or inheritance, which pg_dump would leave out.
        meant = {*((name.schema, name.name) for name in scope.relation_names()), *((table.schema, table.relname) for table in tables)}
        named += [f"--table={_exactly(schema)}.{_exactly(name)}" for schema, name in sorted(meant)]
    strict = ["--strict-names"] if named else []
    return [*form, *kind, *named, *strict, f"--snapshot={snapshot}", f"--lock-wait-timeout={patience}"]


def spelled(database: Any, arguments: Sequence[str]) -> List[str]:
    """Return `arguments` in the bytes that `database` has for them: pg_dump takes them as being in its encoding. Raises DatabaseError."""
    if all(argument.isascii() for argument in arguments):
        return list(arguments)
    return [os.fsdecode(bytes.fromhex(row["spelled"])) for row in database.rows(_SPELLED, (list(arguments),))]


def discard(recipe: Recipe, partial: Path) -> None:
    """Remove what a pg_dump that failed has written. Raises OSError."""
    target = partial / recipe.target
    if target.is_dir():
        shutil.rmtree(str(target))


def compress_members(recipe: Recipe, partial: Path, environment: Mapping[str, str], tick: Tick) -> None:
    """Compress the members of a directory that pg_dump could not compress itself. Raises ProgramFailed."""
    members = [path for path in (partial / DIRECTORY).iterdir() if path.suffix == _RAW and path.name != "toc.dat"]
    sized = sorted(((path.stat().st_size, str(path)) for path in members), reverse=True)
    worth = [path for size, path in sized if size >= _WORTH_COMPRESSING]
    if worth:
        commands = member_compressors(recipe.compression, worth, recipe.jobs)
        run_all(commands, parallel=recipe.jobs, environment=environment, tick=tick, every=_EVERY)


def trailer_check(what: str) -> List[List[str]]:
    """Return the commands that fail unless what they read ends as a whole dump of SQL does; `what` is database or database cluster."""
    return [["tail", "-n", _TRAILER_LINES], ["grep", "-q", f"^-- PostgreSQL {what} dump complete$"]]


def _tap(recipe: Recipe, stages: int) -> Tap | None:
    """Return what reads a stream whole before it is encrypted: afterwards nobody here can."""
    if recipe.encryption is None:
        return None
    inner = f"{_NAMES[recipe.format]}{recipe.compression.suffix}"
    reading = [[recipe.client.program("pg_restore"), "--file=/dev/null"]] if recipe.format == "custom" else trailer_check("database")
    return stages - 2, [*decoders(inner), *reading]


def _exactly(name: str) -> str:
    """Return a pattern of pg_dump that fits `name` and nothing else: between double quotes no character means anything."""
    return '"' + name.replace('"', '""') + '"'


def _readable(error: ProgramFailed) -> RunbookError:
    said = error.said
    if error.program == "grep":
        return ProgramFailed(
            "pg_dump's output does not end as a whole one does", program="pg_dump", code=error.code, hint="Look at the server's log."
        )
    if _ROW_SECURITY in said:
        return DatabaseError(
            f"row-level security hides rows from the role that makes the backup: {_sentence(said, _ROW_SECURITY)}",
            object_name="pg_dump",
            sqlstate="42501",
            hint="Use a superuser or a role with BYPASSRLS; a backup of only the rows that a role may see is none.",
        )
    if any(part in said for part in _QUEUED):
        return Blocked(
            f"another session waits to change the form of a table that is being dumped: {said.splitlines()[0]}",
            object_name="pg_dump",
            sqlstate="55P03",
            hint="Take the backup when nobody changes the form of tables.",
        )
    return error


def _sentence(said: str, part: str) -> str:
    return next((line.partition("ERROR:")[2].strip() or line.strip() for line in said.splitlines() if part in line), said)
